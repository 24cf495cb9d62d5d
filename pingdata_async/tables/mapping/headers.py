"""The meaning of a header, and how headers are shown in messages (pure)."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import product

import msgspec

from pingdata_async.locations.fields import FIELDS
from pingdata_async.tables.mapping.synonyms import (
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

OWN_NAME = 0
"""The rank of a header that is the field's own name."""

HEADERS_REMEMBERED = 2**14
"""All headers of a JSONL input are mapped again with each new one."""

MOST_WORDS = 12
"""The most words of a phrase; a remark behind it may be longer."""

_IN_WORDS = str.maketrans(
    {"#": " number ", "&": " and ", "%": " percent ", "'": "", "\u2019": ""}
    | {"\u00b0": " degrees ", "\u2032": " minutes ", "\u2033": " seconds "}
    | {"\u20ac": " eur ", "\u00a3": " gbp ", "\u00a5": " jpy "}
)
_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


_ADDRESSES = ("address", "addr")


class Meaning(msgspec.Struct, frozen=True):
    """A possible meaning of a header."""

    name: str  # "id", a field of a location, or another key of `WORDS`
    rank: int  # of two headers with the same meaning, the lower rank wins


def words_of(header: str) -> list[str]:
    """The words of a header in lower case, without accents; symbols as words."""
    spelled = unicodedata.normalize("NFKD", header.translate(_IN_WORDS))
    spelled = "".join(letter for letter in spelled if not unicodedata.combining(letter))
    return [word.casefold() for word in _WORD.findall(_CAMEL.sub(" ", spelled))]


@lru_cache(maxsize=HEADERS_REMEMBERED)
def key_of(header: str) -> str:
    """The key that all spellings of a header share: "Zip-Code", "ZIP CODE" and "zipCode"."""
    return "".join(words_of(header))


def field_named(name: str) -> str | None:
    """The field of a location, or "id", of this name; None if there is none."""
    return _own_names().get(key_of(name))


def meaning_of(header: str, beside: AbstractSet[str]) -> Meaning | None:
    """The meaning of a header among others, given their keys; None if it has none."""
    for meaning, key in _meanings(header):
        if _fits(meaning.name, key, beside):
            return meaning
    return None


def known_headers(titles: Sequence[str]) -> int:
    """The number of headers that have a meaning."""
    beside = frozenset(map(key_of, titles))
    return sum(meaning_of(title, beside) is not None for title in titles)


def means_nothing(header: str) -> bool:
    """Whether a header never has a meaning, nor changes that of others."""
    return not _meanings(header) and key_of(header) not in _telling_keys()


@lru_cache(maxsize=1)
def _telling_keys() -> frozenset[str]:
    return frozenset().union(*ONLY_BESIDE.values(), *NOT_BESIDE.values())


@lru_cache(maxsize=HEADERS_REMEMBERED)
def _meanings(header: str) -> tuple[tuple[Meaning, str], ...]:
    """All possible meanings of a header, the clearest first, each with the key that gives it."""
    title = header.strip()
    if title == "id" or title in FIELDS:
        return ((Meaning(title, OWN_NAME), ""),)
    words = words_of(header)
    # The longest beginning that has a meaning, if what follows does not change it.
    return tuple(
        (meaning, key)
        for length in range(min(len(words), MOST_WORDS), 0, -1)
        for key in dict.fromkeys(_both_keys(words[:length]))
        for meaning in _meanings_of_key(key)
        if _is_remark(words[length:], meaning.name)
    )


def _both_keys(words: Sequence[str]) -> tuple[str, str]:
    """The keys of all words, and of those that are not fillers."""
    return "".join(words), "".join(word for word in words if word not in FILLERS)


def _meanings_of_key(key: str) -> Iterator[Meaning]:
    """The meanings of words, and of those behind the name of a place."""
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
    """Whether another header has one of these meanings; short words need such a header, too."""
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
    """Whether words behind a header leave its meaning unchanged."""
    if not words or words[0] in INSTRUCTIONS:
        return True
    if REMARKS.get(name, frozenset()).issuperset(words):
        return all(ONLY_WITH.get(word, word) in words for word in words)
    # A repetition: "Business Personal Property (BPP)".
    return any(
        meaning.name == name for key in _both_keys(words) for meaning in _meanings_of_key(key)
    )


@lru_cache(maxsize=1)
def _own_names() -> dict[str, str]:
    return {key_of(field): field for field in ("id", *sorted(FIELDS))}


@lru_cache(maxsize=1)  # built for the first input, not on import
def _known_headers() -> dict[str, tuple[Meaning, ...]]:
    """The possible meanings of a header by its key; mostly one."""
    known = _keyed(WORDS)
    for key, field in _own_names().items():
        if field not in {meaning.name for meaning in known.get(key, ())}:
            # "Address" may be the street line as well; only the exact name is the field.
            known.setdefault(key, (Meaning(field, OWN_NAME + 1),))
    return known


@lru_cache(maxsize=1)
def _known_behind_places() -> dict[str, tuple[Meaning, ...]]:
    """Likewise for phrases that may follow the name of a place; those with "=" may not."""
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


# -- Headers in messages -------------------------------------------------------------------------

LIST_AT_MOST_HEADERS = 50
SHOW_AT_MOST_CHARACTERS = 80

_NOT_PLAIN_IN_QUOTES = frozenset('"$`\\!')


def shown_header(header: str) -> str:
    """A header in quotes, on one line, shortened if it is long."""
    text = _on_one_line(header)
    if len(text) > SHOW_AT_MOST_CHARACTERS:
        text = f"{text[: SHOW_AT_MOST_CHARACTERS - 3]}..."
    return f'"{text}"'


def shown_headers(headers: Iterable[str], at_most: int = LIST_AT_MOST_HEADERS) -> str:
    """A list of headers, with the number of those left out."""
    listed = list(headers)
    text = ", ".join(map(shown_header, listed[:at_most]))
    more = len(listed) - at_most
    return f"{text} and {more} more" if more > 0 else text


def shown_parts(headers: Sequence[str]) -> str:
    """The headers that a field is made of."""
    return " + ".join(map(shown_header, headers))


def map_option(field: str, header: str) -> str:
    """The option that reads a field from a column: `--map city="Town"`.

    If the header is "", nothing is sent for the field.
    """
    text = _on_one_line(header)  # white space makes no difference in the option
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
