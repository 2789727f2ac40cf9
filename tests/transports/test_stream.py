from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from issue_core.errors import IssueCoreError, UsageError
from issue_core.task import Document, Place
from issue_core.transports.stream import MAX_DOCUMENTS, Batch, Input, batches, open_inputs

LIMIT = 1 << 20
LINE = b'{"a":"%s"}\n' % (b"x" * 400)


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end; each may be closed before."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with suppress(OSError):
                os.close(end)


@contextmanager
def standard_input_from(descriptor: int | None) -> Iterator[None]:
    """Descriptor 0 is this one, or closed, for as long as the block lasts."""
    kept = os.dup(0)
    try:
        if descriptor is None:
            os.close(0)
        else:
            os.dup2(descriptor, 0)
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def read(path: Path, *, max_document: int = LIMIT) -> list[Batch]:
    with open_inputs([str(path)])[0].open() as descriptor:
        return list(batches(descriptor, file=path.name, max_document=max_document))


def file_of(folder: Path, data: bytes) -> Path:
    path = folder / "tasks.ndjson"
    path.write_bytes(data)
    return path


# ---- batches


def test_a_small_file_is_one_batch(tmp_path: Path) -> None:
    path = file_of(tmp_path, b'{"a":1}\n\n{"b":2}')

    assert read(path) == [
        Batch(
            [Document(b'{"a":1}', Place("tasks.ndjson", 1)), Document(b'{"b":2}', Place("tasks.ndjson", 3))], 16, False
        )
    ]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"[]"])
def test_nothing_to_read_is_no_batch(tmp_path: Path, data: bytes) -> None:
    assert read(file_of(tmp_path, data)) == []


def test_what_the_end_leaves_is_in_the_last_batch(tmp_path: Path) -> None:
    (batch,) = read(file_of(tmp_path, b'{"a":1}\n{"b":'))

    assert [document.raw for document in batch.documents] == [b'{"a":1}', b'{"b":']


def test_a_batch_has_at_most_ten_thousand_documents(tmp_path: Path) -> None:
    sizes = [len(batch.documents) for batch in read(file_of(tmp_path, b"{}\n" * 25_000))]

    assert sizes == [MAX_DOCUMENTS, MAX_DOCUMENTS, 5_000]


def test_a_batch_is_of_about_four_mebibytes(tmp_path: Path) -> None:
    long = b'{"a":"%s"}\n' % (b"x" * 100_000)
    found = read(file_of(tmp_path, long * 100))
    sizes = [sum(len(document.raw) for document in batch.documents) for batch in found]

    assert sum(len(batch.documents) for batch in found) == 100
    assert len(found) == 3
    assert max(sizes) < 6 * 1024 * 1024


def test_the_bytes_read_rise_to_the_size_of_the_file(tmp_path: Path) -> None:
    path = file_of(tmp_path, LINE * 30_000)
    steps = [batch.bytes_read for batch in read(path)]

    assert steps == sorted(steps)
    assert steps[-1] == path.stat().st_size
    assert len(steps) > 2


def test_the_documents_of_all_batches_are_those_of_the_file_in_its_order(tmp_path: Path) -> None:
    found = read(file_of(tmp_path, b"".join(b'{"n":%d}\n' % n for n in range(30_000))))
    documents = [document for batch in found for document in batch.documents]

    assert [document.raw for document in documents] == [b'{"n":%d}' % n for n in range(30_000)]
    assert [document.place.line for document in documents] == list(range(1, 30_001))


def test_an_open_pipe_gives_out_a_document_at_once() -> None:
    with pipe() as (reader, writer):
        stream = batches(reader, file="-", max_document=LIMIT)
        os.write(writer, b'{"a":1}\n')
        first = next(stream)
        os.write(writer, b'{"b":2}')
        second = next(stream)
        os.write(writer, b'{"c":')
        os.close(writer)

        assert first == Batch([Document(b'{"a":1}', Place("-", 1))], 8, False)
        assert second == Batch([Document(b'{"b":2}', Place("-", 2))], 15, False)
        assert [document.raw for batch in stream for document in batch.documents] == [b'{"c":']


@pytest.mark.parametrize("more", [0, 1])
def test_a_batch_says_that_more_is_at_hand_only_when_a_document_of_the_next_was_read(more: int) -> None:
    with pipe() as (reader, writer):
        stream = batches(reader, file="-", max_document=LIMIT)
        os.write(writer, b"{}\n" * (MAX_DOCUMENTS + more) + b'\n{"a":')
        first = next(stream)

        assert (len(first.documents), first.more_at_hand) == (MAX_DOCUMENTS, more == 1)
        if more:
            second = next(stream)
            assert (len(second.documents), second.more_at_hand) == (1, False)


def test_every_batch_of_a_file_but_the_last_has_more_at_hand(tmp_path: Path) -> None:
    long = b'{"a":"%s"}\n' % (b"x" * 100_000)
    found = read(file_of(tmp_path, long * 100 + b"{}\n" * 20_000))

    assert [batch.more_at_hand for batch in found] == [True] * (len(found) - 1) + [False]
    assert sum(len(batch.documents) for batch in found) == 20_100


def test_a_full_pipe_is_read_in_large_batches() -> None:
    def write(writer: int) -> None:
        with open(writer, "wb", buffering=0) as pipe_in:
            for _ in range(20):
                pipe_in.write(LINE * 1000)

    with pipe() as (reader, writer):
        thread = threading.Thread(target=write, args=(writer,))
        thread.start()
        found = [batch.documents for batch in batches(reader, file="-", max_document=LIMIT)]
        thread.join()

    assert sum(map(len, found)) == 20_000
    assert max(map(len, found)) > 1000


def test_a_pipe_that_never_pauses_does_not_keep_a_document_waiting() -> None:
    stop = threading.Event()

    def trickle(writer: int) -> None:
        while not stop.wait(0.001):
            os.write(writer, b"{}\n")
        os.close(writer)

    with pipe() as (reader, writer):
        thread = threading.Thread(target=trickle, args=(writer,))
        thread.start()
        stream = batches(reader, file="-", max_document=LIMIT)
        first = next(stream)  # would not come before there are ten thousand
        stop.set()
        thread.join()

    assert 0 < len(first.documents) < MAX_DOCUMENTS


def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    with pipe() as (reader, writer):
        os.set_blocking(reader, False)
        timer = threading.Timer(0.05, os.write, (writer, b"{}\n"))
        timer.start()
        found = [next(batches(reader, file="-", max_document=LIMIT))]
        timer.join()

    assert [document.raw for batch in found for document in batch.documents] == [b"{}"]


def test_what_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(IssueCoreError, match=r"^inbox cannot be read any further: Is a directory$") as caught:
            list(batches(descriptor, file="inbox", max_document=LIMIT))
    finally:
        os.close(descriptor)

    assert caught.value.exit_code == 1
    assert "counts as a duplicate" in str(caught.value.hint)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a terminal that went away is the end of the input")
def test_what_was_read_before_an_error_is_given_out_first() -> None:
    reader, terminal = os.openpty()
    os.write(terminal, b'{"a":1}\n{"b":')
    os.close(terminal)
    stream = batches(reader, file="-", max_document=LIMIT)
    try:
        first = next(stream)
        with pytest.raises(IssueCoreError, match=r"^standard input cannot be read any further: Input/output error$"):
            next(stream)
    finally:
        os.close(reader)

    assert [document.raw for document in first.documents] == [b'{"a":1}']


# ---- inputs


def test_inputs_are_in_the_order_of_their_names_with_their_sizes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"")
    with pipe() as (reader, _), standard_input_from(reader):
        inputs = open_inputs([str(tmp_path / "b"), "-", str(tmp_path / "a")])

    assert inputs == [Input(str(tmp_path / "b"), None), Input("-", None), Input(str(tmp_path / "a"), 5)]


def test_standard_input_that_is_a_file_has_a_size(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"{}\n")
    with path.open("rb") as file, standard_input_from(file.fileno()):
        (source,) = open_inputs(["-"])
        with source.open() as descriptor:
            found = list(batches(descriptor, file="-", max_document=LIMIT))

    assert source.size == 3
    assert [document.place for batch in found for document in batch.documents] == [Place("-", 1)]


def test_standard_input_stays_open_and_a_file_does_not(tmp_path: Path) -> None:
    with pipe() as (reader, _), standard_input_from(reader):
        with open_inputs(["-"])[0].open() as descriptor:
            pass
        os.fstat(descriptor)
    with open_inputs([str(file_of(tmp_path, b"{}"))])[0].open() as descriptor:
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_missing_file_is_found_before_anything_is_read(tmp_path: Path) -> None:
    present = file_of(tmp_path, b"{}")

    with pytest.raises(UsageError, match=r"^there is no file .*/tasks\.json$") as caught:
        open_inputs([str(present), str(tmp_path / "tasks.json")])

    assert caught.value.exit_code == 2
    assert caught.value.hint == "Nothing was read. Check the name and run it again."


def test_a_folder_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r" is a folder, not a file$"):
        open_inputs([str(tmp_path)])


def test_a_folder_as_standard_input_is_no_input(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with (
            standard_input_from(descriptor),
            pytest.raises(UsageError, match=r"^standard input is a folder, not a file$"),
        ):
            open_inputs(["-"])
    finally:
        os.close(descriptor)


def test_closed_standard_input_is_no_input() -> None:
    with standard_input_from(None), pytest.raises(UsageError, match=r"^standard input is closed$"):
        open_inputs(["-"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_no_input(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"{}")
    path.chmod(0)

    with pytest.raises(UsageError, match=r"tasks\.ndjson cannot be read: Permission denied$"):
        open_inputs([str(path)])


def test_a_path_through_a_file_is_no_input(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"{}")

    with pytest.raises(UsageError, match=r"tasks\.ndjson/x cannot be read: Not a directory$"):
        open_inputs([f"{path}/x"])


def test_a_link_that_leads_to_itself_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    with pytest.raises(UsageError, match=r"loop cannot be read: "):
        open_inputs([str(tmp_path / "loop")])


def test_a_named_pipe_is_an_input_and_is_not_touched_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    (source,) = open_inputs([str(path)])
    writer = threading.Thread(target=path.write_bytes, args=(b"{}\n",))
    writer.start()
    with source.open() as descriptor:
        found = list(batches(descriptor, file=source.name, max_document=LIMIT))
    writer.join()

    assert source.size is None
    assert [document.raw for batch in found for document in batch.documents] == [b"{}"]


def test_a_file_that_is_gone_when_its_turn_comes_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"{}")
    (source,) = open_inputs([str(path)])
    path.unlink()

    with (
        pytest.raises(IssueCoreError, match=r"tasks\.ndjson cannot be opened: No such file or directory$"),
        source.open(),
    ):
        pass
