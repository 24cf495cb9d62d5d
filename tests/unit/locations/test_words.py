"""Words that stand in a cell where nothing is known."""

from __future__ import annotations

from typing import Any

import pytest

from pingdata_async.locations import words as words_for_nothing
from pingdata_async.locations.fields import FIELDS
from pingdata_async.locations.normalize import normalize, normalize_batch
from pingdata_async.locations.words import all_say_something, says_nothing
from pingdata_async.value_notes import ValueKind

WORDS = [
    *("nan", "NaN", "NULL", "N/A", "#N/A", "None", "TBD", "tba", "unknown", "n.a.", "nil", "NAN"),
    *("not available", "Not Applicable", "-", "--", ".", "?", "???", "------", "\\N", "<NA>"),
    *("k.A.", "unbekannt", "Keine Angabe", "nicht verf\u00fcgbar", "entf\u00e4llt"),
    *("inconnu", "INCONNUE", "N\u00e9ant", "N\u00c9ANT", "s/o", "Non renseign\u00e9", "sans objet"),
    *("desconocido", "Sin datos", "ninguno", "No aplica", "S/N", "Sin informaci\u00f3n"),
    *("(unknown)", "[N/A]", "<null>", " n/a ", "\u00a0TBD ", '"None"', "()", "\u2014", "#REF!"),
]
"""As the whole cell, in English, German, French and Spanish, and as programs write them."""


@pytest.mark.parametrize("word", WORDS)
def test_words_for_nothing_are_empty(word: str) -> None:
    """In every field; and a row of them has nothing to look up."""
    assert says_nothing(word.strip())
    texts = dict.fromkeys(sorted(FIELDS), word)
    batch = normalize_batch([texts, {"city": "Boston", "state": word}])
    assert batch.refused[0].startswith("nothing to look up")
    assert {value.kind for value in batch.noted[0]} == {ValueKind.SAYS_NOTHING}
    assert {value.column for value in batch.noted[0]} == FIELDS
    assert len(batch.noted[0]) == len(texts)
    assert batch.refused.keys() == {0}
    assert batch.encoded[1] == b'{"city":"Boston"}'


def test_columns_of_texts_that_begin_with_digits() -> None:
    """Those are told apart by a look at the first and the last of them, which is no word."""
    assert not any(word[0].isdigit() for word in words_for_nothing._NOTHING)
    assert all_say_something(["1 Main St", "99 Oak Ave", "02134"])
    for word in WORDS:
        assert not all_say_something(["1 Main St", word.strip(), "99 Oak Ave"])


@pytest.mark.parametrize(
    "text",
    [
        *("Unknown Road 1", "1 Main St", "Nada", "Leer", "Nill", "Nanterre", "ND", "NB", "KA"),
        *("N", "7", "NE", "SD", "Notown", "Dashwood", "Tbilisi", "Unity", "-1", "0"),
    ],
)
def test_what_is_something(text: str) -> None:
    """Names that begin like them, and codes of states and countries that look like them."""
    assert not says_nothing(text)


@pytest.mark.parametrize(
    ("location", "left"),
    [
        ({"country": "NA", "city": "Windhoek"}, {"country": "NA", "city": "Windhoek"}),
        ({"country": "na", "city": "Windhoek"}, {"city": "Windhoek"}),
        ({"country": "NA", "city": "Austin", "state": "TX"}, {"city": "Austin", "state": "TX"}),
        ({"country": "N/A", "city": "Windhoek"}, {"city": "Windhoek"}),
        ({"state": "NA", "city": "Napoli", "country": "Italy"}, None),
        ({"state": "NA", "city": "Tudela", "country": "ES"}, None),
        ({"state": "NA", "city": "Boston", "country": "US"}, {"city": "Boston", "country": "US"}),
        ({"state": "NA", "city": "Boston"}, {"city": "Boston"}),
        ({"city": "Nan", "postal_code": "55000", "country": "Thailand"}, None),
        ({"city": "Nan", "postal_code": "55000"}, {"postal_code": "55000"}),
        ({"city": "None", "postal_code": "10060", "country": "IT"}, None),
        ({"city": "None", "postal_code": "10060"}, {"postal_code": "10060"}),
        ({"state": "N.D.", "city": "Fargo"}, None),
        ({"id": "NA", "city": "Fargo"}, None),
    ],
)
def test_names_that_look_like_them(location: dict[str, Any], left: dict[str, Any] | None) -> None:
    """A place is what the rest of its row says that it is; an id is whatever it is."""
    expected = {k: v for k, v in (left or location).items() if k != "id"}
    assert normalize(location).fields == expected
    assert normalize(location).id == location.get("id")
