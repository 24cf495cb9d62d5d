"""What the headers of statements of values say, by the field of a location that they mean (pure).

The words are those of published forms: the OED location file, the AIR/Verisk CEDE and its
import, the RMS EDM import, and spreadsheets of brokers and carriers. A header is here only
if its name alone says that its values are what the field holds. Left out on purpose:

* Totals (TIV), sprinklers, protection classes, policy terms: the API has no field for them.
* "ISO Const", "Construction Class", "Construction Code": mostly numbers of a scheme for which
  the API has no field. `const__desc_ping` takes a description in words, not a 4.
* "ConstructionCode" and "OccupancyCode" of OED are OED's own; those of CEDE, and BLDGCLASS
  and OCCTYPE of RMS, are of the scheme that another column names, row by row. Only a header
  that names AIR, RMS or ATC itself is sent as such a code.
* EQCV1VAL, WSCV1VAL and the like of RMS: what coverage 1 is depends on the portfolio, and
  each peril has its own. LocLimit1Building (OED) and LimitBldg (CEDE) are terms of a policy,
  0 where there is none, and not what the building is insured for.
* An area that has a column for its unit beside it, as in OED, CEDE and RMS: it may be in
  square metres, row by row.
* SubArea (CEDE) and COUNTYCODE (RMS): codes of a county, not its name.
* What can be read in several ways: "Location", "Site", "Building", "Name", "Region", "Year".
* Anything of a mailing address, of the insured, of an agent.
"""

from __future__ import annotations

from collections.abc import Mapping

ADDRESS = "address or its street line"
LAT_LONG = "latitude and longitude"
HOUSE_NUMBER = "house number"
PRE_DIRECTION = "direction before the street's name"
STREET = "street or its name"
STREET_KIND = "kind of street"
POST_DIRECTION = "direction behind the street's name"
UNIT = "unit"

STREET_PARTS = (HOUSE_NUMBER, PRE_DIRECTION, STREET, STREET_KIND, POST_DIRECTION, UNIT)
"""What is joined to a street line, in this order, where there is a house number."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "id": (
        """id, location id, location number, =loc, location code, location reference, premises
        number, premises id""",
        """site id, site number, site code, property id, property number, property code, risk id,
        risk number, asset id, asset number, store number, unique id, record id, =ref,
        reference, reference number""",
        # A statement with "Loc #" and "Bldg #" is known by the former. Others have only these.
        "building number, building id",
    ),
    "address": (
        """full address, complete address, entire address, formatted address, combined address, one
        line address, single line address, address one line, address single line, address city
        state, address city state zip, street city state zip, address street city state zip,
        street address city state zip""",
    ),
    ADDRESS: ("address",),
    STREET: ("street, street name",),
    "address_line_1": (
        """address line 1, address 1, address line one, street address, street address 1, street
        address line 1, street 1, street line 1, address street, =street add, street name and
        number, street number and name, =street and number, =street and no, number and street,
        house number and street, address including street number""",
    ),
    "address_line_2": (
        """address line 2, address 2, address line two, street address 2, street address line 2,
        street 2, street line 2""",
        """suite, suite number, apartment, apartment number, suite apartment, apartment suite, unit
        suite, suite unit""",
    ),
    HOUSE_NUMBER: ("house number, street number, address number, civic number",),
    PRE_DIRECTION: (
        """pre direction, predirectional, street predirection, street pre direction, =predir,
        =stpredir""",
    ),
    STREET_KIND: ("street suffix, street type, =st suffix, =st type",),
    POST_DIRECTION: (
        """post direction, postdirectional, street postdirection, street post direction, =postdir,
        =stpostdir""",
    ),
    UNIT: ("unit, unit number, unit id",),
    "city": (
        """city, town, municipality, locality, city name, town name, city town, town city, city
        municipality, post town""",
    ),
    "state": (
        # Where both are there, as in OED and RMS, the code is the one without misspellings.
        """state code, state abbreviation, =state abbrev, =state abbr, =state prov code, state
        province code, area code""",
        """state, =st, province, state province, province state, =st prov, =st province, state
        province region, =area, area name, area state name""",
        "state name, province name",
    ),
    "postal_code": (
        """postal code, zip code, zip, post code, postal, zip postal code, zip postal, postal zip
        code, postal code zip, postal zip, zip code postal code, zip post code, zip 5, zip 9""",
    ),
    "county": (
        """county, county name, parish, county parish, subarea name, subarea county name""",
    ),
    "country": (
        "country code, country iso, country iso code, iso country code, iso country",
        "country, country name, country region",
    ),
    "latitude": ("latitude, gps latitude, geo latitude",),
    "longitude": ("longitude, gps longitude, geo longitude",),
    LAT_LONG: ("latitude longitude",),
    "bldg_name": (
        "building name, name of building",
        "location name, site name, property name, facility name, premises name, store name",
    ),
    "occupancy__type_desc": (
        "occupancy description, occupancy type description, description of occupancy",
        """occupancy, occupancy type, type of occupancy, building occupancy, building use, property
        use, occupancy use""",
        "building description, property description, property type",
    ),
    "occupancy__desc_ping": ("ping occupancy, ping occupancy description",),
    "occupancy__code_air": (
        "air occupancy code, air occupancy, air occupancy class, occupancy code air, occupancy air",
    ),
    "occupancy__code_atc": (
        "atc occupancy code, atc occupancy, atc occupancy class, occupancy code atc, occupancy atc",
    ),
    "const__desc_ping": (
        "construction description, ping construction, ping construction description",
        """construction, construction type, type of construction, building construction, building
        construction type, construction material""",
    ),
    "const__code_rms": (
        """rms construction code, rms construction, rms construction class, rms building class,
        construction code rms, construction rms""",
    ),
    "const__code_air": (
        # A is the building's, B that of the other structures.
        """air construction code, air construction, air construction class, air construction code
        a, construction code air, construction air""",
    ),
    "const__roof_covering": (
        """roof covering, roof cover, roof covering type, type of roof covering, roof covering
        material, roof material""",
        "roof type, type of roof",
    ),
    "const__wall_type": (
        """wall type, exterior wall type, exterior wall, exterior walls, wall construction,
        exterior wall construction, wall material, exterior wall material""",
        "cladding, cladding type, exterior cladding, wall cladding",
    ),
    "const__bldg_year_built": (
        """year built, original year built, =orig year built, year of construction, year
        construction, construction year, building year built, =yob""",
    ),
    "const__num_stories": (
        """stories, number of stories, stories number, story count, number of stories above ground,
        stories above ground, stories above grade""",
        "floors, number of floors, floor count, =no of flrs",
    ),
    "const__num_stories_below_gnd": (
        """stories below ground, stories below grade, number of stories below ground, number of
        stories below grade, number of stories below gnd, floors below ground, floors below
        grade, levels below ground, levels below grade, below grade levels, basement levels,
        number of basement levels, basement level count, number of basements, basement floors,
        underground floors""",
    ),
    "const__bldg_area": (
        """building area, building square feet, square feet, square feet building, number square
        feet building, number square feet, total square feet, total building square feet, gross
        square feet, area square feet, =area sf, =area sqft, =building sf, =bldg sf, =sf, =gsf,
        =total sf, =gross sf, total building area, gross building area, total area, gross area,
        gross floor area, =gfa, total floor area""",
        "floor area, =area",
    ),
    "limits__building_limit": (
        "building limit, building limit of insurance",
        """building value, building tiv, building total insured value, building insured value,
        building sum insured, buildings sum insured, building replacement cost, building
        replacement value, building replacement cost value, =building rc, =building rcv, =bldg
        rc, =bldg rcv, replacement value building, replacement value a, =repvalbldg, structure
        value, real property value, real property, real property limit""",
        # A group's title above "Building".
        "limits building, values building, insured values building, tiv building",
    ),
    "limits__bpp_limit": (
        "bpp limit, contents limit, business personal property limit, personal property limit",
        """bpp, contents, business personal property, personal property, bpp value, contents value,
        contents tiv, contents bpp, bpp contents, contents replacement cost, contents
        replacement value, contents rc, contents rcv, contents sum insured, replacement value
        contents, replacement value c, =repvalcont, business personal property value, personal
        property value""",
    ),
    "limits__bi_limit": (
        "bi limit, business income limit, business interruption limit, bi ee limit, bi w ee limit",
        """bi, bi ee, bi and extra expense, bi w ee, bi with ee, bi w extra expense, business
        income w ee, business income w extra expense, business income with extra expense, annual
        bi, bi rents, bi ee rents, bi rental income, bi value, bi tiv, bi sum insured, business
        interruption sum insured, business income, business interruption, business income value,
        business interruption value, business income and extra expense, business income and ee,
        business interruption and extra expense, business income rents, business income and
        rental value, business income and rental income, annual business income, loss of
        business income, loss of income, time element, time element value, replacement value
        time element, replacement value d, =repvalbi, =repvaltime""",
        """rents, rental income, rental value, loss of rents, loss of rental income, annual rents,
        rents value""",
    ),
    "limits__signs_and_other_limit": (
        "signs and other limit, signs and other, signs and other value",
        """other limit, other value, other tiv, other property, other property value, other
        structures, other structures value, other structures limit, replacement value other,
        replacement value b, =repvalother, signs, outdoor signs, other value outdoor prop and
        eqpt must be schd""",
    ),
}
"""By meaning: phrases in ranks; one of a later rank counts only where none of an earlier is there.

Phrases are separated by commas. Those of one rank say the same: of two, nothing tells which is
meant. The API's own name for a field says the same as the first rank. Each word stands for its
`SPELLINGS` as well, but for phrases with "=".
"""

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "abbreviation": ("abbr", "abbrev"),
    "address": ("addr",),
    "apartment": ("apt",),
    "building": ("bldg", "bld", "bldng"),
    "built": ("blt", "build", "constructed"),
    "business": ("bus",),
    "code": ("cd",),
    "construction": ("const", "constr", "cnst"),
    "contents": ("content",),
    "country": ("cntry", "ctry"),
    "county": ("cnty",),
    "description": ("desc", "descr"),
    "feet": ("ft", "foot", "footage", "ftg"),
    "id": ("identifier",),
    "income": ("inc",),
    "interruption": ("int",),
    "latitude": ("lat",),
    "limit": ("lim", "lmt"),
    "location": ("loc",),
    "longitude": ("long", "lon", "lng"),
    "number": ("no", "num", "nbr"),
    "occupancy": ("occ", "occup"),
    "personal": ("pers",),
    "premises": ("premise", "prem"),
    "property": ("prop",),
    "province": ("prov",),
    "replacement": ("repl",),
    "square": ("sq",),
    "stories": ("story", "storeys", "storey"),
    "value": ("val", "values"),
    "year": ("yr",),
}

PLACES = ("location", "property", "site", "risk", "premises", "physical", "situs", "building")
"""What may stand before the words of an address: all of them say that it is the insured's place."""

WITH_PLACES = frozenset(
    {
        *(ADDRESS, STREET, LAT_LONG, "address", "address_line_1", "address_line_2", "city"),
        *("state", "postal_code", "county", "country", "latitude", "longitude"),
    }
)

FILLERS = frozenset({"of", "and", "or", "the"})

_OED = frozenset({"portnumber", "accnumber", "areaname", "buildingtiv", "locperilscovered"})
_CEDE = frozenset({"subarea", "subarea2", "subareaname", "countryiso", "isobin"})
_CODES = _OED | _CEDE | {"locperils", "bldgscheme", "roofsys"}

ONLY_BESIDE: Mapping[tuple[str, str], frozenset[str]] = {
    ("state", "areacode"): _OED,  # elsewhere that of a telephone
    ("state", "areaname"): _OED | _CEDE,
    ("state", "area"): _CEDE,
}
"""Of a meaning and a header: one of these others must be there."""

NOT_BESIDE: Mapping[tuple[str, str | None], frozenset[str]] = {
    ("const__bldg_area", "area"): _CEDE,
    ("const__bldg_area", None): frozenset(
        {
            *("areaunit", "areaunits", "areaunitcode", "floorareaunit", "floorareaunits"),
            *("floorareaunitcode", "grossareaunit", "grossareaunits", "grossareaunitcode"),
        }
    ),
    ("occupancy__type_desc", "occtype"): frozenset({"occscheme"}),
    ("const__roof_covering", None): _CODES,  # numbers of a list of the form's own
    ("const__wall_type", None): _CODES,
}
"""Of a meaning, and a header (None: any): none of these others may be there."""

INSTRUCTIONS = frozenset(
    {"ie", "eg", "if", "see", "such", "example", "please", "provide", "required", "optional"}
)
"""What a remark behind a header begins with; it does not change what the header means."""

_MONEY = frozenset({"usd", "us", "dollars", "rc", "rcv", "replacement", "cost", "100", "annual"})
_MONTHS = frozenset({"12", "mo", "mos", "month", "months", "als"})
_DEGREES = frozenset({"decimal", "degrees", "deg", "dd", "dms", "ddm", "wgs", "wgs84", "84"})

REMARKS: Mapping[str, frozenset[str]] = {
    "const__bldg_area": frozenset({"sq", "square", "ft", "feet", "foot", "sqft", "sf", "ft2"}),
    "const__bldg_year_built": frozenset({"yyyy", "4", "digit", "digits"}),
    "const__num_stories": frozenset({"above", "ground", "grade"}),
    "country": frozenset({"iso", "code", "2", "3", "letter", "alpha"}),
    "latitude": _DEGREES,
    "limits__bi_limit": _MONEY | _MONTHS,
    "limits__bpp_limit": _MONEY,
    "limits__building_limit": _MONEY,
    "limits__signs_and_other_limit": _MONEY,
    "longitude": _DEGREES,
    LAT_LONG: _DEGREES,
    "postal_code": frozenset({"5", "9", "digit", "digits", "us"}),
    "state": frozenset({"2", "letter", "code", "abbreviation", "abbrev", "abbr", "us"}),
}
"""By meaning, words of a unit or a format that may follow. Not "000s", "EUR" or "sq m": those
are other values than the field holds."""
