"""A header to its meaning; which row is the header; how headers are shown (pure)."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import product
from typing import Any

import msgspec

from pingdata_async.locations.fields import FIELDS
from pingdata_async.tables.mapping.synonyms import (
    ANGLE_PARTS,
    FILLERS,
    INSTRUCTIONS,
    NOT_BESIDE,
    ONLY_BESIDE,
    ONLY_WITH,
    PARTS_OF_AN_ADDRESS,
    PLACES,
    READ_BESIDE,
    REMARKS,
    SPELLINGS,
    WITH_PLACES,
    WORDS,
)
from pingdata_async.tables.rows import ReadOptions

OWN_NAME = 0
"""The rank of a header that is spelled as the field itself."""

HEADERS_REMEMBERED = 2**14
"""Those of an input are asked for again whenever a new one comes up in JSONL."""

MOST_WORDS = 12
"""No phrase has more; a remark behind it may be as long as it likes."""

_IN_WORDS = str.maketrans(
    {"#": " number ", "&": " and ", "%": " percent ", "'": "", "\u2019": ""}
    | {"\u00b0": " degrees ", "\u2032": " minutes ", "\u2033": " seconds "}
    | {"\u20ac": " eur ", "\u00a3": " gbp ", "\u00a5": " jpy "}
)
_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


_ADDRESSES = ("address", "addr")


class Meaning(msgspec.Struct, frozen=True):
    """What a header may mean.

    Attributes:
        name: "id", a field of a location, or one of the other keys of `WORDS`.
        rank: Of two headers for the same, the one with the lower rank is taken.
    """

    name: str
    rank: int


def words_of(header: str) -> list[str]:
    """The words of a header in lower case, without accents; symbols as words."""
    spelled = unicodedata.normalize("NFKD", header.translate(_IN_WORDS))
    spelled = "".join(letter for letter in spelled if not unicodedata.combining(letter))
    return [word.casefold() for word in _WORD.findall(_CAMEL.sub(" ", spelled))]


@lru_cache(maxsize=HEADERS_REMEMBERED)
def key_of(header: str) -> str:
    """What all ways to write the same header share: "Zip-Code", "ZIP CODE" and "zipCode"."""
    return "".join(words_of(header))


def field_named(name: str) -> str | None:
    """The field of a location, or "id", whose own name this is; None where there is none."""
    return _own_names().get(key_of(name))


def meaning_of(header: str, beside: AbstractSet[str]) -> Meaning | None:
    """What a header means among others; None where that is not known.

    Args:
        header: As it stands in the input.
        beside: The keys of all headers.
    """
    for meaning, key in _meanings(header):
        if _fits(meaning.name, key, beside):
            return meaning
    return None


def means_nothing(header: str) -> bool:
    """Whether a header means nothing wherever it stands, nor changes what others mean."""
    return not _meanings(header) and key_of(header) not in _telling_keys()


@lru_cache(maxsize=1)
def _telling_keys() -> frozenset[str]:
    return frozenset().union(*ONLY_BESIDE.values(), *NOT_BESIDE.values())


@lru_cache(maxsize=HEADERS_REMEMBERED)
def _meanings(header: str) -> tuple[tuple[Meaning, str], ...]:
    """What a header may mean wherever it stands, first what it says most clearly.

    Beside each the key of what says so.
    """
    title = header.strip()
    if title == "id" or title in FIELDS:
        return ((Meaning(title, OWN_NAME), ""),)
    words = words_of(header)
    # The longest beginning that means something; what follows must not change that.
    return tuple(
        (meaning, key)
        for length in range(min(len(words), MOST_WORDS), 0, -1)
        for key in dict.fromkeys(_both_keys(words[:length]))
        for meaning in _meanings_of_key(key)
        if _is_remark(words[length:], meaning.name)
    )


def _both_keys(words: Sequence[str]) -> tuple[str, str]:
    """With all words, and without those that only join others."""
    return "".join(words), "".join(word for word in words if word not in FILLERS)


def _meanings_of_key(key: str) -> Iterator[Meaning]:
    """What words mean as they stand, and behind the place that they are of."""
    yield from _known_headers().get(key, ())
    placed = list(_behind(key, _places()))
    for rest in placed:
        yield from _known_behind_places().get(rest, ())
    for whole in (key, *placed):
        for rest in _behind(whole, _ADDRESSES):
            for meaning in _known_behind_places().get(rest, ()):
                if meaning.name in PARTS_OF_AN_ADDRESS:
                    yield meaning


def _behind(key: str, beginnings: tuple[str, ...]) -> Iterator[str]:
    if key.startswith(beginnings):
        yield from (key[len(begin) :] for begin in beginnings if key.startswith(begin))


def _fits(name: str, key: str, beside: AbstractSet[str]) -> bool:
    told = READ_BESIDE.get((name, key))
    if told is not None and not _is_told(told, beside):
        return False
    needed = ONLY_BESIDE.get((name, key))
    if needed is not None and needed.isdisjoint(beside):
        return False
    return all(NOT_BESIDE.get((name, each), frozenset()).isdisjoint(beside) for each in (key, None))


@lru_cache(maxsize=64)
def _is_told(names: frozenset[str], beside: AbstractSet[str]) -> bool:
    """Whether another header means one of these; as a short word, only if that is told itself."""
    said = {
        (meaning.name, key)
        for key in beside
        for meaning in _meanings_of_key(key)
        if meaning.name in names
    }
    if not said.issubset(READ_BESIDE):
        return True
    return any(
        meaning.name in READ_BESIDE[short] and (meaning.name, key) not in READ_BESIDE
        for short in said
        for key in beside
        for meaning in _meanings_of_key(key)
    )


def _is_remark(words: Sequence[str], name: str) -> bool:
    """Whether words behind a header leave it to mean what it means."""
    if not words or words[0] in INSTRUCTIONS:
        return True
    if REMARKS.get(name, frozenset()).issuperset(words):
        return all(ONLY_WITH.get(word, word) in words for word in words)
    # The same once more: "Business Personal Property (BPP)".
    return any(
        meaning.name == name for key in _both_keys(words) for meaning in _meanings_of_key(key)
    )


@lru_cache(maxsize=1)
def _own_names() -> dict[str, str]:
    return {key_of(field): field for field in ("id", *sorted(FIELDS))}


@lru_cache(maxsize=1)  # made when the first input is read, not with the import
def _known_headers() -> dict[str, tuple[Meaning, ...]]:
    """By key, what a header may mean; in most cases one thing."""
    known = _keyed(WORDS)
    for key, field in _own_names().items():
        if field not in {meaning.name for meaning in known.get(key, ())}:
            # "Address" may be the street line as well; only spelled as the field it is that.
            known.setdefault(key, (Meaning(field, OWN_NAME + 1),))
    return known


@lru_cache(maxsize=1)
def _known_behind_places() -> dict[str, tuple[Meaning, ...]]:
    """The same of words that may follow those of a place; phrases with "=" stand alone."""
    return _keyed(
        {
            name: tuple(
                ",".join(each for each in phrases.split(",") if "=" not in each)
                for phrases in ranks
            )
            for name, ranks in WORDS.items()
            if name in WITH_PLACES
        }
    )


def _keyed(words: Mapping[str, Sequence[str]]) -> dict[str, tuple[Meaning, ...]]:
    known: dict[str, dict[str, Meaning]] = {}
    for name, ranks in words.items():
        for rank, phrases in enumerate(ranks, OWN_NAME + 1):
            for phrase in filter(str.strip, phrases.split(",")):
                for key in _keys_of(phrase.strip()):
                    known.setdefault(key, {}).setdefault(name, Meaning(name, rank))
    return {key: tuple(meanings.values()) for key, meanings in known.items()}


def _keys_of(phrase: str) -> Iterator[str]:
    words = phrase.removeprefix("=").split()
    if phrase.startswith("="):
        yield "".join(words)
        return
    for spelled in product(*map(_spellings, words)):
        yield from _both_keys(spelled)


@lru_cache(maxsize=1)
def _places() -> tuple[str, ...]:
    return tuple(each for place in PLACES for each in _spellings(place))


def _spellings(word: str) -> tuple[str, ...]:
    return (word, *SPELLINGS.get(word, ()))


SEARCHED_ROWS = 50  # title pages are shorter

# Title rows hold a word or two that are headers elsewhere, and titles of groups of columns are
# just above the headers; what is far below a row of several is data.
_KNOWN_IN_A_LIKELY_HEADER = 3
_ROWS_BEHIND_A_LIKELY_HEADER = 10
_PARTS_OF_ANGLES = frozenset().union(*ANGLE_PARTS.values())
_LONGEST_HEADER = 200  # characters; what is longer is a text about the table


class HeaderRow(msgspec.Struct, frozen=True):
    """Where the headers are.

    Attributes:
        place: The row they are in, from 0; the second one where they are in two.
        headers: As they stand there; "" where there is none.
        cells: The texts of the row, or of the two rows, that they are made of.
        named: How many of them the user named.
        known: How many of them mean something to the API; with those that were named.
    """

    place: int
    headers: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    named: int
    known: int

    @property
    def rows(self) -> int:
        """How many rows they are in: one or two."""
        return len(self.cells)


def find_header(rows: Sequence[Sequence[Any]], options: ReadOptions) -> HeaderRow | None:
    """Find the headers among the first rows of a table.

    They are the row that has most of the headers that the user named, then most of those that
    mean something to the API; two rows together where that understands more. Where none means
    anything, the first of those with most texts.

    Args:
        rows: The first rows of the table, with the empty ones.
        options: The headers that the user named.

    Returns:
        None where there is no row with a text.
    """
    named = _named(options)
    best: HeaderRow | None = None
    for place, row in enumerate(rows[:SEARCHED_ROWS]):
        is_likely = best is not None and best.known >= _KNOWN_IN_A_LIKELY_HEADER
        if best is not None and is_likely and place > best.place + _ROWS_BEHIND_A_LIKELY_HEADER:
            break
        for found in _candidates(rows, place, row, named):
            if best is None or _rank(found) > _rank(best):
                best = found
    if best is not None and best.known:
        return best
    widest = max(rows[:SEARCHED_ROWS], key=_distinct_texts, default=())
    if not _distinct_texts(widest):
        return None
    place = next(place for place, row in enumerate(rows) if row is widest)
    titles = list(map(header_text, widest))
    return _as_header(place, titles, [titles], named)


def header_text(value: Any) -> str:
    """A cell of the header as text."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # years, as a spreadsheet holds them
    return str(value)


def is_empty_cell(value: Any) -> bool:
    """Whether there is nothing in a cell, or only blanks."""
    return value is None or (isinstance(value, str) and not value.strip())


def _candidates(
    rows: Sequence[Sequence[Any]], place: int, row: Sequence[Any], named: frozenset[str]
) -> list[HeaderRow]:
    titles = list(map(header_text, row))
    found = [_as_header(place, titles, [titles], named)]
    if place and not any(map(is_label, rows[place - 1])) and not _is_mostly_numbers(row):
        both = _padded(rows[place - 1], row)
        found.append(_as_header(place, _together(*both), both, named))
    return found


def _rank(found: HeaderRow) -> tuple[float, ...]:
    if found.known < _KNOWN_IN_A_LIKELY_HEADER:
        return found.named, found.known
    # "City:" and "State:" are above the table as well, each beside what they are.
    return found.named, found.known, found.known / sum(map(bool, found.headers))


def _as_header(
    place: int, titles: list[str], rows: Sequence[Sequence[str]], named: frozenset[str]
) -> HeaderRow:
    keys = [key_of(title) if len(title) <= _LONGEST_HEADER else "" for title in titles]
    beside = frozenset(keys)
    of_user = [key in named for key in keys]
    known = sum(
        is_named or (key != "" and meaning_of(title, beside) is not None)
        for title, key, is_named in zip(titles, keys, of_user, strict=True)
    )
    return HeaderRow(place, tuple(titles), tuple(map(tuple, rows)), sum(of_user), known)


def known_headers(titles: Sequence[str]) -> int:
    """How many of some headers mean something to the API."""
    beside = frozenset(map(key_of, titles))
    return sum(meaning_of(title, beside) is not None for title in titles)


def _padded(upper: Sequence[Any], lower: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Two rows as texts, of one width."""
    width = max(len(upper), len(lower))
    above, below = ([*map(header_text, row), *[""] * (width - len(row))] for row in (upper, lower))
    return above, below


def _together(upper: Sequence[str], lower: Sequence[str]) -> list[str]:
    """Headers in two rows: of each column, the words that are understood best."""
    beside = frozenset(map(key_of, lower))
    headers = []
    title = ""
    for above, below in zip(upper, lower, strict=True):
        title = above if above.strip() else title
        # "Latitude" above "Deg", "Min" and "Sec" stands in the first of them only.
        in_group = meaning_of(f"{title} {below}", beside) if below.strip() else None
        is_part = in_group is not None and in_group.name in _PARTS_OF_ANGLES
        headers.append(f"{title} {below}" if is_part else _joined(above, below, beside))
    return headers


def _joined(above: str, below: str, beside: AbstractSet[str]) -> str:
    both = f"{above} {below}".strip()
    # A group's title stands above all of its columns: "Limits" above "Building" says more,
    # "Location" above "City" does not.
    if below and meaning_of(both, beside) is None and meaning_of(below, beside) is not None:
        return below
    return both


def is_label(value: Any) -> bool:
    """Whether a cell says what stands beside it, not below it."""
    return isinstance(value, str) and value.rstrip().endswith(":")


def _distinct_texts(row: Sequence[Any]) -> int:
    texts = {cell.strip() for cell in row if isinstance(cell, str)}
    return sum(1 for text in texts if text and not _is_number(text))


def _is_mostly_numbers(row: Sequence[Any]) -> bool:
    """Whether it is data: "12" below "BI Months" is no second half of that header."""
    texts = [text for text in map(header_text, row) if text.strip()]
    return 2 * sum(map(_is_number, texts)) > len(texts)


def _is_number(text: str) -> bool:
    return not any(map(str.isalpha, text))


def _named(options: ReadOptions) -> frozenset[str]:
    return frozenset(map(key_of, options.mapping.values())) - {""}


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
    if not text:
        return f"--map {field}="
    quoted = f'"{text}"' if _NOT_PLAIN_IN_QUOTES.isdisjoint(text) else shlex.quote(text)
    return f"--map {field}={quoted}"


def _on_one_line(header: str) -> str:
    text = " ".join(header.split())
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
