"""The words that headers of statements of values use for each field.

They come from published forms: the OED location file, the AIR/Verisk CEDE and its import, the RMS
EDM import, and spreadsheets of brokers and carriers. A header is listed only if its name alone
shows that its values are what the field holds. Left out on purpose:

* Totals (TIV), sprinklers, protection classes, policy terms: the API has no field for them.
* "ISO Const", "Construction Class", "Construction Code": mostly numbers of a scheme that the API
  has no field for. `const__desc_ping` takes a description in words, not a 4.
* "ConstructionCode" and "OccupancyCode" of OED, which are its own codes; those of CEDE, and
  BLDGCLASS and OCCTYPE of RMS, whose scheme another column names, row by row. Only a header that
  names AIR, RMS or ATC itself is sent as such a code.
* EQCV1VAL, WSCV1VAL and the like of RMS: coverage 1 depends on the portfolio, and differs by
  peril. LocLimit1Building (OED) and LimitBldg (CEDE) are policy terms, 0 if there is none, and not
  the insured value of the building.
* An area with a column for its unit, as in OED, CEDE and RMS: some rows may be in square metres.
* SubArea (CEDE) and COUNTYCODE (RMS): the code of a county, not its name.
* Ambiguous words: "Location", "Site", "Building", "Name", "Region", "Year".
* Mailing addresses, and addresses of the insured or of an agent.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Part(enum.StrEnum):
    """The meaning of a header that is no field by itself."""

    # The parts of a street line, in the order of the United States.
    NUMBER_PREFIX = "what stands before a house number"
    HOUSE_NUMBER = "house number"
    NUMBER_LETTER = "letter of a house number"
    NUMBER_SUFFIX = "what stands behind a house number"
    ANY_SUFFIX = "suffix of a house number or of a street"
    PRE_MODIFIER = "word before the street's direction"
    PRE_DIRECTION = "direction before the street's name"
    PRE_KIND = "kind of street, before its name"
    PRE_SEPARATOR = "word between the kind of street and its name"
    STREET = "street or its name"
    STREET_KIND = "kind of street"
    POST_DIRECTION = "direction behind the street's name"
    POST_MODIFIER = "word behind the street's direction"
    UNIT = "unit"
    SUB_BUILDING = "flat of a building"

    # Lines, whole addresses, and several fields in one column.
    ADDRESS = "address or its street line"
    LAT_LONG = "latitude and longitude"
    LONG_LAT = "longitude and latitude"
    ONE_LINE = "one-line address"
    LINE = "street line"
    SECOND_LINE = "second line"
    THIRD_LINE = "third line"
    CITY = "city"
    CITY_STATE_ZIP = "city, state and postal code"
    CITY_STATE = "city and state"
    STATE_ZIP = "state and postal code"
    ZIP_CITY = "postal code and city"
    TAIL = "end of an address"


STREET_PARTS = tuple(Part)[: list(Part).index(Part.SUB_BUILDING) + 1]

PARTS_OF_STREETS = tuple(
    part
    for part in STREET_PARTS[STREET_PARTS.index(Part.PRE_MODIFIER) : STREET_PARTS.index(Part.UNIT)]
    if part != Part.STREET
)
"""The parts beside the name of a street."""

TAILS: Mapping[str, frozenset[str]] = {
    Part.CITY_STATE_ZIP: frozenset({"city", "state", "postal_code"}),
    Part.CITY_STATE: frozenset({"city", "state"}),
    Part.STATE_ZIP: frozenset({"state", "postal_code"}),
    Part.ZIP_CITY: frozenset({"postal_code", "city"}),
}
"""The fields in one column, by its meaning."""

ANGLE_PARTS: Mapping[str, tuple[str, ...]] = {
    field: tuple(f"{part} of {field}" for part in ("degrees", "minutes", "seconds", "hemisphere"))
    for field in ("latitude", "longitude")
}
"""The parts that a coordinate is joined from, in this order."""

BELOW_DEGREES = frozenset(
    {"min", "mins", "minute", "minutes", "sec", "secs", "second", "seconds", "dir", "hem"}
)
"""Headers of parts that do not name their coordinate."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "id": (
        """id, location id, location number, =loc, location code, location reference, premises
        number, premises id""",
        """site id, site number, site code, property id, property number, property code, risk id,
        risk number, asset id, asset number, store number, unique id, record id, =ref, reference,
        reference number""",
        # If there is a "Loc #" as well, that is the id.
        "building number, building id",
    ),
    "address": (
        """full address, complete address, entire address, formatted address, combined address, one
        line address, single line address, address one line, address single line, address city
        state, address city state zip, street city state zip, address street city state zip, street
        address city state zip""",
    ),
    Part.ADDRESS: (
        "address",
        "address full",
        """=adresse, =anschrift, =strasse und hausnummer, =strasse hausnummer, =strasse nr,
        =direccion, =domicilio, =indirizzo, =adres, =adress, =gatuadress, =endereco, =osoite""",
    ),
    Part.STREET: (
        "street name full, =stnam full, full street name, street full name, =stnam",
        """street, street name, road, road name, thoroughfare, thoroughfare name, =route, =lst name,
        st name, strasse, strassenname, =str, straat, straatnaam, =openbare ruimte, calle, nombre
        calle, nombre via, via, rue, voie, nom voie, nom de voie, libelle voie, ulica, =ul, gata,
        gatunamn, gade, vejnavn, rua, logradouro, utca, katu""",
    ),
    "address_line_1": (
        """address line 1, address 1, address line one, street address, st address, street address
        1, street address line 1, street 1, street line 1, =street add, street name and number,
        street number and name, =street and number, =street and no, number and street, house number
        and street, address including street number""",
        # Of the register of companies of Great Britain; only where there is no other.
        "=reg address address line 1",
        # Of the department of housing: addresses as the Postal Service writes them.
        "=std addr",
    ),
    "address_line_2": (
        """address line 2, address 2, address line two, street address 2, street address line 2,
        street 2, street line 2""",
        """suite, suite number, apartment, apartment number, suite apartment, apartment suite, unit
        suite, suite unit""",
        "=reg address address line 2",
    ),
    Part.THIRD_LINE: ("address line 3, address 3, address line three, street address 3, street 3",),
    Part.NUMBER_PREFIX: (
        """house number prefix, address number prefix, street number prefix, =addnum pre, =add num
        pre""",
    ),
    Part.HOUSE_NUMBER: (
        """house number full, full house number, address number full, =addno full, =addnum cmp,
        complete address number""",
        """house number, street number, st number, =add number, =addnumber, address number, civic
        number, =addr num, =house, =hse number, =hse no, =hse num, =hsenum, =houseno, =hnum, =adrno,
        hausnummer, hausnr, =hnr, huisnummer, huisnr, civico, numero civico, =n civico,
        =n degrees civico, =n degrees voie, numero calle,
        numero de calle, numero exterior, =num ext, numero voie, numero de voie, =nr domu,
        numer domu, husnummer, husnr, =paon, house name or number, house number or name, house name
        number, hazszam, talonumero, =number first, =situs number, =situs num, =situs no, =situs
        nbr""",
        # Beside a street only.
        "=number, =no, =num, =nr, =nbr, =n, =n degrees, =numero, =nummer, =numer, =hn",
    ),
    Part.NUMBER_LETTER: ("=huisletter, house letter, house number letter, =number first suffix",),
    Part.NUMBER_SUFFIX: (
        """house number suffix, address number suffix, street number suffix, =addnum suf, =add num
        suf, =str num sfx, house fraction, street number fraction, house number fraction, =fraction,
        =situs fraction, street fraction, hausnummerzusatz, adresszusatz hausnummer,
        huisnummertoevoeging, =toevoeging, =indice de repetition, =rep, =number last""",
    ),
    Part.ANY_SUFFIX: ("=suffix, =sfx",),
    Part.PRE_MODIFIER: ("street pre modifier, =st premod, =stn premod",),
    Part.PRE_DIRECTION: (
        """pre direction, predirectional, street predirection, street pre direction, =predir,
        =stpredir, =st predir, =stn predir, =lst predir, street direction prefix, direction prefix,
        street prefix direction, street dir prefix, =adrdir, =pre dir, =str pre""",
        """street direction, st direction, =situs direction, =situs dir, =direction left, =prop
        direction, =prop direction left, street dir, =street dir, =st dir""",
        # Beside a house number and a street only.
        "=dir, =direction, =prefix",
    ),
    Part.PRE_KIND: (
        """street pre type, =st pretyp, =stn pretyp, tipo via, tipo de via, tipo vialidad, type
        voie, type de voie, tipo logradouro, =dug, street prefix type""",
    ),
    Part.PRE_SEPARATOR: ("=st presep, =stn presep",),
    Part.STREET_KIND: (
        """street suffix, street type, st suffix, st type, street kind, street designation, street
        designator, street post type, =st postyp, =stn postyp, =lst type, =adrsuf, =str sfx, =st
        sfx, street sfx, =situs suffix, =prop suffix, =prop mode, thoroughfare descriptor, street
        descriptor""",
        "=street type code",
    ),
    Part.POST_DIRECTION: (
        """post direction, postdirectional, street postdirection, street post direction, =postdir,
        =stpostdir, =st posdir, =stn posdir, =lst posdir, street direction suffix, direction suffix,
        street suffix direction, =str sfx dir, =direction right, =prop direction right, street dir
        suffix, =quadrant, =adrsuf2, =post dir, =street suffix code""",
    ),
    Part.POST_MODIFIER: ("street post modifier, =st posmod, =stn posmod",),
    Part.UNIT: ("""unit, unit number, unit id, =str unit, =adrunit, =unitno""",),
    Part.SUB_BUILDING: (
        "=saon, sub building name, sub building number, sub building, flat number, =flat",
    ),
    "city": (
        """city, town, municipality, city name, town name, city town, town city, city municipality,
        post town""",
        # If both exist, the postal city belongs to the postal code.
        "postal city, post city, postal community, =post comm, city or town, town or city",
        """locality, locality name, =inc muni, =muni, muni name, =municipio, incorporated
        municipality""",
        """=ort, =ortsname, =stadt, =wohnort, =ville, =commune, =nom commune, =libelle commune,
        =ciudad, =poblacion, =localidad, =comune, =citta, =localita, =plaats, =woonplaats, =stad,
        =gemeente, =miasto, =miejscowosc, =postort, =poststed, =postnrnavn, =cidade, =telepules,
        =postitoimipaikka""",
        "=reg address post town, =std city",
    ),
    "state": (
        # If both exist, as in OED and RMS, the code has no misspellings.
        """state code, state abbreviation, =state abbrev, =state abbr, =state prov code, state
        province code, area code""",
        """state, =st, province, state province, province state, =st prov, =st province, state
        province region, =area, area name, area state name, administrative area level 1""",
        "state name, province name",
        """=region, =addr region, =estado, =bundesland, =kanton, =provincia, =provincie, =std st,
        =std state""",
    ),
    "postal_code": (
        """postal code, zip code, zip, post code, postal, zip postal code, zip postal, postal zip
        code, postal code zip, postal zip, zip code postal code, zip post code, zip 5, zip 9""",
        """zip 4, zip plus 4, zip code 4, zip code plus 4, zip plus four, zip and 4, =plz,
        postleitzahl, code postal, codigo postal, =cp, =cap, codice postale, codice avviamento
        postale, eircode, kod pocztowy, postnummer, =postnr, psc, =npa, pin code, pincode, =cep,
        codigo de endereco postal, iranyitoszam, postinumero""",
        "=reg address post code, =std zip, =std zip5, zip code 1",
    ),
    Part.CITY_STATE_ZIP: (
        """city state zip, city state zip code, city state postal code, city state postal, =csz,
        =city st zip, city province postal code, town state zip, city st zip code, city state and
        zip, city state code zip, city town state zip""",
    ),
    Part.CITY_STATE: ("city state, town state, city st, city province, city state code",),
    Part.STATE_ZIP: (
        "state zip, state zip code, st zip, st zip code, state postal code, province postal code",
    ),
    Part.ZIP_CITY: (
        """zip city, zip code city, postal code city, city zip, city zip code, city postal code,
        town post code, post town post code, =plz ort, =ort plz, postleitzahl ort, code postal
        ville, =cp ville, =cap comune, =cap citta, postcode plaats, postcode woonplaats""",
    ),
    "county": (
        "county, county name, parish, county parish, subarea name, subarea county name",
        "=district",
        "=reg address county",
    ),
    "country": (
        "country code, country iso, country iso code, iso country code, iso country",
        "country, country name, country region",
        "=land, =pays, =pais, =paese, =nazione, =staat, =kraj",
        "=reg address country",
    ),
    "latitude": (
        """latitude, gps latitude, geo latitude, latitude y, =intptlat, =latitud, =latitudine,
        =breitengrad""",
        "latitude dms, latitude ddm, latitude degrees minutes seconds, latitude degrees minutes",
    ),
    "longitude": (
        """longitude, gps longitude, geo longitude, longitude x, =intptlon, =intptlong, =longitud,
        =longitudine, =langengrad, =laengengrad""",
        """longitude dms, longitude ddm, longitude degrees minutes seconds, longitude degrees
        minutes""",
    ),
    Part.LAT_LONG: (
        """latitude longitude, latitude and longitude coordinates, coordinates latitude longitude,
        gps latitude longitude, gps coordinates latitude longitude, gps coordinates, geo point 2d,
        geolocation""",
    ),
    Part.LONG_LAT: (
        """longitude latitude, longitude latitude coordinates, coordinates longitude latitude, gps
        longitude latitude, gps coordinates longitude latitude""",
    ),
    "degrees of latitude": ("latitude degrees, latitude d, degrees latitude, degrees of latitude",),
    "minutes of latitude": ("latitude minutes, latitude m, minutes latitude, minutes of latitude",),
    "seconds of latitude": ("latitude seconds, latitude s, seconds latitude, seconds of latitude",),
    "hemisphere of latitude": (
        """latitude hemisphere, latitude hem, latitude direction, latitude dir, latitude ns,
        latitude n s, latitude ref, latitude reference, gps latitude ref, latitude north
        south, =ns, =ns hemisphere, =ns indicator, north south, north or south""",
    ),
    "degrees of longitude": (
        "longitude degrees, longitude d, degrees longitude, degrees of longitude",
    ),
    "minutes of longitude": (
        "longitude minutes, longitude m, minutes longitude, minutes of longitude",
    ),
    "seconds of longitude": (
        "longitude seconds, longitude s, seconds longitude, seconds of longitude",
    ),
    "hemisphere of longitude": (
        """longitude hemisphere, longitude hem, longitude direction, longitude dir, longitude ew,
        longitude e w, longitude we, longitude ref, longitude reference, gps longitude ref,
        longitude east west, =ew, =ew hemisphere, =ew indicator, east west, east or west""",
    ),
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
        """air construction code, air construction, air construction class, air construction code a,
        construction code air, construction air""",
    ),
    "const__roof_covering": (
        """roof covering, roof cover, roof covering type, type of roof covering, roof covering
        material, roof material""",
        "roof type, type of roof",
    ),
    "const__wall_type": (
        """wall type, exterior wall type, exterior wall, exterior walls, wall construction, exterior
        wall construction, wall material, exterior wall material""",
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
        stories below grade, number of stories below gnd, floors below ground, floors below grade,
        levels below ground, levels below grade, below grade levels, basement levels, number of
        basement levels, basement level count, number of basements, basement floors, underground
        floors""",
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
        building sum insured, buildings sum insured, building replacement cost, building replacement
        value, building replacement cost value, =building rc, =building rcv, =bldg rc, =bldg rcv,
        replacement value building, replacement value a, =repvalbldg, structure value, real property
        value, real property, real property limit""",
        # A group's title above "Building".
        "limits building, values building, insured values building, tiv building",
    ),
    "limits__bpp_limit": (
        "bpp limit, contents limit, business personal property limit, personal property limit",
        """bpp, contents, business personal property, personal property, bpp value, contents value,
        contents tiv, contents bpp, bpp contents, contents replacement cost, contents replacement
        value, contents rc, contents rcv, contents sum insured, replacement value contents,
        replacement value c, =repvalcont, business personal property value, personal property
        value""",
    ),
    "limits__bi_limit": (
        "bi limit, business income limit, business interruption limit, bi ee limit, bi w ee limit",
        """bi, bi ee, bi and extra expense, bi w ee, bi with ee, bi w extra expense, business income
        w ee, business income w extra expense, business income with extra expense, annual bi, bi
        rents, bi ee rents, bi rental income, bi value, bi tiv, bi sum insured, business
        interruption sum insured, business income, business interruption, business income value,
        business interruption value, business income and extra expense, business income and ee,
        business interruption and extra expense, business income rents, business income and rental
        value, business income and rental income, annual business income, loss of business income,
        loss of income, time element, time element value, replacement value time element,
        replacement value d, =repvalbi, =repvaltime""",
        """rents, rental income, rental value, loss of rents, loss of rental income, annual rents,
        rents value""",
    ),
    "limits__signs_and_other_limit": (
        "signs and other limit, signs and other, signs and other value",
        """other limit, other value, other tiv, other property, other property value, other
        structures, other structures value, other structures limit, replacement value other,
        replacement value b, =repvalother, signs, outdoor signs, other value outdoor prop and eqpt
        must be schd""",
    ),
}
"""Phrases by meaning, in ranks: a later rank counts only if no header has an earlier one.

Commas separate phrases. Phrases of one rank are equal: of two, the user has to choose. The API's
own name for a field is equal to the first rank. A word stands for its `SPELLINGS` as well, except
in phrases that begin with "=".
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
    "degrees": ("degree", "deg"),
    "description": ("desc", "descr"),
    "feet": ("ft", "foot", "footage", "ftg"),
    "id": ("identifier",),
    "income": ("inc",),
    "interruption": ("int",),
    "latitude": ("lat",),
    "limit": ("lim", "lmt"),
    "location": ("loc",),
    "longitude": ("long", "lon", "lng"),
    "minutes": ("minute", "mins", "min"),
    "number": ("no", "num", "nbr"),
    "occupancy": ("occ", "occup"),
    "personal": ("pers",),
    "physical": ("phy", "phys"),
    "premises": ("premise", "prem"),
    "property": ("prop",),
    "province": ("prov",),
    "replacement": ("repl",),
    "seconds": ("second", "secs", "sec"),
    "square": ("sq",),
    "street": ("str",),
    "stories": ("story", "storeys", "storey"),
    "value": ("val", "values"),
    "year": ("yr",),
}

PLACES = ("location", "property", "site", "risk", "premises", "physical", "situs", "building")
"""Words that may stand before those of an address, as they refer to the insured place."""

PARTS_OF_AN_ADDRESS = frozenset(
    {*STREET_PARTS, "city", "state", "postal_code", "county", "country"}
)
"""Meanings whose words may also follow "address": "addr:street", "Property Address City"."""

WITH_PLACES = PARTS_OF_AN_ADDRESS.union(
    ("address", "address_line_1", "address_line_2", "latitude", "longitude", *TAILS),
    (Part.ADDRESS, Part.LAT_LONG, Part.LONG_LAT, Part.THIRD_LINE),
    *ANGLE_PARTS.values(),
)

FILLERS = frozenset({"of", "and", "or", "the"})

_GERMAN = frozenset({"plz", "postleitzahl", "ort", "stadt", "strasse"})
_OED = frozenset({"portnumber", "accnumber", "areaname", "buildingtiv", "locperilscovered"})
_CEDE = frozenset({"subarea", "subarea2", "subareaname", "countryiso", "isobin"})
_CODES = _OED | _CEDE | {"locperils", "bldgscheme", "roofsys"}


def _largest(*words: str) -> frozenset[str]:
    """Headers of a bounding box, beside which "Lat Min" is the smallest latitude."""
    return frozenset(
        key for word in words for most in ("max", "maximum") for key in (word + most, most + word)
    )


_NORTH_SOUTH = ("ns", "nshemisphere", "nsindicator", "northsouth", "northorsouth")
_EAST_WEST = ("ew", "ewhemisphere", "ewindicator", "eastwest", "eastorwest")

ONLY_BESIDE: Mapping[tuple[str, str], frozenset[str]] = {
    **{("hemisphere of latitude", key): frozenset(_EAST_WEST) for key in _NORTH_SOUTH},
    **{("hemisphere of longitude", key): frozenset(_NORTH_SOUTH) for key in _EAST_WEST},
    ("state", "areacode"): _OED,  # elsewhere part of a telephone number
    ("state", "areaname"): _OED | _CEDE,
    ("state", "area"): _CEDE,
    ("country", "land"): frozenset(
        {"plz", "postleitzahl", "ort", "stadt", "strasse", "postnummer"}
    ),
}
"""Other headers, one of which a header needs to have this meaning."""

_WHERE_THE_NUMBER_FOLLOWS = """
strasse strassenname hausnummer hausnr hnr plz postleitzahl ort bundesland straat straatnaam
huisnummer huisnr plaats woonplaats gemeente calle nombrecalle nombrevia numerocalle ciudad
poblacion localidad provincia via civico numerocivico ncivico comune citta indirizzo cap ulica
nrdomu numerdomu miasto miejscowosc kodpocztowy gata gatunamn postort husnummer husnr gade
vejnavn postnr poststed postnummer rua logradouro cidade cep utca hazszam telepules katu
talonumero openbareruimte tipovia tipodevia
"""
NUMBER_FOLLOWS = frozenset(_WHERE_THE_NUMBER_FOLLOWS.split())
"""Headers in languages in which the house number stands behind the street."""

_STREET = frozenset({Part.STREET})
_HOUSE_NUMBER = frozenset({Part.HOUSE_NUMBER})

NUMBERS_OF_ANYTHING = frozenset(
    {"number", "no", "num", "nr", "nbr", "n", "ndegrees", "numero", "nummer", "numer"}
)
"""Headers of house numbers, beside a street and unless they count the rows."""

READ_BESIDE: Mapping[tuple[str, str], frozenset[str]] = {
    **{(Part.HOUSE_NUMBER, key): _STREET for key in (*NUMBERS_OF_ANYTHING, "hn", "house")},
    (Part.NUMBER_SUFFIX, "fraction"): _STREET,
    (Part.NUMBER_SUFFIX, "rep"): _STREET,
    (Part.ANY_SUFFIX, "suffix"): _STREET,
    (Part.ANY_SUFFIX, "sfx"): _STREET,
    **{(Part.PRE_DIRECTION, key): _STREET for key in ("dir", "direction", "prefix")},
    (Part.POST_DIRECTION, "quadrant"): _STREET,
    (Part.SUB_BUILDING, "flat"): _STREET,
    (Part.STREET, "route"): _HOUSE_NUMBER,
    ("state", "region"): _HOUSE_NUMBER,
    ("county", "district"): _HOUSE_NUMBER,
    ("state", "estado"): frozenset({"city"}),
    **{("postal_code", key): frozenset({"city"}) for key in ("cp", "cap", "npa", "psc", "cep")},
}
"""Meanings, one of which another header must have for a short word to have this meaning."""

NOT_BESIDE: Mapping[tuple[str, str | None], frozenset[str]] = {
    ("const__bldg_area", "area"): _CEDE,
    ("const__bldg_area", None): frozenset(
        {
            *("areaunit", "areaunits", "areaunitcode", "floorareaunit", "floorareaunits"),
            *("floorareaunitcode", "grossareaunit", "grossareaunits", "grossareaunitcode"),
        }
    ),
    ("minutes of latitude", None): _largest("lat", "latitude"),
    ("minutes of longitude", None): _largest("lon", "lng", "long", "longitude"),
    ("occupancy__type_desc", "occtype"): frozenset({"occscheme"}),
    ("const__roof_covering", None): _CODES,  # codes of the form itself
    ("const__wall_type", None): _CODES,
}
"""Other headers that rule out a meaning, for a header or, with None, for any."""

INSTRUCTIONS = frozenset(
    {"ie", "eg", "if", "see", "such", "example", "please", "provide", "required", "optional"}
)
"""The first words of remarks that leave the meaning of a header unchanged."""

_MONEY = frozenset({"usd", "us", "dollars", "rc", "rcv", "replacement", "cost", "100", "annual"})
_OF_A_YEAR = frozenset({"mo", "mos", "month", "months"})
_MONTHS = frozenset({"12", *_OF_A_YEAR, "als"})
_DEGREES = frozenset({"decimal", "degrees", "deg", "dd", "wgs", "wgs84", "84"})

ONLY_WITH: Mapping[str, str] = dict.fromkeys(_OF_A_YEAR, "12")
"""Words that a remark needs for another word. The income of 12 months is an amount; "BI (Months)"
is the period insured, and "Rents/Mo" a twelfth of the amount."""

REMARKS: Mapping[str, frozenset[str]] = {
    "const__bldg_area": frozenset({"sq", "square", "ft", "feet", "foot", "sqft", "sf", "ft2"}),
    "const__bldg_year_built": frozenset({"yyyy", "4", "digit", "digits"}),
    "const__num_stories": frozenset({"above", "ground", "grade"}),
    "country": frozenset({"iso", "code", "2", "3", "letter", "alpha"}),
    "latitude": _DEGREES | {"n", "north", "south"},  # "Lat S" is one of seconds
    "limits__bi_limit": _MONEY | _MONTHS,
    "limits__bpp_limit": _MONEY,
    "limits__building_limit": _MONEY,
    "limits__signs_and_other_limit": _MONEY,
    "longitude": _DEGREES | {"e", "east", "w", "west"},
    Part.LAT_LONG: _DEGREES,
    Part.LONG_LAT: _DEGREES,
    "postal_code": frozenset({"5", "9", "digit", "digits", "us"}),
    "state": frozenset({"2", "letter", "code", "abbreviation", "abbrev", "abbr", "us"}),
}
"""Words of a unit or a format that may follow, by meaning; not "000s", "EUR" or "sq m", which the
field does not hold."""

_WORDS_FOR_NUMBERS = "no num number nr nbr hn house hse building bldg addr address"
WORDS_FOR_NUMBERS = frozenset(_WORDS_FOR_NUMBERS.split())
"""Words that a header of house numbers may contain."""

_NEVER_HOUSE_NUMBERS = """
account acct acreage acres age agent ain amount amt apn area assessed assets bathrooms baths bed
bedrooms beds billing bldgs block book broker buildings buyer capacity cd census claim class cnt
code column company contact cost count cov coverage cresta currency customer data date day days
ded deductible depth dist distance district easting elevation emp employees exposure facility
factor fax fee feet fips floor floors folio ft gid gross guid hash height id ids income index
insured invoice iso item key land lat latitude length level limit line lon long longitude lot lots
mail mailing map market max miles min mobile month months naics northing object objectid occ oid
order owner page parcel payroll pct people percent peril permit phone pin plat policy pop
population postal postcode ppc premium price prop protection qty quantity range rank rate rating
ratio rec record ref rent rental rents revenue risk roll room rooms row rows sales score section
seller seq sequence sf sheet sic size slip sort source sprinkler sq sqft square staff state status
storeys stories story subdivision sum swis tax taxpayer tel telephone tenant tenants term tier
time tiv total township tract type unit units uprn use usrn uuid val valuation value values
version visits volume ward weight width x y year years yr yrs zip zone zoning
"""
NEVER_HOUSE_NUMBERS = frozenset(_NEVER_HOUSE_NUMBERS.split())
"""Words of other numbers: ids, values, years, counts, measures, addresses of others."""
