"""A task is one Markdown file that people may edit, move and rename, and that never leaves its folder."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from issue_core.backends import folder as files
from issue_core.backends.base import Backend, Issue, Target
from issue_core.backends.body import render
from issue_core.backends.local import PAGE, TRAITS, Local, folder_of, names_of, open_backend
from issue_core.errors import ConfigError, CredentialsRefused, ProjectClosed, Refused, TryLater, Unreachable
from issue_core.task import Task
from tests.support.build import a_task

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
EVENT_ID = "0190c7a4-9d5e-7c3b-8a43-3f2b8a1c9d10"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200)


@pytest.fixture
def local(tmp_path: Path) -> Backend:
    return open_backend("local", {}, home=tmp_path, request_timeout=30)


@pytest.fixture
def as_plain_user(tmp_path: Path) -> Iterator[Path]:
    """A folder of a user whom permissions bind; root, whom they do not, becomes ``nobody`` meanwhile."""
    if os.geteuid() != 0:
        yield tmp_path
        return
    place = Path(tempfile.mkdtemp())
    os.chown(place, 65534, 65534)
    os.seteuid(65534)
    try:
        yield place
    finally:
        os.seteuid(0)
        shutil.rmtree(place)


def nothing() -> None:
    """What the engine has to say right before an issue is made, when all is well."""


def create(backend: Backend, task: Task, before_send: Callable[[], object] = nothing) -> Issue:
    def announce() -> None:
        before_send()

    return backend.create(task, backend.target(task.target_repo), timeout=30, before_send=announce)


def look(backend: Backend, *event_ids: str, since: datetime = LONG_AGO) -> dict[str, list[str]]:
    """The IDs of the issues found, by event ID."""
    found = backend.look(backend.target("acme/web"), event_ids, since, keep_lease=nothing)
    return {event_id: [issue.id for issue in issues] for event_id, issues in found.items()}


def tree(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


# What is made


def test_an_issue_is_a_file_named_for_people_in_the_folder_of_its_project(tmp_path: Path, local: Backend) -> None:
    task = a_task(event_id=EVENT_ID, title="Disk [/var] is nearly FULL!", target_repo="acme/web")
    issue = create(local, task)
    path = tmp_path / "issues/acme/web/disk-var-is-nearly-full-0190c7a4.md"
    assert issue == Issue("acme/web/disk-var-is-nearly-full-0190c7a4.md", path.as_uri(), "acme/web", "")
    assert path.read_bytes() == render(task).encode()
    assert tree(tmp_path) == [
        "issues",
        "issues/acme",
        "issues/acme/web",
        "issues/acme/web/disk-var-is-nearly-full-0190c7a4.md",
    ]


def test_the_engine_is_asked_once_when_all_but_the_name_is_there(tmp_path: Path, local: Backend) -> None:
    seen: list[list[str]] = []
    task = a_task()
    create(local, task, lambda: seen.append([path.read_text() for path in tmp_path.rglob(".issue-core-*")]))
    assert seen == [[render(task)]]


def test_what_the_engine_raises_passes_and_nothing_is_left(tmp_path: Path, local: Backend) -> None:
    lease_lost = OSError("the lease is gone")

    def refuse() -> None:
        assert not list(tmp_path.rglob("*.md"))
        raise lease_lost

    with pytest.raises(OSError, match="the lease is gone") as raised:
        create(local, a_task(), refuse)
    assert raised.value is lease_lost
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_an_issue_that_took_too_long_to_write_is_not_made(tmp_path: Path, local: Backend) -> None:
    task = a_task()
    with pytest.raises(TryLater, match="took longer than"):
        local.create(task, local.target(task.target_repo), timeout=-1, before_send=nothing)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


# Whose file it is


def test_a_second_create_gives_the_file_that_is_there_whatever_a_person_made_of_it(
    tmp_path: Path, local: Backend
) -> None:
    task = a_task()
    first = create(local, task)
    path = tmp_path / "issues" / first.id
    edited = path.read_bytes().replace(b"title: ", b"status: done\ntitle: ").replace(b"\n", b"\r\n")
    path.write_bytes(edited)
    before = path.stat()
    asked: list[None] = []
    assert create(local, task, lambda: asked.append(None)) == first
    assert asked == []
    assert path.read_bytes() == edited
    assert path.stat() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_tasks_that_share_title_and_start_of_the_id_get_a_file_each(tmp_path: Path, local: Backend) -> None:
    tasks = [a_task(event_id=f"{EVENT_ID[:-2]}{n:02d}", title="Same") for n in range(2)]
    tasks.append(a_task(event_id=f"{EVENT_ID[:9]}ffff{EVENT_ID[13:]}", title="Same"))
    issues = [create(local, task) for task in tasks]
    assert [PurePosixPath(issue.id).name for issue in issues] == [
        "same-0190c7a4.md",
        "same-0190c7a4-9d5e.md",
        "same-0190c7a4-ffff.md",
    ]
    assert [create(local, task) for task in tasks] == issues
    assert [(tmp_path / "issues" / i.id).read_text() for i in issues] == [render(task) for task in tasks]


def test_a_task_keeps_its_file_when_the_one_that_had_the_shorter_name_is_gone(tmp_path: Path, local: Backend) -> None:
    other, task = (a_task(event_id=f"{EVENT_ID[:-2]}{n:02d}", title="Same") for n in range(2))
    first, second = create(local, other), create(local, task)
    (tmp_path / "issues" / first.id).unlink()
    assert create(local, task) == second


def test_files_of_others_are_never_replaced_even_when_they_have_every_name(tmp_path: Path, local: Backend) -> None:
    task = a_task()
    folder = tmp_path / "issues" / task.target_repo
    folder.mkdir(parents=True)
    for name in names_of(task):
        (folder / name).write_text("mine")
    with pytest.raises(Refused, match=task.event_id):
        create(local, task)
    assert {path.read_text() for path in folder.iterdir()} == {"mine"}


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_name_that_is_taken_at_the_last_moment_is_left_to_its_file(
    tmp_path: Path, local: Backend, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", _no_hard_links)
    task = a_task(event_id=EVENT_ID, title="Same")
    folder = tmp_path / "issues" / task.target_repo
    issue = create(local, task, lambda: (folder / "same-0190c7a4.md").write_text("mine"))
    assert issue.id == "acme/web/same-0190c7a4-9d5e.md"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "same-0190c7a4.md": "mine",
        "same-0190c7a4-9d5e.md": render(task),
    }


def test_a_file_of_this_task_that_is_there_at_the_last_moment_is_the_issue(tmp_path: Path, local: Backend) -> None:
    task = a_task(event_id=EVENT_ID, title="Same")
    path = tmp_path / "issues/acme/web/same-0190c7a4.md"
    assert create(local, task, lambda: path.write_text(render(task))).id == "acme/web/same-0190c7a4.md"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def _no_hard_links(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_what_has_the_name_but_is_no_file_is_left_alone(tmp_path: Path, local: Backend) -> None:
    task = a_task(event_id=EVENT_ID, title="Same")
    folder = tmp_path / "issues/acme/web"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "same-0190c7a4.md")
    (folder / "same-0190c7a4-9d5e.md").mkdir()
    (folder / "same-0190c7a4-9d5e-7c3b.md").symlink_to(tmp_path / "elsewhere.md")
    assert create(local, task).id == "acme/web/same-0190c7a4-9d5e-7c3b-8a43.md"
    assert not (tmp_path / "elsewhere.md").exists()


@settings(max_examples=60, deadline=None)
@given(repo=TEXT, title=TEXT)
def test_whatever_a_task_is_called_its_file_is_in_the_folder_and_found_again(repo: str, title: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        backend = open_backend("local", {}, home=Path(home), request_timeout=30)
        task = a_task(target_repo=repo, title=title)
        issue = create(backend, task)
        assert (Path(home) / "issues" / issue.id).resolve().read_bytes() == render(task).encode()
        assert [path.name for path in Path(home).iterdir()] == ["issues"]
        assert look(backend, task.event_id) == {task.event_id: [issue.id]}


# Where it goes


def test_a_target_is_decided_without_touching_the_disk(tmp_path: Path) -> None:
    backend = open_backend("notes", {"projects": {"web": "acme/../web"}}, home=tmp_path / "none", request_timeout=30)
    assert backend.target("acme/api") == Target("notes", str(tmp_path / "none/issues"), "acme/api")
    assert backend.target("web").project == folder_of("acme/../web")
    assert tree(tmp_path) == []


def test_the_folder_can_be_another_one(tmp_path: Path) -> None:
    backend = open_backend("notes", {"path": tmp_path / "todo"}, home=tmp_path / "none", request_timeout=30)
    assert create(backend, a_task()).url.startswith((tmp_path / "todo/acme/web").as_uri())


def test_a_folder_whose_path_is_no_text_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not UTF-8"):
        open_backend("notes", {"path": tmp_path / os.fsdecode(b"\xff")}, home=tmp_path, request_timeout=30)


def test_an_attempt_is_looked_for_where_it_went_whatever_the_configuration_says_now(tmp_path: Path) -> None:
    task = a_task()
    old = Local("local", tmp_path / "old", {})
    issue = create(old, task)
    new = Local("local", tmp_path / "new", {})
    assert new.look(old.target(task.target_repo), [task.event_id], LONG_AGO, keep_lease=nothing) == {
        task.event_id: [issue]
    }
    assert look(new, task.event_id) == {}


def test_a_symbolic_link_out_of_the_folder_closes_the_project(tmp_path: Path, local: Backend) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "issues").mkdir()
    (tmp_path / "issues/acme").symlink_to(tmp_path / "outside")
    with pytest.raises(ProjectClosed, match="symbolic link"):
        create(local, a_task(target_repo="acme/web"))
    with pytest.raises(ProjectClosed, match="symbolic link"):
        local.probe(local.target("acme/web"))
    assert tree(tmp_path / "outside") == []


def test_a_symbolic_link_that_is_swapped_in_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "root").mkdir()
    found = files.located(tmp_path / "root", "acme/web")
    (tmp_path / "root/acme").symlink_to(tmp_path / "outside")
    monkeypatch.setattr(os.path, "realpath", {tmp_path / "root": found[0], found[0] / "acme/web": found[1]}.__getitem__)
    with pytest.raises(ProjectClosed), files.opened(tmp_path / "root", "acme/web"):
        pytest.fail("entered")
    assert tree(tmp_path / "outside") == []


def test_a_symbolic_link_within_the_folder_is_an_alias(tmp_path: Path, local: Backend) -> None:
    (tmp_path / "issues/real").mkdir(parents=True)
    (tmp_path / "issues/acme").symlink_to("real")
    task = a_task(target_repo="acme/web", title="Same", event_id=EVENT_ID)
    assert create(local, task).id == "real/web/same-0190c7a4.md"
    assert look(local, EVENT_ID) == {EVENT_ID: ["real/web/same-0190c7a4.md"]}


def test_the_folder_itself_may_be_a_symbolic_link(tmp_path: Path, local: Backend) -> None:
    (tmp_path / "issues").symlink_to(tmp_path / "real")
    issue = create(local, a_task())
    assert (tmp_path / "real" / issue.id).exists()
    assert issue.url.startswith((tmp_path / "issues").as_uri())


# What stands in the way


def obstructed(backend: Backend, kind: type[Exception]) -> str:
    """Create and probe both refuse for this reason, the engine is not asked, and nothing changes."""
    task = a_task(target_repo="acme/web")
    target = backend.target(task.target_repo)
    with pytest.raises(kind) as probed:
        backend.probe(target)
    with pytest.raises(kind) as raised:
        create(backend, task, lambda: pytest.fail("about to publish"))
    assert str(probed.value) == str(raised.value)
    return str(raised.value)


def test_a_folder_without_even_a_parent_is_unreachable(tmp_path: Path) -> None:
    backend = Local("local", tmp_path / "usb/issues", {})
    assert str(tmp_path / "usb") in obstructed(backend, Unreachable)
    with pytest.raises(Unreachable, match="usb"):
        look(backend, EVENT_ID)
    (finding,) = backend.check()
    assert not finding.ok
    assert finding.hint is not None
    assert "mount" in finding.hint


def test_a_file_in_the_place_of_the_folder_is_unreachable(tmp_path: Path, local: Backend) -> None:
    (tmp_path / "issues").write_text("mine")
    assert "Not a directory" in obstructed(local, Unreachable)
    with pytest.raises(Unreachable):
        look(local, EVENT_ID)


def test_a_file_in_the_place_of_the_projects_folder_closes_the_project(tmp_path: Path, local: Backend) -> None:
    (tmp_path / "issues").mkdir()
    (tmp_path / "issues/acme").write_text("mine")
    assert str(tmp_path / "issues/acme") in obstructed(local, ProjectClosed)
    assert create(local, a_task(target_repo="other")).project == "other"


@pytest.mark.parametrize(
    ("closed", "kind"), [(".", CredentialsRefused), ("issues", CredentialsRefused), ("issues/acme", ProjectClosed)]
)
def test_no_right_to_write_is_told_from_where_it_is_missing(
    as_plain_user: Path, closed: str, kind: type[Exception]
) -> None:
    place = as_plain_user / closed
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o500)
    try:
        message = obstructed(open_backend("local", {}, home=as_plain_user, request_timeout=30), kind)
    finally:
        place.chmod(0o700)
    assert str(place) in message
    assert "Permission denied" in message


@pytest.mark.parametrize("unreadable", ["issues/private", "issues/private/note.md"])
def test_what_cannot_be_read_is_not_taken_for_absent(as_plain_user: Path, unreadable: str) -> None:
    backend = open_backend("local", {}, home=as_plain_user, request_timeout=30)
    (as_plain_user / "issues/private").mkdir(parents=True)
    (as_plain_user / "issues/private/note.md").write_text("mine")
    place = as_plain_user / unreadable
    place.chmod(0)
    try:
        with pytest.raises(ProjectClosed, match="private"):
            look(backend, EVENT_ID)
    finally:
        place.chmod(0o700)


def test_a_folder_that_cannot_be_reached_is_not_taken_for_one_that_was_never_made(as_plain_user: Path) -> None:
    home = as_plain_user / "home"
    backend = open_backend("local", {}, home=home, request_timeout=30)
    home.mkdir()
    issue = create(backend, a_task(event_id=EVENT_ID))
    home.chmod(0)
    try:
        with pytest.raises(CredentialsRefused, match="Permission denied"):
            look(backend, EVENT_ID)
        obstructed(backend, CredentialsRefused)
    finally:
        home.chmod(0o700)
    assert look(backend, EVENT_ID) == {EVENT_ID: [issue.id]}


def test_probe_and_check_make_nothing(tmp_path: Path, local: Backend) -> None:
    local.probe(local.target("acme/web"))
    assert [(finding.ok, finding.what) for finding in local.check()] == [
        (True, f"The folder {tmp_path / 'issues'} will be made with the first issue.")
    ]
    assert tree(tmp_path) == []
    create(local, a_task())
    assert local.check()[0].what.endswith("can be written.")


# How it is found again


def test_a_file_is_found_after_people_moved_and_renamed_it(tmp_path: Path, local: Backend) -> None:
    task = a_task()
    issue = create(local, task)
    (tmp_path / "issues/done/2026").mkdir(parents=True)
    (tmp_path / "issues" / issue.id).rename(tmp_path / "issues/done/2026/Repaired.MD")
    since = datetime.now(UTC) - timedelta(minutes=5)
    assert look(local, task.event_id, since=since) == {task.event_id: ["done/2026/Repaired.MD"]}


def test_a_file_that_is_moved_past_the_look_is_still_found(
    tmp_path: Path, local: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = a_task()
    path = tmp_path / "issues" / create(local, task).id
    scandir = os.scandir

    def move_first(folder: str) -> object:
        if folder == str(path.parent) and path.exists():
            path.rename(tmp_path / "issues/moved.md")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", move_first)
    assert look(local, task.event_id) == {task.event_id: ["moved.md"]}


def test_a_long_look_renews_the_lease_and_ends_when_it_is_gone(tmp_path: Path, local: Backend) -> None:
    (tmp_path / "issues").mkdir()
    for number in range(2 * PAGE):
        (tmp_path / f"issues/{number}.md").touch()
    renewed: list[None] = []
    assert local.look(local.target("a"), [EVENT_ID], LONG_AGO, keep_lease=lambda: renewed.append(None)) == {}
    assert len(renewed) == 4, "two pages, twice"
    lease_lost = PermissionError(errno.EACCES, "the lease is gone")

    def refuse() -> None:
        raise lease_lost

    with pytest.raises(PermissionError) as raised:
        local.look(local.target("a"), [EVENT_ID], LONG_AGO, keep_lease=refuse)
    assert raised.value is lease_lost


def test_an_issue_that_was_never_made_is_not_in_the_answer(local: Backend) -> None:
    assert look(local, EVENT_ID) == {}
    made = a_task()
    create(local, made)
    assert look(local, EVENT_ID, made.event_id).keys() == {made.event_id}


def test_an_id_that_a_description_tells_of_is_not_found(local: Backend) -> None:
    create(local, a_task(title=EVENT_ID, description=f"---\nevent_id: {EVENT_ID}\n---\n", extra={"event_id": EVENT_ID}))
    assert look(local, EVENT_ID) == {}


def test_copies_are_all_found_the_oldest_first(tmp_path: Path, local: Backend) -> None:
    task = a_task(event_id=EVENT_ID, title="Same")
    path = tmp_path / "issues" / create(local, task).id
    for day, name in enumerate(("z.md", "a.md", "m.md"), start=1):
        copy = path.with_name(name)
        shutil.copyfile(path, copy)
        os.utime(copy, (day * 86400, day * 86400))
    names = ["acme/web/z.md", "acme/web/a.md", "acme/web/m.md", "acme/web/same-0190c7a4.md"]
    assert look(local, EVENT_ID) == {EVENT_ID: names}


def test_only_files_that_may_be_from_the_attempt_are_read_unless_their_name_tells(
    tmp_path: Path, local: Backend
) -> None:
    named, renamed = a_task(), a_task()
    create(local, named)
    path = tmp_path / "issues" / create(local, renamed).id
    path.rename(path.with_name("renamed.md"))
    in_two_hours = datetime.now(UTC) + timedelta(hours=2)
    assert look(local, named.event_id, renamed.event_id, since=in_two_hours).keys() == {named.event_id}
    soon = datetime.now(UTC) + timedelta(minutes=30)
    assert look(local, named.event_id, renamed.event_id, since=soon).keys() == {named.event_id, renamed.event_id}


def test_symbolic_links_are_not_followed_to_what_lies_outside(tmp_path: Path, local: Backend) -> None:
    task = a_task()
    other = Local("other", tmp_path / "outside", {})
    issue = create(other, task)
    (tmp_path / "issues").mkdir()
    (tmp_path / "issues/linked").symlink_to(tmp_path / "outside")
    (tmp_path / "issues/linked.md").symlink_to(tmp_path / "outside" / issue.id)
    (tmp_path / "issues/loop").symlink_to(".")
    assert look(local, task.event_id) == {}


def test_a_name_that_is_no_text_still_makes_an_issue_that_the_ledger_can_keep(tmp_path: Path, local: Backend) -> None:
    task = a_task()
    path = tmp_path / "issues" / create(local, task).id
    try:
        path.rename(path.parent / os.fsdecode(b"caf\xe9.md"))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (issue,) = local.look(local.target("acme/web"), [task.event_id], LONG_AGO, keep_lease=nothing)[task.event_id]
    assert issue.id == "acme/web/caf\\xe9.md"
    assert issue.url.endswith("/caf%E9.md")


def test_how_it_wants_to_be_used(local: Backend) -> None:
    assert local.traits == TRAITS
    assert (TRAITS.settle, TRAITS.looks, TRAITS.look_interval, TRAITS.settles_with_worker) == (0, 1, 0, True)
    assert local.account() == ""
    local.close()
