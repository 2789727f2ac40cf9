"""``local``: one Markdown file an issue, in a folder of this machine.

The file is there, whole and on the disk, or it is not there. From then on it belongs to the people who work with it:
it is never written again, and found by the ``event_id`` in its front matter wherever they move it in the folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from issue_core.backends import folder as files
from issue_core.backends.base import Backend, Finding, Issue, Target, Traits
from issue_core.backends.body import HEAD_BYTES, event_id_in, render
from issue_core.errors import BackendError, ConfigError, ProjectClosed, Refused, TryLater
from issue_core.task import Task

KEYS: Mapping[str, str] = {"path": "path"}

TRAITS = Traits(
    max_in_flight=4,  # Each waits for the disk; a few let it gather its flushes.
    settle=0.0,
    looks=1,
    look_interval=0.0,
    settles_with_worker=True,
    lists_whole_address=True,
)

FOLDER = "issues"
"""The folder beside the ledger, unless ``path`` names another."""

COMPONENT_BYTES = 200
"""The longest folder name that is made. File systems take 255 bytes (NAME_MAX, limits.h)."""

SLUG_CHARACTERS = 60
SLUG_BYTES = 96
"""The longest title part of a file name; with the whole event ID it stays within the 143 bytes of eCryptfs."""

SINCE_MARGIN = 3600.0
"""How many seconds before the time asked for a file's own time may be: a network disk has its own clock."""

PAGE = 500
"""After how many files of a look the lease is renewed."""

_ID_PARTS = (8, 13, 18, 23, 36)
_SHORT_ID = re.compile(r"(?=([0-9a-f]{8}))")
_PUNCTUATION = frozenset("._-+@=,~#")
# "Naming Files, Paths, and Namespaces", Microsoft Learn: device names, with any extension; no dot or space at the end.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[0-9¹²³])(?:\..*)?", re.IGNORECASE)


def open_backend(name: str, options: Mapping[str, Any], *, home: Path, request_timeout: float) -> Backend:
    """The backend called ``name``; ``home`` is the ledger's folder. ``request_timeout`` has no meaning here.

    Raises:
        ConfigError: the folder's path is no Unicode text, so the ledger could not tell of it.
    """
    root = (home / options.get("path", FOLDER)).absolute()
    try:
        str(root).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"Backend {name!r}: the path {os.fsencode(root)!r} is not UTF-8.", hint="set `path` to a folder that is"
        ) from None
    return Local(name, root, options.get("projects", {}), beside=None if "path" in options else home)


class Local:
    """A folder of issues; ``root`` is its absolute path, ``projects`` names folders otherwise than ``target_repo``.

    ``beside`` is the ledger's folder, where the issues lie in it.
    """

    def __init__(self, name: str, root: Path, projects: Mapping[str, str], *, beside: Path | None = None) -> None:
        self.name = name
        self.traits = TRAITS
        self._root = root
        self._projects = projects
        self._beside = beside
        self._anchored: set[Path] = set()

    def target(self, target_repo: str) -> Target:
        """The folder for this repository, whose name cannot lead out of the root."""
        return Target(self.name, str(self._root), folder_of(self._projects.get(target_repo, target_repo)))

    def account(self) -> str:
        """Files have no account that matters here."""
        return ""

    def create(self, task: Task, target: Target, *, timeout: float, before_send: Callable[[], None]) -> Issue:
        """Write the issue's file; an existing file of this task is left as it is, and is the answer.

        ``before_send`` is called when everything is on the disk but the file's name. A disk cannot be
        interrupted: when writing took longer than ``timeout`` seconds, the name is not given.

        Raises:
            Unreachable: the folder or its disk cannot be used. ProjectClosed: only the project's folder cannot.
            Refused: every name for the file is taken. TryLater: it took too long.
            OutcomeUnknown: the file may be there, or may not survive a power loss.
        """
        deadline = time.monotonic() + timeout
        root = Path(target.address)
        with ExitStack() as stack:
            folder = stack.enter_context(files.opened(root, target.project))
            name, ours = _vacancy(folder, task)
            if not ours:
                draft = stack.enter_context(files.drafted(folder, render(task).encode()))
                if time.monotonic() > deadline:
                    raise TryLater(f"Writing to {folder.path} took longer than {timeout:g} s; no issue was made.")
                before_send()
                name = _publish(folder, draft, name, task)
            with files.doubting(folder.path):
                self._settle(folder, root)
            return _issue(root, folder.path / name, target)

    def _settle(self, folder: files.Folder, root: Path) -> None:
        """Bring the file's name to the disk, and once, or when they are new, those of the folders above it."""
        files.sync_folder(folder.path)
        if folder.new or folder.path not in self._anchored:
            files.sync_above(folder.path, Path(os.path.realpath(root)))
            self._anchored.add(folder.path)

    def look(
        self, target: Target, event_ids: Collection[str], since: datetime, *, keep_lease: Callable[[], None]
    ) -> dict[str, list[Issue]]:
        """Every file under the whole folder that has one of the IDs in its front matter, the oldest first.

        The folder is read to its end and an absence is seen twice, since a file that somebody moves
        meanwhile can slip by once. What is found is on the disk before it is told.

        Raises:
            Unreachable: the folder cannot be read. ProjectClosed: part of it cannot.
        """
        root = Path(target.address)
        base = Path(os.path.realpath(root))
        wanted = frozenset(event_ids)
        not_before = since.timestamp() - SINCE_MARGIN
        files.require_readable(base)
        found = _found(base, wanted, not_before, keep_lease)
        if found.keys() != wanted:
            found = _found(base, wanted, not_before, keep_lease)
        with files.refusing(ProjectClosed, base):
            for place in {path.parent for paths in found.values() for path in paths}:
                files.sync_folder(place)
                files.sync_above(place, base)
        return {event_id: [_issue(root, path, target) for path in paths] for event_id, paths in found.items()}

    def marked(self, target: Target, since: datetime, *, keep_lease: Callable[[], None]) -> Iterator[tuple[str, Issue]]:
        """Every file under the whole folder, whatever its project, that changed since then and has an event ID.

        Raises:
            Unreachable: the folder cannot be read. ProjectClosed: part of it cannot.
        """
        root = Path(target.address)
        base = Path(os.path.realpath(root))
        if self._comes_with_the_ledger():
            return
        files.require_readable(base)
        for number, (event_id, _, path) in enumerate(
            _read(base, frozenset(), since.timestamp() - SINCE_MARGIN), start=1
        ):
            if event_id is not None:
                project = Path(path).parent.relative_to(base).as_posix()
                yield event_id, _issue(root, Path(path), replace(target, project=project))
            if number % PAGE == 0:
                keep_lease()

    def probe(self, target: Target) -> None:
        """Whether a file could be made at ``target``, as far as that can be seen without making one."""
        files.require(Path(target.address), target.project)

    def check(self) -> list[Finding]:
        """Whether the folder is there, or can be made, and can be written."""
        if self._comes_with_the_ledger():
            return [Finding(True, f"The folder {self._root} will be made with the first issue, beside the ledger.")]
        try:
            files.require(self._root, "")
        except BackendError as error:
            return [Finding(False, error.message, error.hint)]
        state = "can be written" if self._root.exists() else "will be made with the first issue"
        return [Finding(True, f"The folder {self._root} {state}.")]

    def _comes_with_the_ledger(self) -> bool:
        """Whether the folder's place is made together with the ledger, which is not there yet."""
        return self._beside is not None and not self._beside.exists()

    def close(self) -> None:
        """Nothing stays open."""


def folder_of(project: str) -> str:
    """The project's folder under the root, relative and with ``/``: ``acme/web`` stays ``acme/web``.

    What a folder cannot or should not be called is replaced, and a short hash then keeps it apart from others.
    """
    given = project.split("/")
    parts = [_component(part) for part in given if part] or ["_"]
    if parts != given:
        parts[-1] += f"-{hashlib.sha256(project.encode()).hexdigest()[:8]}"
    return "/".join(parts)


def _component(part: str) -> str:
    """A name that every common file system takes, that is not hidden, and that no shell takes for an option."""
    text = unicodedata.normalize("NFC", part)
    text = "".join(c if c in _PUNCTUATION or unicodedata.category(c)[0] in "LMN" else "_" for c in text)
    text = _cut(text, COMPONENT_BYTES)
    head = len(text) - len(text.lstrip(".~-"))
    text = "_" * head + text[head:]
    if unicodedata.category(text[0])[0] == "M" or _DEVICE.fullmatch(text):
        text = f"_{text}"
    return f"{text[:-1]}_" if text.endswith(".") else text


def _cut(text: str, size: int) -> str:
    """As much of the text as fits into ``size`` bytes of UTF-8."""
    return text.encode()[:size].decode(errors="ignore")


def slug(title: str) -> str:
    """The title's letters and digits in lower case with hyphens between, cut at a word; ``task`` when it has none."""
    text = ""
    for character in unicodedata.normalize("NFC", title.lower()):
        kind = unicodedata.category(character)[0]
        if kind in "LN" or (kind == "M" and text[-1:] not in ("", "-")):
            text += character
        elif text[-1:] not in ("", "-"):
            text += "-"
    text = text.rstrip("-")
    short = _cut(text[:SLUG_CHARACTERS], SLUG_BYTES)
    if text[len(short) :][:1] not in ("", "-"):
        short = short.rpartition("-")[0] or short
    return short.rstrip("-") or "task"


def names_of(task: Task) -> Iterator[str]:
    """The names that the task's file may have: the first for all but those who share title and start of the ID."""
    for length in _ID_PARTS:
        yield f"{slug(task.title)}-{task.event_id[:length]}.md"


def _vacancy(folder: files.Folder, task: Task) -> tuple[str, bool]:
    """The name for the task's file, and whether the file has it already."""
    free = []
    with files.refusing(ProjectClosed, folder.path):
        for name in names_of(task):
            head = files.head_at(folder, name, HEAD_BYTES)
            if head is None:
                free.append(name)
            elif event_id_in(head) == task.event_id:
                return name, True
    if free:
        return free[0], False
    raise Refused(
        f"Other files in {folder.path} have every name that the issue of task {task.event_id} could have.",
        hint="rename the files whose names hold this ID, or put the event_id line back into the one that is the issue",
    )


def _publish(folder: files.Folder, draft: str, name: str, task: Task) -> str:
    """Give the draft its name, or the next one when somebody took it this very moment; the name it has now."""
    for _ in _ID_PARTS:
        try:
            files.publish(folder, draft, name)
        except FileExistsError:
            name, ours = _vacancy(folder, task)
            if ours:
                return name
        else:
            return name
    raise TryLater(f"Somebody takes each name in {folder.path} that the issue of task {task.event_id} could have.")


def _found(
    base: Path, wanted: Collection[str], not_before: float, keep_lease: Callable[[], None]
) -> dict[str, list[Path]]:
    """The files with a wanted event ID, the oldest first."""
    hits: dict[str, list[tuple[float, str]]] = {}
    short = frozenset(event_id[:8] for event_id in wanted)
    for number, (event_id, time_, path) in enumerate(_read(base, short, not_before), start=1):
        if event_id is not None and event_id in wanted:
            hits.setdefault(event_id, []).append((time_, path))
        if number % PAGE == 0:
            keep_lease()
    return {event_id: [Path(path) for _, path in sorted(places)] for event_id, places in hits.items()}


def _read(base: Path, short: frozenset[str], not_before: float) -> Iterator[tuple[str | None, float, str]]:
    """Event ID, time and path of every file; the ID is None where there is none, or where it cannot be a wanted one.

    A file that changed in no way since ``not_before`` is read only if its name holds one of the ``short`` IDs.
    """
    with files.refusing(ProjectClosed, base):
        for entry in files.markdown_files(base):
            with suppress(FileNotFoundError):  # Somebody moved it.
                times = entry.stat(follow_symlinks=False)
                named = not short.isdisjoint(_SHORT_ID.findall(entry.name.lower()))
                old = max(times.st_ctime, times.st_mtime) < not_before
                event_id = event_id_in(files.head(entry.path, HEAD_BYTES)) if named or not old else None
                yield event_id, min(times.st_ctime, times.st_mtime), entry.path


def _issue(root: Path, path: Path, target: Target) -> Issue:
    """The issue that is the file at ``path``, which has no symbolic links in it."""
    inside = path.relative_to(os.path.realpath(root))
    # A person may give the file a name that is no UTF-8; the ledger takes only text.
    issue_id = os.fsencode(inside.as_posix()).decode(errors="backslashreplace")
    return Issue(id=issue_id, url=(root / inside).as_uri(), project=target.project, account="")
