"""What words of a location mean: countries, US states, and words for nothing (pure).

Countries are known by their ISO 3166-1 codes, of two and three letters, and by their names in the
time zone database. A text that is not surely one of them is none: a guess is worse than not to
know.

Words for nothing, such as "N/A", count only as a whole cell, in any case, and in brackets or
quotes. The API would take them for an address and charge for it: "nan, nan" is a place in Thailand.
Some are also names of places if the rest of the row says so; see `is_a_name()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

US = "US"

_COUNTRIES = """
AD AND Andorra; AE ARE United Arab Emirates; AF AFG Afghanistan; AG ATG Antigua and Barbuda;
AI AIA Anguilla; AL ALB Albania; AM ARM Armenia; AO AGO Angola; AQ ATA Antarctica;
AR ARG Argentina; AS ASM American Samoa; AT AUT Austria; AU AUS Australia; AW ABW Aruba;
AX ALA Aland Islands; AZ AZE Azerbaijan; BA BIH Bosnia and Herzegovina; BB BRB Barbados;
BD BGD Bangladesh; BE BEL Belgium; BF BFA Burkina Faso; BG BGR Bulgaria; BH BHR Bahrain;
BI BDI Burundi; BJ BEN Benin; BL BLM St Barthelemy; BM BMU Bermuda; BN BRN Brunei;
BO BOL Bolivia; BQ BES Caribbean NL; BR BRA Brazil; BS BHS Bahamas; BT BTN Bhutan;
BV BVT Bouvet Island; BW BWA Botswana; BY BLR Belarus; BZ BLZ Belize; CA CAN Canada;
CC CCK Cocos Islands; CD COD Democratic Republic of the Congo; CF CAF Central African Rep.;
CG COG Republic of the Congo; CH CHE Switzerland; CI CIV Cote d'Ivoire; CK COK Cook Islands;
CL CHL Chile; CM CMR Cameroon; CN CHN China; CO COL Colombia; CR CRI Costa Rica; CU CUB Cuba;
CV CPV Cape Verde; CW CUW Curacao; CX CXR Christmas Island; CY CYP Cyprus; CZ CZE Czech Republic;
DE DEU Germany; DJ DJI Djibouti; DK DNK Denmark; DM DMA Dominica; DO DOM Dominican Republic;
DZ DZA Algeria; EC ECU Ecuador; EE EST Estonia; EG EGY Egypt; EH ESH Western Sahara;
ER ERI Eritrea; ES ESP Spain; ET ETH Ethiopia; FI FIN Finland; FJ FJI Fiji;
FK FLK Falkland Islands; FM FSM Micronesia; FO FRO Faroe Islands; FR FRA France; GA GAB Gabon;
GB GBR United Kingdom; GD GRD Grenada; GE GEO Georgia; GF GUF French Guiana; GG GGY Guernsey;
GH GHA Ghana; GI GIB Gibraltar; GL GRL Greenland; GM GMB Gambia; GN GIN Guinea;
GP GLP Guadeloupe; GQ GNQ Equatorial Guinea; GR GRC Greece; GS SGS South Georgia;
GT GTM Guatemala; GU GUM Guam; GW GNB Guinea-Bissau; GY GUY Guyana; HK HKG Hong Kong;
HM HMD Heard and McDonald Islands; HN HND Honduras; HR HRV Croatia; HT HTI Haiti; HU HUN Hungary;
ID IDN Indonesia; IE IRL Ireland; IL ISR Israel; IM IMN Isle of Man; IN IND India;
IO IOT British Indian Ocean Territory; IQ IRQ Iraq; IR IRN Iran; IS ISL Iceland; IT ITA Italy;
JE JEY Jersey; JM JAM Jamaica; JO JOR Jordan; JP JPN Japan; KE KEN Kenya; KG KGZ Kyrgyzstan;
KH KHM Cambodia; KI KIR Kiribati; KM COM Comoros; KN KNA Saint Kitts and Nevis;
KP PRK North Korea; KR KOR South Korea; KW KWT Kuwait; KY CYM Cayman Islands; KZ KAZ Kazakhstan;
LA LAO Laos; LB LBN Lebanon; LC LCA St Lucia; LI LIE Liechtenstein; LK LKA Sri Lanka;
LR LBR Liberia; LS LSO Lesotho; LT LTU Lithuania; LU LUX Luxembourg; LV LVA Latvia; LY LBY Libya;
MA MAR Morocco; MC MCO Monaco; MD MDA Moldova; ME MNE Montenegro; MF MAF Saint Martin;
MG MDG Madagascar; MH MHL Marshall Islands; MK MKD North Macedonia; ML MLI Mali; MM MMR Myanmar;
MN MNG Mongolia; MO MAC Macau; MP MNP Northern Mariana Islands; MQ MTQ Martinique;
MR MRT Mauritania; MS MSR Montserrat; MT MLT Malta; MU MUS Mauritius; MV MDV Maldives;
MW MWI Malawi; MX MEX Mexico; MY MYS Malaysia; MZ MOZ Mozambique; NA NAM Namibia;
NC NCL New Caledonia; NE NER Niger; NF NFK Norfolk Island; NG NGA Nigeria; NI NIC Nicaragua;
NL NLD Netherlands; NO NOR Norway; NP NPL Nepal; NR NRU Nauru; NU NIU Niue; NZ NZL New Zealand;
OM OMN Oman; PA PAN Panama; PE PER Peru; PF PYF French Polynesia; PG PNG Papua New Guinea;
PH PHL Philippines; PK PAK Pakistan; PL POL Poland; PM SPM Saint Pierre and Miquelon;
PN PCN Pitcairn; PR PRI Puerto Rico; PS PSE Palestine; PT PRT Portugal; PW PLW Palau;
PY PRY Paraguay; QA QAT Qatar; RE REU Reunion; RO ROU Romania; RS SRB Serbia; RU RUS Russia;
RW RWA Rwanda; SA SAU Saudi Arabia; SB SLB Solomon Islands; SC SYC Seychelles; SD SDN Sudan;
SE SWE Sweden; SG SGP Singapore; SH SHN St Helena; SI SVN Slovenia;
SJ SJM Svalbard and Jan Mayen; SK SVK Slovakia; SL SLE Sierra Leone; SM SMR San Marino;
SN SEN Senegal; SO SOM Somalia; SR SUR Suriname; SS SSD South Sudan;
ST STP Sao Tome and Principe; SV SLV El Salvador; SX SXM Sint Maarten; SY SYR Syria;
SZ SWZ Eswatini; TC TCA Turks and Caicos Islands; TD TCD Chad; TF ATF French S. Terr.;
TG TGO Togo; TH THA Thailand; TJ TJK Tajikistan; TK TKL Tokelau; TL TLS East Timor;
TM TKM Turkmenistan; TN TUN Tunisia; TO TON Tonga; TR TUR Turkey; TT TTO Trinidad and Tobago;
TV TUV Tuvalu; TW TWN Taiwan; TZ TZA Tanzania; UA UKR Ukraine; UG UGA Uganda;
UM UMI US minor outlying islands; US USA United States; UY URY Uruguay; UZ UZB Uzbekistan;
VA VAT Vatican City; VC VCT St Vincent; VE VEN Venezuela; VG VGB British Virgin Islands;
VI VIR US Virgin Islands; VN VNM Vietnam; VU VUT Vanuatu; WF WLF Wallis and Futuna; WS WSM Samoa;
YE YEM Yemen; YT MYT Mayotte; ZA ZAF South Africa; ZM ZMB Zambia; ZW ZWE Zimbabwe
"""

# Dots and case do not matter.
_OTHER_NAMES = """
US United States of America, the United States, the United States of America, United States (USA),
United States of America (the), U S, U S A, America, 840, Estados Unidos, Estados Unidos de América,
EEUU, EE UU, États-Unis, Etats-Unis, États-Unis d'Amérique, Etats-Unis d'Amérique, Stati Uniti,
Stati Uniti d'America, Vereinigte Staaten, Vereinigte Staaten von Amerika;
GB UK, Great Britain, Britain, England, Scotland, Wales; KR Korea, Republic of Korea; AE UAE;
CI Ivory Coast; CZ Czechia; MM Burma; MX México; NL The Netherlands, Holland; RU Russian Federation;
SZ Swaziland; TR Turkiye; VI Virgin Islands; VN Viet Nam
"""

# People may name a part for the country, or the country for a part.
_BELONG_TOGETHER = """
US PR VI GU AS MP UM; GB GG JE IM GI FK BM KY VG TC AI MS SH IO PN GS; AU CX CC NF HM;
FR GP MQ GF RE YT PM BL MF WF PF NC TF; NL AW CW SX BQ; CN HK MO TW; DK GL FO; FI AX; NO SJ BV;
NZ CK NU TK; KR KP; CD CG; ES EH MA; RS XK; IL PS; CY TR
"""

_US_STATES = """
AL Alabama; AK Alaska; AZ Arizona; AR Arkansas; CA California; CO Colorado; CT Connecticut;
DE Delaware; DC District of Columbia; FL Florida; GA Georgia; HI Hawaii; ID Idaho; IL Illinois;
IN Indiana; IA Iowa; KS Kansas; KY Kentucky; LA Louisiana; ME Maine; MD Maryland;
MA Massachusetts; MI Michigan; MN Minnesota; MS Mississippi; MO Missouri; MT Montana; NE Nebraska;
NV Nevada; NH New Hampshire; NJ New Jersey; NM New Mexico; NY New York; NC North Carolina;
ND North Dakota; OH Ohio; OK Oklahoma; OR Oregon; PA Pennsylvania; RI Rhode Island;
SC South Carolina; SD South Dakota; TN Tennessee; TX Texas; UT Utah; VT Vermont; VA Virginia;
WA Washington; WV West Virginia; WI Wisconsin; WY Wyoming; PR Puerto Rico; VI US Virgin Islands;
GU Guam; AS American Samoa; MP Northern Mariana Islands
"""


def country_of(text: str) -> str | None:
    """The code of the country that a text names; None if that is not sure.

    Countries that belong together, such as the United States and Puerto Rico, share one code.
    """
    return _codes_of_countries.get(_plain(text))


def us_state_of(text: str) -> str | None:
    """The code of the US state or territory that a text names; None if that is not sure."""
    return _codes_of_states.get(_plain(text))


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace(".", "").split())


def _entries(table: str) -> list[str]:
    return [entry.strip() for entry in table.replace("\n", " ").split(";")]


def _read_countries() -> Mapping[str, str]:
    leader = {}
    for group in map(str.split, _entries(_BELONG_TOGETHER)):
        leader.update(dict.fromkeys(group, group[0]))
    codes: dict[str, str] = {}
    for entry in _entries(_COUNTRIES):
        two, three, name = entry.split(" ", 2)
        for text in (two, three, name):
            codes[_plain(text)] = leader.get(two, two)
    for entry in _entries(_OTHER_NAMES):
        two, names = entry.split(" ", 1)
        codes |= dict.fromkeys(map(_plain, names.split(",")), leader.get(two, two))
    return codes


def _read_states() -> Mapping[str, str]:
    pairs = [entry.split(" ", 1) for entry in _entries(_US_STATES)]
    return {_plain(text): code for code, name in pairs for text in (code, name)}


_codes_of_countries = _read_countries()
_codes_of_states = _read_states()


# -- Words for nothing -------------------------------------------------------------------------

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
    """Whether a stripped text says that nothing is known."""
    return text.lower() in _NOTHING


def all_say_something(texts: Sequence[str]) -> bool:
    """Whether none of these stripped texts says that; far cheaper than one by one."""
    # No word begins with a digit, as most street lines and postal codes do.
    if _DIGITS.issuperset(map(_first_letter, filter(None, texts))):
        return True
    return _NOTHING.isdisjoint(map(str.lower, set(texts)))


def is_a_name(field: str, text: str, row: Mapping[str, Any]) -> bool:
    """Whether a stripped text that elsewhere says nothing names a place in a field of this row.

    "NA" as a country is Namibia, if in capitals and not beside a US state. As a state it is Naples
    or Navarra, "Nan" is in Thailand and "None" in Italy, if the country says so. "N.D." is North
    Dakota.
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
