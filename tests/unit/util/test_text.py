"""Words that are shown to be pasted come out of a shell as they went in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pingdata_async.util.text import quoted, quoted_option, quoted_path

WORDS = [
    b"plain",
    b"",
    b"two words",
    b'it\'s "quoted" \\ $HOME `x` ; & | * ? ~ # !',
    "Straße 東京".encode(),
    b"latin \xff\xe9 1\xffa",
    b"line\nbreak\ttab\x01\x7f",
    "no-break\u00a0space \u202e".encode(),
]


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_a_shell_gives_back_what_was_quoted() -> None:
    """Bytes that are no UTF-8, line breaks and all that a shell has a meaning for; in one line."""
    line = " ".join(quoted(os.fsdecode(word)) for word in WORDS)
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == WORDS


def test_what_looks_like_an_option_is_none() -> None:
    """A path is absolute, and a value is put behind its option."""
    assert quoted_path("-x.run") == str(Path("-x.run").absolute())
    assert quoted_option("--columns", "-x") == "--columns=-x"
    assert quoted_option("--columns", "a b") == "--columns 'a b'"
