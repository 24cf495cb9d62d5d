"""Secrets that never show themselves, and texts of others without them.

Texts of servers, proxies and libraries may hold our token or a proxy's password: error pages quote
the request, redirects lead to it, exceptions name the proxy's url. `masked()` alone takes them out,
and is called wherever such a text becomes one of ours: when an error is made, when a text is put
on one line, shortened or logged, when an answer is decoded.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import logging
import re
import threading
import weakref
from itertools import groupby
from typing import Final

MASK: Final = "***"

LEAST_CHARACTERS: Final = 6
"""A shorter text is no secret: taking it out would make texts unreadable, and give it away."""

_USER_INFO = re.compile(r"(?<=://)[^/\s'\"<>]+@")

_lock = threading.Lock()
_known: list[weakref.ref[Secret]] = []
_forms: _Forms | None = None  # of all that are known; None while that is not worked out


class Secret:
    """A text that never shows itself by accident; `reveal()` gives it on purpose.

    `masked()` knows it for as long as it exists.
    """

    __slots__ = ("__weakref__", "_text")

    def __init__(self, text: str) -> None:
        # One list for the process: any text may hold any secret.
        global _forms, _known  # noqa: PLW0603 - see above
        self._text = text
        with _lock:
            _known = [known for known in _known if known() is not None] + [weakref.ref(self)]
            _forms = None

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret('{MASK}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a Secret is not pickled: it would end up on disk")


def masked(text: str) -> str:
    """A text without any secret, as it is or as it is written in urls, JSON, HTML or base64.

    User names and passwords in urls are taken out too, known or not.
    """
    forms = _forms or _work_out_forms()
    if forms.may_be_in(text):
        text = forms.pattern.sub(MASK, text)
    return _USER_INFO.sub(f"{MASK}@", text) if "://" in text else text


def printable(text: str) -> str:
    """A text as one line that is safe to print: no secrets, and what steers a terminal escaped.

    Spaces stay as they are, unlike in `text.one_line()`: they may belong to the name of a file.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return masked(text)


def holds_secret(text: str) -> bool:
    """Whether a text holds a secret, in any of these ways."""
    forms = _forms or _work_out_forms()
    return forms.may_be_in(text) and forms.pattern.search(text) is not None


def may_be_shown(error: BaseException) -> bool:
    """Whether an error of another library shows no secret, so that it may be the cause of ours."""
    said = f"{error} {error!r}"
    return masked(said) == said


class _MaskingFilter(logging.Filter):
    """Takes secrets out of what this package logs, tracebacks included."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        shown = masked(said)
        if shown != said:
            record.msg, record.args = shown, None
        if record.exc_info:
            record.exc_text = masked(_formatter.formatException(record.exc_info))
        return True


_formatter = logging.Formatter()
logging.getLogger("pingdata_async").addFilter(_MaskingFilter())


class _Forms:
    """All that secrets may be written as.

    Args:
        secrets: These.
    """

    def __init__(self, secrets: set[str]) -> None:
        # The longest first: one may begin another.
        self._secrets = [
            (text, _in_base64(text))
            for text in sorted(secrets, key=len, reverse=True)
            if len(text) >= LEAST_CHARACTERS
        ]
        # Those without an escape.
        self._plain = [
            form.lower() for text, in_base64 in self._secrets for form in (text, *in_base64)
        ]

    def may_be_in(self, text: str) -> bool:
        """False where none surely is; quick, as most texts hold none, and there are many."""
        if not self._plain:
            return False
        if "\\" in text or "%" in text or "&" in text:
            return True
        lowered = text.lower()
        for form in self._plain:  # noqa: SIM110 - half the time of any()
            if form in lowered:
                return True
        return False

    @functools.cached_property  # it takes 50 ms, and seldom is it needed
    def pattern(self) -> re.Pattern[str]:
        """Finds all of them."""
        patterns: list[str] = []
        for text, in_base64 in self._secrets:
            patterns.append(_pattern_of(text, any_case=True))  # hosts are lowered, for instance
            patterns += [_pattern_of(form, any_case=False) for form in in_base64]
        return re.compile("|".join(patterns))


def _work_out_forms() -> _Forms:
    global _forms  # noqa: PLW0603 - worked out once for many texts
    with _lock:
        alive = [secret for secret in (known() for known in _known) if secret is not None]
        _forms = _Forms({secret.reveal() for secret in alive})
        return _forms


def _in_base64(secret: str) -> list[str]:
    """The part of its base64 that is the same whatever is around it, in both alphabets."""
    encoded = secret.encode()
    found = []
    for before in range(3):  # bytes, after which it begins
        whole = base64.b64encode(bytes(before) + encoded + bytes(2)).decode()
        inside = whole[-(-before * 8 // 6) : (before + len(encoded)) * 8 // 6]
        found += [inside, inside.translate(_URL_SAFE)]
    return list(dict.fromkeys(found))


_URL_SAFE = str.maketrans("+/", "-_")


def _pattern_of(text: str, *, any_case: bool) -> str:
    """Finds a text of which any character may be escaped, once or twice.

    Nothing in it is tried in two ways, so that no text takes more than linear time.
    """
    pieces: list[str] = []
    for is_backslash, characters in groupby(text, "\\".__eq__):
        run = list(characters)
        if is_backslash:
            one = r"(?:\\{1,4}(?:u00|x)5[cC]|%(?:25){0,2}5[cC]|&#92;|&#[xX]5[cC];|\\)"
            pieces.append(rf"(?>{one}{{{len(run)},{8 * len(run)}}})")
        else:
            # Backslashes before it may have taken those of its escape along.
            pieces.append(_escaped(run[0], any_case, 0 if pieces else 1))
            pieces += [_escaped(each, any_case, 1) for each in run[1:]]
    # One look tells that nothing begins at a place, which is so at most of them.
    first = text[0] + (text[0].swapcase() if any_case else "")
    return rf"(?=[\\%&{re.escape(first)}])" + "".join(pieces)


@functools.lru_cache(1024)  # each client has a secret of other characters, or of the same
def _escaped(character: str, any_case: bool, backslashes: int) -> str:
    forms: list[str] = []
    others = character.swapcase() if any_case and character.isascii() else character
    for each in dict.fromkeys([character, others]):
        in_json, in_html = json.dumps(each)[1:-1], html.escape(each)
        escape = rf"\\{{{backslashes},4}}"
        forms += [
            re.escape(in_html) if in_html != each else "",
            rf"\\{{0,3}}{re.escape(in_json)}" if in_json != each else "",
            rf"&(?:amp;)?#0{{0,4}}{ord(each)};",
            rf"&(?:amp;)?#[xX]0{{0,4}}{_hexadecimal(ord(each), 1)};",
            rf"{escape}u{_hexadecimal(ord(each), 4)}",
            rf"{escape}x{_hexadecimal(ord(each), 2)}",
            "".join(f"%(?:25){{0,2}}{_hexadecimal(byte, 2)}" for byte in each.encode()),
        ]
    # The longest first: of what is found first, nothing is given back.
    forms += [rf"\\{{0,4}}{re.escape(each)}" for each in dict.fromkeys([character, others])]
    return f"(?>{'|'.join(filter(None, forms))})"


def _hexadecimal(number: int, digits: int) -> str:
    return "".join(
        f"[{digit}{digit.upper()}]" if digit.isalpha() else digit
        for digit in f"{number:0{digits}x}"
    )
