"""What tells one input from another."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import resource
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from pingdata_async.exceptions import InputError
from pingdata_async.tables.readers.base import fingerprint_of
from pingdata_async.tables.readers.open import open_input
from pingdata_async.tables.rows import Fingerprint


class InterruptedRunError(Exception):
    pass


CSV = b"address\n" + b"1 Main St\n" * 30_000
JSONL = b'\xef\xbb\xbf{"address":"1 Main St"}\n' * 1 + b'{"address":"2 Oak Ave"}\n\n' * 9_000


@pytest.mark.parametrize(("name", "content"), [("in.csv", CSV), ("in.jsonl", JSONL)])
def test_an_input_is_hashed_while_it_is_read(tmp_path: Path, name: str, content: bytes) -> None:
    """Every byte once, whatever the format."""
    source = tmp_path / name
    source.write_bytes(content)
    with open_input(source) as reader:
        assert sum(len(batch.locations) for batch in reader) > 9_000
    found = reader.fingerprint()
    assert found == fingerprint_of(source)
    assert found == Fingerprint(
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        given=str(source),
        path=str(source),
        mtime_ns=source.stat().st_mtime_ns,
    )


def test_a_file_is_known_without_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By path, size and time, however the path is given; anything else must be hashed."""
    monkeypatch.chdir(tmp_path)
    source = Path("in.csv")
    source.write_bytes(CSV)
    found = fingerprint_of(source)
    assert (found.given, found.path) == ("in.csv", str(tmp_path / "in.csv"))
    assert found.is_same_file(tmp_path / "in.csv")
    assert not found.is_same_file("-")
    (tmp_path / "copy.csv").write_bytes(CSV)
    assert not found.is_same_file("copy.csv")
    assert fingerprint_of("copy.csv").sha256 == found.sha256
    os.utime(source, ns=(0, 0))
    assert not found.is_same_file(source)
    source.unlink()
    assert not found.is_same_file(source)


def test_a_pipe_has_a_hash_and_no_time(tmp_path: Path) -> None:
    """A second look at it shows other bytes, so it is never the same file."""
    pipe = tmp_path / "in.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(CSV,))
    writer.start()
    with open_input(pipe) as reader:
        assert sum(len(batch.locations) for batch in reader) == 30_000
    writer.join()
    found = reader.fingerprint()
    assert (found.sha256, found.mtime_ns) == (hashlib.sha256(CSV).hexdigest(), None)
    assert not found.is_same_file(pipe)


def test_a_pipe_without_a_writer_is_said_to_be_waited_for(tmp_path: Path) -> None:
    """Once; and then it is read, whole."""
    pipe = tmp_path / "in.csv"
    os.mkfifo(pipe)
    writers: list[threading.Thread] = []

    def on_wait() -> None:
        writers.append(threading.Thread(target=pipe.write_bytes, args=(CSV,)))
        writers[-1].start()

    found = fingerprint_of(pipe, on_wait=on_wait)
    assert found.sha256 == hashlib.sha256(CSV).hexdigest()
    (writer,) = writers
    writer.join()


def test_a_pipe_with_a_slow_writer_is_waited_for_in_silence(tmp_path: Path) -> None:
    """What is there when it is looked whether somebody writes is not lost."""
    pipe = tmp_path / "in.csv"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(pipe, os.O_WRONLY)
    os.close(reading)
    waits = iter([b"address\n", b"1 Main St\n", None])

    def keep_waiting() -> None:
        block = next(waits)
        os.close(writing) if block is None else os.write(writing, block)

    found = fingerprint_of(pipe, keep_waiting, on_wait=lambda: pytest.fail("somebody writes"))
    assert found.sha256 == hashlib.sha256(b"address\n1 Main St\n").hexdigest()


def test_a_pipe_beside_many_open_files(tmp_path: Path) -> None:
    """Its descriptor is above 1,023, which select() takes for a mistake."""
    pipe = tmp_path / "in.csv"
    os.mkfifo(pipe)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip("no process may have so many files open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    with contextlib.ExitStack() as files:
        files.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            files.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        writer = threading.Thread(target=pipe.write_bytes, args=(CSV,))
        writer.start()
        assert fingerprint_of(pipe).size_bytes == len(CSV)
        writer.join()


def test_standard_input_has_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where it is a file: whoever reads it again gives it otherwise."""
    (tmp_path / "in.csv").write_bytes(CSV)
    with (tmp_path / "in.csv").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        found = fingerprint_of("-")
    assert (found.path, found.mtime_ns, found.size_bytes) == (None, None, len(CSV))
    assert (found.given, found.is_same_file("-")) == ("-", False)


def test_a_name_that_is_no_text_can_be_written_down(tmp_path: Path) -> None:
    """The fingerprint is kept in files of UTF-8."""
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv"))
    source.write_bytes(CSV)
    found = fingerprint_of(source)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Fingerprint) == found
    assert found.is_same_file(source)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """As when it is opened to be enhanced."""
    with pytest.raises(InputError, match="cannot be read: No such file"):
        fingerprint_of(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="Is a directory"):
        fingerprint_of(tmp_path)


def test_hashing_can_be_ended(tmp_path: Path) -> None:
    """A cancelled run does not go on reading a large file."""

    def leave() -> None:
        raise InterruptedRunError

    (tmp_path / "in.csv").write_bytes(CSV)
    with pytest.raises(InterruptedRunError):
        fingerprint_of(tmp_path / "in.csv", leave)
