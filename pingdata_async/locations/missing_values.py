"""Words such as "N/A" that say that nothing is known (pure).

They count only as a whole cell, in whatever case, and in brackets or quotes. The API would take
them for an address, and charge it: "nan, nan" is a place in Thailand.

Some are also the name of a place, if the rest of the row says so; see `is_a_name()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from pingdata_async.locations.countries import country_of, us_state_of

_OF_PROGRAMS = r"""
nan, -nan, nat, null, (null), nil, none, na, <na>, \n, n/a, n\a, #n/a, #n/a n/a, #na, undefined,
#ref!, #value!, #name?, #div/0!, #num!, #null!, #spill!, #calc!, #error!, blank, empty, missing
"""
_ENGLISH = """
n.a., n.a, n. a., n / a, n-a, not applicable, not available, not avail, not avail., not known,
not provided, not given, not reported, not stated, not specified, not recorded, not listed,
not disclosed, not determined, not found, no data, no value, no info, no information, no record,
no address, no street, no city, no zip, no entry, no response, none given, none provided,
none listed, none reported, unknown, unkn, unk, unk., unknwn, unspecified, undetermined,
undisclosed, unavailable, unassigned, n/k, n/s, n/r, tbd, tba, tbc, tbn, t.b.d., t.b.a., t.b.c.,
to be determined, to be decided, to be advised, to be announced, to be confirmed,
to be assigned, to follow, pending, various, address unknown, unknown address, city unknown,
unknown city, unknown street, state unknown, unknown state, country unknown, unknown country,
see above, see below, see notes, see attached, ditto
"""
_FRENCH = """
inconnu, inconnue, inconnus, non connu, non connue, néant, neant, s/o, s.o., sans objet, aucun,
aucune, vide, non renseigné, non renseignée, non renseigne, non communiqué, non communique,
non disponible, indisponible, non précisé, non precise, non spécifié, non specifie,
non applicable, non déterminé, non determine, non défini, non defini, indéterminé, indetermine,
à déterminer, a determiner, à définir, a definir, à préciser, à confirmer, pas d'adresse,
adresse inconnue, n/d, n.d., n/c
"""
_GERMAN = """
unbekannt, k.a., k.a, k. a., k/a, keine angabe, keine angaben, ohne angabe, o.a., o. a., o.ang.,
nicht bekannt, nicht verfügbar, nicht verfuegbar, nicht vorhanden, nicht angegeben,
nicht zutreffend, nicht anwendbar, entfällt, entfaellt, entf., entf, keine, keiner, keines,
nichts, fehlt, n. v., n. bek., n.bek., noch offen, offen, unbestimmt, wird nachgereicht,
adresse unbekannt, ohne hausnummer, keine daten
"""
_SPANISH = """
desconocido, desconocida, se desconoce, sin datos, sin dato, sin información, sin informacion,
sin dirección, sin direccion, ninguno, ninguna, no aplica, no disponible, no consta,
no informado, no especificado, no especificada, no definido, no conocido, no tiene, nulo, vacío,
vacio, por definir, por determinar, por confirmar, pendiente, s/d, s/n, s.n., sin número,
sin numero, sin especificar, no hay
"""
_MARKS = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212_.?*/\\#~,;:!+=|^'\"`\u2026\u00b7"
_MOST_MARKS = 20
_MIXED_MARKS = "-._?*/\\#,:!~"  # up to three of them in any order
_IN = tuple(
    (pair[0], pair[1]) for pair in ("()", "[]", "{}", "<>", "''", '""', "**", "--", "##", "??")
)


def _all_forms() -> frozenset[str]:
    words = {
        word.strip()
        for group in (_OF_PROGRAMS, _ENGLISH, _FRENCH, _GERMAN, _SPANISH)
        for word in group.replace("\n", " ").split(",")
    } - {""}
    forms = words | {f"{a}{word}{b}" for word in words for a, b in _IN}
    forms |= {f"{word}{mark}" for word in words for mark in ".?!"}
    marks = {mark * number for mark in _MARKS for number in range(1, _MOST_MARKS + 1)}
    marks |= {a + b + c for a in _MIXED_MARKS for b in _MIXED_MARKS for c in ["", *_MIXED_MARKS]}
    marks |= {"- -", "- - -", ". .", ". . .", "? ?", "? ? ?", "* * *"}
    letters = {"x" * number for number in range(3, _MOST_MARKS + 1)}
    brackets = {f"{a}{gap}{b}" for a, b in _IN[:4] for gap in ("", " ", "-", "?", ".")}
    return frozenset(forms | marks | letters | brackets)


_NOTHING = _all_forms()
_DIGITS = frozenset("0123456789")
_first_letter = itemgetter(0)

_NAMES_IN: Mapping[tuple[str, str], frozenset[str]] = {
    ("state", "na"): frozenset({"IT", "ES"}),  # Naples, Navarra
    ("county", "na"): frozenset({"IT", "ES"}),
    ("city", "none"): frozenset({"IT"}),  # near Turin
    ("city", "aucun"): frozenset({"FR"}),
    ("city", "pending"): frozenset({"MY"}),
    ("city", "nan"): frozenset({"TH"}),
    ("state", "nan"): frozenset({"TH"}),
    ("county", "nan"): frozenset({"TH"}),
}
_STATES = frozenset({"n.d.", "n.d"})  # North Dakota

FIELDS_OF_NAMES = frozenset({"city", "state", "county", "country"})
"""Fields in which such a word may be a name."""


def says_nothing(text: str) -> bool:
    """Whether a text, without white space around it, says that nothing is known."""
    return text.lower() in _NOTHING


def all_say_something(texts: Sequence[str]) -> bool:
    """Whether none of these texts, without white space around them, says that; far cheaper."""
    # No word begins with a digit, as most street lines and postal codes do.
    if _DIGITS.issuperset(map(_first_letter, filter(None, texts))):
        return True
    return _NOTHING.isdisjoint(map(str.lower, set(texts)))


def is_a_name(field: str, text: str, row: Mapping[str, Any]) -> bool:
    """Whether a text that says nothing elsewhere is the name of a place here.

    - "NA" is the code of Namibia as a country, in capitals and where no US state is beside it; of
      Naples and Navarra as a state, where the country says so.
    - "Nan" is in Thailand and "None" in Italy, where the country says so.
    - "N.D." is North Dakota.

    Args:
        field: Of the text.
        text: It, without white space around it.
        row: The location that it is a part of, by field.
    """
    if field not in FIELDS_OF_NAMES:
        return False
    word = text.lower()
    if field == "country":
        state = row.get("state")
        return text == "NA" and not (isinstance(state, str) and us_state_of(state))
    if field == "state" and word in _STATES:
        return True
    country = row.get("country")
    countries = _NAMES_IN.get((field, word))
    return countries is not None and isinstance(country, str) and country_of(country) in countries
