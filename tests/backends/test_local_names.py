"""The names of folders and files: readable, safe on every system, apart from each other."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.backends.local import folder_of, names_of, slug
from tests.support.build import a_task

EVENT_ID = "0190c7a4-9d5e-7c3b-8a43-3f2b8a1c9d10"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200)


@pytest.mark.parametrize("repo", ["acme/web", "OPS", "a/b/c", "web.site_2", "größe/Ünit", "会社/課題", "c++", "a~b"])
def test_an_ordinary_repository_is_its_own_folder(repo: str) -> None:
    assert folder_of(repo) == repo


@pytest.mark.parametrize(
    ("repo", "start"),
    [
        ("..", "__-"),
        ("../../etc", "__/__/etc-"),
        ("/etc/passwd", "etc/passwd-"),
        ("a//b", "a/b-"),
        ("a/./b/", "a/_/b-"),
        ("/", "_-"),
        ("~/x", "_/x-"),
        ("~root", "_root-"),
        ("-rf", "_rf-"),
        (".git/hooks", "_git/hooks-"),
        ("C:\\temp", "C__temp-"),
        ("con/nul.txt", "_con/_nul.txt-"),
        ("COM1", "_COM1-"),
        ("a.", "a_-"),
        ("a\u202eb", "a_b-"),
        ("\u0301a", "_\u0301a-"),
        ("https://git.example.org/a", "https_/git.example.org/a-"),
    ],
)
def test_a_name_that_no_folder_should_have_is_changed_and_kept_apart(repo: str, start: str) -> None:
    changed = folder_of(repo)
    assert changed[:-8] == start
    assert set(changed[-8:]) <= set("0123456789abcdef")


@given(TEXT)
def test_a_folder_name_never_leaves_the_root(repo: str) -> None:
    folder = folder_of(repo)
    assert not PurePosixPath(folder).is_absolute()
    for part in folder.split("/"):
        assert part
        assert part[0] not in ".~-"
        assert part[-1] != "."
        assert len(part.encode()) <= 255
        assert not set(part) & set('\\:*?"<>|\0 ')


@given(TEXT, TEXT)
def test_different_repositories_have_different_folders(one: str, other: str) -> None:
    assert (folder_of(one) == folder_of(other)) == (one == other)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Disk is nearly full", "disk-is-nearly-full"),
        ("  ¡Größe & Café!  ", "größe-café"),
        ("ディスクが一杯", "ディスクか\u3099一杯"),
        ("हिन्दी शीर्षक", "हिन्दी-शीर्षक"),
        ("../../etc/passwd", "etc-passwd"),
        ("!?", "task"),
        ("\u0301", "task"),
        ("word " * 30, "-".join(["word"] * 12)),
        ("x" * 255, "x" * 60),
        ("漢" * 255, "漢" * 32),
    ],
)
def test_a_title_becomes_a_name_that_people_can_find(title: str, expected: str) -> None:
    assert slug(title) == unicodedata.normalize("NFC", expected)


@given(TEXT)
def test_every_file_name_is_one_that_file_systems_take(title: str) -> None:
    task = a_task(title=title, event_id=EVENT_ID)
    for name in names_of(task):
        assert len(name.encode()) <= 143
        assert "/" not in name
        assert name[0] not in ".~-"
        assert name == name.lower()
