"""Headers and options for them, as they are shown to people (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

LIST_AT_MOST_HEADERS = 50
SHOW_AT_MOST_CHARACTERS = 80

_NOT_PLAIN_IN_QUOTES = frozenset('"$`\\!')


def shown_header(header: str) -> str:
    """A header in quotes, on one line, cut where it is a whole sentence."""
    text = _on_one_line(header)
    if len(text) > SHOW_AT_MOST_CHARACTERS:
        text = f"{text[: SHOW_AT_MOST_CHARACTERS - 3]}..."
    return f'"{text}"'


def shown_headers(headers: Iterable[str], at_most: int = LIST_AT_MOST_HEADERS) -> str:
    """Headers as a list; says how many are left out."""
    listed = list(headers)
    text = ", ".join(map(shown_header, listed[:at_most]))
    more = len(listed) - at_most
    return f"{text} and {more} more" if more > 0 else text


def shown_parts(headers: Sequence[str]) -> str:
    """The headers that a field is made of."""
    return " + ".join(map(shown_header, headers))


def map_option(field: str, header: str) -> str:
    """What is to be typed so that a field is read from a column: `--map city="Town"`.

    A header of "" is for a field of which nothing is to be sent.
    """
    text = _on_one_line(header)  # line breaks and the like make no difference there
    if not text and field != "id":
        return f"--map {field}="
    quoted = f'"{text}"' if _NOT_PLAIN_IN_QUOTES.isdisjoint(text) else shlex.quote(text)
    return f"--id-column {quoted}" if field == "id" else f"--map {field}={quoted}"


def _on_one_line(header: str) -> str:
    text = " ".join(header.split())
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
