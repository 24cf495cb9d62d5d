"""What the cells of real forms mean: headers and two rows in, the locations that are sent out.

To add one: put it into the section of its kind, its cells separated by "|".
Whatever the order of its columns and rows, and the kind of its file, the same is sent.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from pingdata_async.exceptions import InputError
from pingdata_async.locations.normalize import normalize, normalize_batch
from pingdata_async.models import Location
from pingdata_async.value_notes import ValueKind, sentence
from tests.support.reading import Given, read_all
from tests.support.sweeps import is_sample


class Form(NamedTuple):
    """A form, two rows of it, and what is sent of the first one, or else what is said of it."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], tuple[str, ...]]
    sent: dict[str, Any]
    said: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "|".join(self.headers)[:60]


def form(headers: str, first: str, second: str, **sent: Any) -> Form:
    """A form whose first row is sent as that; fields that are not named are not sent."""
    return Form(_cells(headers), (_cells(first), _cells(second)), sent)


def forms(text: str) -> list[Form]:
    """Forms between blank lines: headers, two rows, what is sent of the first ("= field: value").

    Or else what has to be said ("! text"). A line that begins with "# " says where a form is from.
    """
    return [
        _form([line for line in block.split("\n") if line[:2] != "# "])
        for block in text.strip("\n").split("\n\n")
    ]


def _form(lines: list[str]) -> Form:
    headers, first, second = map(_cells, lines[:3])
    pairs = [each for line in lines[3:] if line[0] == "=" for each in line[2:].split(" | ")]
    texts = dict(each.split(": ", 1) for each in pairs)
    location = msgspec.convert(texts, Location, strict=False)
    return Form(
        headers,
        (first, second),
        {name: getattr(location, name) for name in texts},
        tuple(line[2:] for line in lines[3:] if line[0] == "!"),
    )


def _cells(line: str) -> tuple[str, ...]:
    return tuple(line.split("|"))


# -- House numbers, units, directions and kinds of street in columns of their own ------------

STREETS = [
    *forms("""
House #|Street|City|State|Zip
12|Main St|Boston|MA|02134
14|Elm St|Boston|MA|02134
= address_line_1: 12 Main St | city: Boston | state: MA | postal_code: 02134

NUMBER|STREET|UNIT|CITY|DISTRICT|REGION|POSTCODE|HASH
104|Sample Street|5|Boston||MA|02134|a1
102|Sample Street||Boston||MA|02134|a2
= address_line_1: 104 Sample Street Unit 5 | city: Boston | state: MA | postal_code: 02134

addr:housenumber|addr:street|addr:unit|addr:city|addr:state|addr:postcode
100|Sample St||Boston|MA|02134
102|Sample St|4B|Boston|MA|02134
= address_line_1: 100 Sample St | city: Boston | state: MA | postal_code: 02134

AddNum_Pre|Add_Number|AddNum_Suf|St_PreDir|St_PreTyp|St_Name|St_PosTyp|St_PosDir|Unit|Inc_Muni|Post_City|State|Zip_Code|Plus_4
|12|1/2|North||Main|Street|West|Apt 4|Suffolk|Boston|MA|02134|1234
N6W|23||||Elm|Street||||Boston|MA|02134|
= address_line_1: 12 1/2 North Main Street West Apt 4 | city: Boston | state: MA
= postal_code: 02134

Add_Number|AddNo_Full|St_Name|St_PosTyp|StNam_Full|Post_City|State|Zip_Code
12|12 A|Main|Street|Old Main Street|Boston|MA|02134
14|14|Elm|Street|Elm Street|Boston|MA|02134
= address_line_1: 12 A Old Main Street | city: Boston | state: MA | postal_code: 02134

SitusHouseNo|SitusFraction|SitusDirection|SitusStreet|SitusUnit|SitusCity|SitusZIP|AIN|UseCode
4321|1/2|W|SUNSET BLVD||LOS ANGELES|90029|5429001001|0100
12||N|MAIN ST|C|LOS ANGELES|90012|5429001002|0101
= address_line_1: 4321 1/2 W SUNSET BLVD | city: LOS ANGELES | postal_code: 90029

SITUS_HOUSE_NO|SITUS_STREET_NAME|SITUS_STREET_TYPE|SITUS_CITY|SITUS_ZIP|MAIL_ADDR|MAIL_CITY|OWNER
0000123|MAIN|ST|BOSTON|02134|PO BOX 1|NEW YORK|SMITH
0|ELM|ST|BOSTON|02134|PO BOX 2|ALBANY|JONES
= address_line_1: 123 MAIN ST | city: BOSTON | postal_code: 02134

PROP_HOUSE_NUM|PROP_STREET_NAME|PROP_SUFFIX|PROP_UNIT_NUMBER|PROP_CITY|PROP_STATE|PROP_ZIP_CODE
12|MAIN|ST|4|BOSTON|MA|02134
14|ELM|ST||BOSTON|MA|02134
= address_line_1: 12 MAIN ST Unit 4 | city: BOSTON | state: MA | postal_code: 02134

LOC_ST_NBR|LOC_STREET|LOC_UNIT|LOC_ZIP|MUNI_NAME|ROLL_YR
100|MAIN ST||14215|Buffalo|2024
102|MAIN ST|2|14215|Buffalo|2024
= address_line_1: 100 MAIN ST | postal_code: 14215 | city: Buffalo

LOC_ST_NUM|LOC_ST_NAME|LOC_CITY|LOC_STATE|LOC_ZIP
100|MAIN ST|Buffalo|NY|14215
102|MAIN ST|Buffalo|NY|14215
= address_line_1: 100 MAIN ST | city: Buffalo | state: NY | postal_code: 14215

str_num|str_num_sfx|str_pfx|str|str_sfx|str_sfx_dir|str_unit|site_city|site_zip
12|A||MAIN|ST|S|4|HOUSTON|77002
14|||ELM|DR|||HOUSTON|77002
= address_line_1: 12A MAIN ST S Unit 4 | city: HOUSTON | postal_code: 77002

BuildingNumber|Fraction|DirectionPrefix|StreetName|StreetType|DirectionSuffix|ZipCode
12|1/2|N|MAIN|ST||98101
14|||ELM|AVE|SW|98101
= address_line_1: 12 1/2 N MAIN ST | postal_code: 98101

St Num|Street|street_direction|street_designation|City|State|Zip
12|Main|N|St|Boston|MA|02134
14|Elm|S|Ave|Boston|MA|02134
= address_line_1: 12 N Main St | city: Boston | state: MA | postal_code: 02134

street_number|route|locality|administrative_area_level_1|postal_code
12|Main St|Boston|MA|02134
14|Elm St|Boston|MA|02134
= address_line_1: 12 Main St | city: Boston | state: MA | postal_code: 02134

No.|Street|City|State|Zip
12|Main St|Boston|MA|02134
14|Elm St|Boston|MA|02134
= address_line_1: 12 Main St | city: Boston | state: MA | postal_code: 02134

Num|Street Name|Suffix|City|State|Zip
12.0|Main|St|Boston|MA|02134
14.0|Elm|1/2|Boston|MA|02134
= address_line_1: 12 Main St | city: Boston | state: MA | postal_code: 02134

Num|Street Name|Suffix|City|State|Zip
12.0|Main St|1/2|Boston|MA|02134
14.0|Elm|St|Boston|MA|02134
= address_line_1: 12 1/2 Main St | city: Boston | state: MA | postal_code: 02134

House No|St|City|Zip
12|Main St|Boston|02134
14|Elm St|Boston|02134
= address_line_1: 12 Main St | city: Boston | postal_code: 02134

House No|Street|City|St|Zip
12|Main St|Boston|MA|02134
14|Elm St|Boston|MA|02134
= address_line_1: 12 Main St | city: Boston | state: MA | postal_code: 02134

House No|Street|St|City|State|Zip
12|Main|St|Boston|MA|02134
14|Elm|Ave|Boston|MA|02134
= address_line_1: 12 Main St | city: Boston | state: MA | postal_code: 02134

House No|Street|City|State|Zip
12-14|12-14 Main St|Boston|MA|02134
16|Elm St|Boston|MA|02134
= address_line_1: 12-14 Main St | city: Boston | state: MA | postal_code: 02134

House No|Street|City|State|Zip
5|5 Avenue|New York|NY|10003
12A|Elm St|New York|NY|10003
= address_line_1: 5 5 Avenue | city: New York | state: NY | postal_code: 10003

House No|Street|Dir|Kind of Street|City
0|Main|||Boston
12 1/2|Elm|W||Boston
= address_line_1: Main | city: Boston

Street Number|Street Address|Unit|City|State|Zip
12|Main St|Apt 3|Boston|MA|02134
14|14 Elm St Unit 5|5|Boston|MA|02134
= address_line_1: 12 Main St Apt 3 | city: Boston | state: MA | postal_code: 02134

Street Number|Street Address|Unit|City|State|Zip
14|14 Elm St Unit 5|5|Boston|MA|02134
12|Main St|Apt 3|Boston|MA|02134
= address_line_1: 14 Elm St Unit 5 | city: Boston | state: MA | postal_code: 02134

Street|Street Type|City|State|Zip
12 Main|St|Boston|MA|02134
14 Elm St|St|Boston|MA|02134
= address_line_1: 12 Main St | city: Boston | state: MA | postal_code: 02134

Strasse|Hausnummer|PLZ|Ort
Hauptstr.|12|80331|München
Marktplatz|3a|80331|München
= address_line_1: Hauptstr. 12 | postal_code: 80331 | city: München

Straße|Hausnr.|Postleitzahl|Stadt|Land
Hauptstraße|12|80331|München|DE
Marktplatz|3a|80331|München|DE
= address_line_1: Hauptstraße 12 | postal_code: 80331 | city: München | country: DE

Straat|Huisnummer|Huisletter|Huisnummertoevoeging|Postcode|Woonplaats
Damrak|12|A|2|1012 AB|Amsterdam
Rokin|3|||1012 AC|Amsterdam
= address_line_1: Damrak 12A-2 | postal_code: 1012 AB | city: Amsterdam

Calle|Número|CP|Localidad|Provincia
Calle Mayor|12|28013|Madrid|Madrid
Calle Luna|3|28013|Madrid|Madrid
= address_line_1: Calle Mayor 12 | postal_code: 28013 | city: Madrid | state: Madrid

Tipo vía|Nombre vía|Número|CP|Municipio
Calle|Mayor|12|28013|Madrid
Avenida|América|3|28013|Madrid
= address_line_1: Calle Mayor 12 | postal_code: 28013 | city: Madrid

Via|Civico|CAP|Comune|Provincia
Via Roma|12|00184|Roma|RM
Via Po|3/A|00184|Roma|RM
= address_line_1: Via Roma 12 | postal_code: 00184 | city: Roma | state: RM

Numéro|Rue|Code postal|Ville
12|Rue de Rivoli|75001|Paris
3 bis|Rue du Bac|75007|Paris
= address_line_1: 12 Rue de Rivoli | postal_code: 75001 | city: Paris

numero|rep|nom_voie|code_postal|nom_commune
12|bis|Rue de Rivoli|75001|Paris
3||Rue du Bac|75007|Paris
= address_line_1: 12 bis Rue de Rivoli | postal_code: 75001 | city: Paris

House Number|Street|City|Postal Code|Country
12|Hauptstrasse|Wien|1010|Austria
14|Main St|Boston|02134|USA
= address_line_1: Hauptstrasse 12 | city: Wien | postal_code: 1010 | country: Austria

House Number|Street|Unit|City|Postal Code|Country
12|Hauptstrasse|4|Wien|1010|AT
14|Elm St|4|Boston|02134|US
= address_line_1: Hauptstrasse 12/4 | city: Wien | postal_code: 1010 | country: AT

Hausnummer|Strasse|PLZ|Ort|Country
14|Elm St|02134|Boston|US
12|Hauptstrasse|80331|München|DE
= address_line_1: 14 Elm St | city: Boston | postal_code: 02134 | country: US

ulica|nr domu|kod pocztowy|miejscowość
Marszałkowska|12|00-590|Warszawa
Polna|3|00-622|Warszawa
= address_line_1: Marszałkowska 12 | postal_code: 00-590 | city: Warszawa

Gata|Husnummer|Postnummer|Postort
Storgatan|12|111 22|Stockholm
Lillgatan|3|111 22|Stockholm
= address_line_1: Storgatan 12 | postal_code: 111 22 | city: Stockholm

Sub Building Name|Building Name|Building Number|Thoroughfare|Post Town|Postcode
Flat 4||12|High Street|Kirkby|L32 0TA
|Rose Cottage||Low Street|Kirkby|L32 0TA
= address_line_1: Flat 4, 12 High Street | city: Kirkby | postal_code: L32 0TA

paon|saon|street|locality|town|district|county|postcode
ROSE COTTAGE||HIGH STREET|WESTVALE|KIRKBY|KNOWSLEY|MERSEYSIDE|L32 0TA
12|FLAT 4|LOW STREET||KIRKBY|KNOWSLEY|MERSEYSIDE|L32 0TA
= address_line_1: ROSE COTTAGE, HIGH STREET | city: KIRKBY | county: MERSEYSIDE
= postal_code: L32 0TA

Building Number|Street|Town|Postcode
12|High Street|Kirkby|L32 0TA
14|Low Street|Kirkby|L32 0TA
= address_line_1: 12 High Street | city: Kirkby | postal_code: L32 0TA

address|zipcode|borough|numfloors|yearbuilt
12 MAIN STREET|10001|MN|5|1920
14 MAIN STREET|10001|MN|6|1921
= address_line_1: 12 MAIN STREET | postal_code: 10001 | const__num_stories: 5
= const__bldg_year_built: 1920

Unique ID|Street address|City|State|ZIP
1|12 Main St|Boston|MA|02134
2|14 Elm St|Boston|MA|02134
= address_line_1: 12 Main St | city: Boston | state: MA | postal_code: 02134

Hsnbr|Street|City|State|Zip
12|Main St|Boston|MA|02134
15|Main St|Boston|MA|02134
! "Hsnbr" looks like house numbers (1
! --map address_line_1="Hsnbr+Street"
! --map address_line_1="Street"

Bldg|Location Address|City|Zip
100|Main St|Boston|02134
104A|Elm St|Boston|02134
! --map address_line_1="Bldg+Location Address"

Column7|Address|TIV
100|Main St, Boston|5000
250|Elm St, Boston|6000
! --map address="Column7+Address"

No.|Street|City|Zip
1|12 Main St|Boston|02134
2|14 Elm St|Boston|02134
! in 2 of 2 rows
! --map address_line_1="Street" or --map address_line_1="No.+Street"

Street|City|Zip|TIV|Year Renovated|Risk ID|Prot Class|Employees|Mailing Number|Seq
Main St|Boston|02134|5000|1990|77|4|12|100|1
Elm St|Boston|02134|6000|1995|99|7|40|250|2
= address_line_1: Main St | city: Boston | postal_code: 02134

Street|City|Zip|Opened|Nickname|Visits
Main St|Boston|02134|1990|12 Monkeys|31
Elm St|Boston|02134|2005|x|55
= address_line_1: Main St | city: Boston | postal_code: 02134

Street|City|Zip|Hsnbr
12 Main St|Boston|02134|12
14 Elm St|Boston|02134|15
= address_line_1: 12 Main St | city: Boston | postal_code: 02134

Street|Lat|Long|Hsnbr
Main St|42.1|-71.1|12
Elm St|42.2|-71.2|15
= address_line_1: Main St | latitude: 42.1 | longitude: -71.1

N°|Voie|CP|Commune
12|Rue de Rivoli|75001|Paris
3 bis|Rue du Bac|75007|Paris
= address_line_1: 12 Rue de Rivoli | postal_code: 75001 | city: Paris

Calle|Numero Exterior|Código Postal|Municipio|Estado
Av. Juárez|12|06050|Cuauhtémoc|CDMX
Calle Luna|3|06050|Cuauhtémoc|CDMX
= address_line_1: Av. Juárez 12 | postal_code: 06050 | city: Cuauhtémoc | state: CDMX

# Cook County
pin|prop_address_full|prop_address_city_name|prop_address_state|prop_address_zipcode_1|mail_address_full|mail_address_city_name
17|12 W MAIN ST|CHICAGO|IL|60601|9 ELM RD|RENO
18|14 W MAIN ST|CHICAGO|IL|60601|9 ELM RD|RENO
= address_line_1: 12 W MAIN ST | city: CHICAGO | state: IL | postal_code: 60601

# G-NAF, the addresses of Australia
FLAT_NUMBER|NUMBER_FIRST|NUMBER_FIRST_SUFFIX|NUMBER_LAST|STREET_NAME|STREET_TYPE_CODE|STREET_SUFFIX_CODE|LOCALITY_NAME|STATE_ABBREVIATION|POSTCODE
2|12|A|14|HIGH|STREET|N|PERTH|WA|6000
|16|||HIGH|STREET||PERTH|WA|6000
= address_line_1: Flat 2, 12A-14 HIGH STREET N | city: PERTH | state: WA | postal_code: 6000

# the housing department of the United States
PROPERTY_ID|STD_ADDR|STD_CITY|STD_ST|STD_ZIP5|STD_ZIP9
1|12 MAIN ST|BOSTON|MA|02101|021011234
2|14 MAIN ST|BOSTON|MA|02101|021011234
= address_line_1: 12 MAIN ST | city: BOSTON | state: MA | postal_code: 02101

# Canada's open addresses: the street is whole
street_no|street|str_name|str_type|str_dir|unit|city|postal_code
12|Main St W|Main|St|W||Toronto|M5V 1A1
14|Main St W|Main|St|W|3|Toronto|M5V 1A1
= address_line_1: 12 Main St W | city: Toronto | postal_code: M5V 1A1

SITUS_NUM|SITUS_DIR|SITUS_STREET|SITUS_SUFFIX|SITUS_UNIT|SITUS_CITY|SITUS_ZIP|MAIL_NUM|MAIL_STREET
12|N|MAIN|ST|4|BOSTON|02101|9|ELM
14|N|MAIN|ST||BOSTON|02101|9|ELM
= address_line_1: 12 N MAIN ST Unit 4 | city: BOSTON | postal_code: 02101

addr:housenumber|addr:street|addr:city|addr:region|addr:postcode
12|High St|Boston|MA|02134
14|High St|Boston|MA|02134
= address_line_1: 12 High St | city: Boston | state: MA | postal_code: 02134

# PLUTO: a borough is a code there
borough|block|lot|address|zipcode|numfloors|yearbuilt|unitstotal
MN|1|7|12 MAIN STREET|10004|3|1900|4
BK|2|8|14 MAIN STREET|11201|0|0|4
= address_line_1: 12 MAIN STREET | postal_code: 10004 | const__num_stories: 3
= const__bldg_year_built: 1900

# what is no part of the insured's place
Owner Street|Owner City|Mail Zip|House No|Street|City|St|No. of Units|Units
9 Elm Rd|Reno|89501|12|North|St Louis|MO|4|4
9 Elm Rd|Reno|89501|14|Unit Road|St Louis|MO|4|4
= address_line_1: 12 North | city: St Louis | state: MO

Address|Suite|City|Country
12 Main St|4B|Null|NA
14 Main St|-|Windhoek|NA
= address_line_1: 12 Main St | address_line_2: 4B | country: NA
"""),
    *(
        form("Address|Lat|Long", f"12 Main St, Boston|{pair}", row, address="12 Main St, Boston")
        for pair in ("42.1|0", "0.0|-71.1", "0|0")
        for row in ("14 Main St, Boston|42.1|-71.1",)
    ),
]

# -- Parts of a street in rows without one ---------------------------------------------------

TOWN = {"city": "Boston", "postal_code": "02134"}

WITHOUT_A_STREET = [
    *forms("""
House No|Street|City State Zip
12||Boston MA 02134
14|Elm St|Boston MA 02134
= address: Boston MA 02134

House No|Street|City|Country
12||Boston|US
12||Dorf|DE
= city: Boston | country: US
"""),
    *(
        form(f"{headers}|City|Zip", f"{first}|Boston|02134", f"{second}|Boston|02134", **TOWN)
        for headers, first, second in (
            ("House #|Street", "12|", "14|Elm St"),
            ("House #|Street", "12|N/A", "14|Elm St"),
            ("House #|Street", "12 bis| ", "14|Elm St"),
            ("House #|Street", "12 and 14|", "14|Elm St"),
            ("House #|Street Address", "12|", "14|Elm St"),
            ("NUMBER|STREET|UNIT", "12||4", "14|Elm St|"),
            ("NUMBER|STREET|UNIT", "Apt 12||4", "14|Elm St|"),
            ("NUMBER|STREET|UNIT", "||Apt 4", "14|Elm St|"),
            ("St Num|Dir|Street Name|Street Type", "12|N||St", "14||Elm|St"),
            ("Flat Number|House Number|Street", "4|12|", "|14|Elm St"),
            # Canada's open addresses: the name of the street is in the whole one.
            ("street_no|street|str_name|str_type", "12||Main|St", "14|Elm St|Elm|St"),
        )
    ),
    form(
        "Full Address|House No|Street|City|Zip",
        "12 Main St, Boston|12||Boston|02134",
        "14 Elm St, Boston|14|Elm St|Boston|02134",
        address="12 Main St, Boston",
        **TOWN,
    ),
]

NUMBERS_OF_VILLAGES = [
    *forms("""
House No|Street|City|Country
12||Dorf|DE
12||Boston|US
= address_line_1: 12 | city: Dorf | country: DE

Hausnummer|Straße|PLZ|Ort
12||94569|Dorf
14|Hauptstr.|94569|Dorf
= address_line_1: 12 | city: Dorf | postal_code: 94569
"""),
    *(
        form(
            "paon|street|town|postcode",
            f"{name}||KIRKBY|L32 0TA",
            "12|LOW STREET|KIRKBY|L32 0TA",
            address_line_1=name,
            city="KIRKBY",
            postal_code="L32 0TA",
        )
        for name in ("ROSE COTTAGE", "2 ROSE COTTAGES", "FLAT 2, THE MILL")
    ),
    form("House #|Street|City|Zip", "0||Boston|02134", "14|Elm St|Boston|02134", **TOWN),
]

# -- Combined tails; a one-line address and its parts ----------------------------------------

ONE_LINE = [
    *forms("""
Full Address|TIV
12 Main St, Boston, MA 02134|1000
14 Main St, Boston, MA 02134|1000
= address: 12 Main St, Boston, MA 02134

Street Address|City/State/Zip
12 Main St|Boston, MA 02134
14 Elm St|Boston, MA 02134
= address: 12 Main St, Boston, MA 02134

Address|City, ST ZIP|Yr Built
12 Main St|Boston, MA 02134|1950
14 Elm St|Boston, MA 02134|1951
= address: 12 Main St, Boston, MA 02134 | const__bldg_year_built: 1950

Address Line 1|Address Line 2|CSZ
12 Main St|Suite 4|Boston MA 02134
14 Elm St||Boston MA 02134
= address: 12 Main St, Suite 4, Boston MA 02134

House No|Street|City State Zip
12|Main St|Boston MA 02134
14|Elm St|Boston MA 02134
= address: 12 Main St, Boston MA 02134

Location Address|City, State|Zip
12 Main St|Boston, MA|02134
14 Elm St|Boston, MA|02134
= address: 12 Main St, Boston, MA | postal_code: 02134

Street Address|City|State/Zip
12 Main St|Boston|MA 02134
14 Elm St|Boston|MA 02134
= address: 12 Main St, Boston, MA 02134

Straße|Nr.|PLZ/Ort
Hauptstr.|12|80331 München
Marktplatz|3a|80331 München
= address: Hauptstr. 12, 80331 München

Street Address|City|State|Zip|City State Zip
12 Main St|Boston|MA|02134|Boston MA 02134
14 Elm St|Boston|MA|02134|Boston MA 02134
= address_line_1: 12 Main St | city: Boston | state: MA | postal_code: 02134

Full Address|Street Address|City|State|Zip
12 Main St, Boston, MA 02134|12 Main St|Boston|MA|02134
14 Elm St, Boston, MA 02134||||
= address_line_1: 12 Main St | city: Boston | state: MA | postal_code: 02134

Full Address|Street Address|City|State|Zip
14 Elm St, Boston, MA 02134||||
12 Main St, Boston, MA 02134|12 Main St|Boston|MA|02134
= address: 14 Elm St, Boston, MA 02134

ADDRESS1|ADDRESS2|ADDRESS3|POSTCODE|ADDRESS|POSTTOWN
Flat 4|12 High Street|Westvale|L32 0TA|Flat 4, 12 High Street, Westvale|KIRKBY
1 Low Street|||L32 0TA|1 Low Street|KIRKBY
= address_line_1: Flat 4 | address_line_2: 12 High Street, Westvale | city: KIRKBY
= postal_code: L32 0TA

RegAddress.AddressLine1|RegAddress.AddressLine2|RegAddress.PostTown|RegAddress.County|RegAddress.Country|RegAddress.PostCode|CompanyNumber
12 High Street|Westvale|KIRKBY|MERSEYSIDE|ENGLAND|L32 0TA|0123
14 High Street||KIRKBY|MERSEYSIDE|ENGLAND|L32 0TA|0124
= address_line_1: 12 High Street | address_line_2: Westvale | city: KIRKBY | county: MERSEYSIDE
= country: ENGLAND | postal_code: L32 0TA
"""),
]

# -- Headings of postal codes, and zeros -----------------------------------------------------

MA_US = (("state", "MA"), ("country", "US"))

POSTAL_CODES = [
    form(
        "Street Address|Zip",
        "12 Main St|02134",
        "14 Main St|02134",
        address_line_1="12 Main St",
        postal_code="02134",
    ),
]

POSTAL_CODES += [
    form(f"Loc City|{headers}", f"x|{row}", "y|02134|MA|US", city="x", **dict(sent))
    for headers, row, sent in (
        ("Zip|State|Country", "2134|MA|US", (("postal_code", "02134"), *MA_US)),
        ("ZIP|ST|Country", "2134.0|MA|", (("postal_code", "02134"), ("state", "MA"))),
        ("Zip Code|State|Cntry", "501||USA", (("postal_code", "00501"), ("country", "USA"))),
        ("POSTALCODE|STATE|COUNTRY", "21345678|MA|US", (("postal_code", "02134-5678"), *MA_US)),
        ("Post Code|State|Country", "6000|WA|", (("postal_code", "6000"), ("state", "WA"))),
        ("postcode|state|country", "3182||", (("postal_code", "3182"),)),
        ("Postal|Province|Country", "8001||CH", (("postal_code", "8001"), ("country", "CH"))),
        ("zip|state|country", "7701|TX|", (("postal_code", "7701"), ("state", "TX"))),
        ("ZIP|ZIP4|ST", "6510|6789|CT", (("postal_code", "06510"), ("state", "CT"))),
        ("Zip Code|Plus4|State", "06510|6789|CT", (("postal_code", "06510"), ("state", "CT"))),
        ("ZIP+4|ST|Country", "6789|CT|US", (("state", "CT"), ("country", "US"))),
        ("Zip|State|Country", "00000|MA|US", MA_US),
        ("ZIP Code|State|Country", "99999|MA|", (("state", "MA"),)),
        ("Zip|State|Country", "00000-0000||", ()),
        ("Zip|State|Country", "0|MA|US", MA_US),
        ("Zip|State|Country", "99999||DE", (("postal_code", "99999"), ("country", "DE"))),
        ("Zip Plus 4|ST|x", "65106789|CT|", (("postal_code", "06510-6789"), ("state", "CT"))),
    )
]

# -- Coordinates -----------------------------------------------------------------------------

COORDINATES = [
    *forms("""
Zip|Latitude N|Longitude W
02134|40.5|79.75 E
02135|42.1|n/a
= postal_code: 02134 | latitude: 40.5 | longitude: 79.75

Zip|Lat|Latitude|Long
02134|25.77|25.77|-80.19
02135|25.78|25.78|-80.20
! --map latitude="Lat"

Lat|Long
25.77|-80.19
25.78|-80.20
= latitude: 25.77 | longitude: -80.19
"""),
    *(
        form(f"Zip|{headers}", f"02134|{nowhere}", "02135|42.1|-71.1", postal_code="02134")
        for headers, nowhere in (
            ("Latitude|Longitude", "0|0"),
            ("LATITUDE|LONGITUDE", "0.000000|-0.0"),
            ("Lat|Lon", "-999|9999"),
            ("LAT|LONG", "|-71.1"),
            ("GPS Lat|GPS Long", "42.1|tbd"),
            ("Site Latitude|Site Longitude", "42.1 W|-71.1"),
            ("latitude|longitude", "-42.1 N|-71.1"),
            ("Geo Lat|Geo Lng", "4675512.3|583960"),
        )
    ),
    *(
        form(f"Zip|{headers}", f"02134|{half}", f"02135|{whole}", postal_code="02134")
        for headers, half, whole in (
            ("Lat Deg|Lat Min|Long Deg|Long Min", "42||-71|5", "42|5|-71|5"),
            ("LatD|LatM|LatS|LonD|LonM|LonS", "42|5|0|-71|5|", "42|5|0|-71|5|0"),
            ("Lat Deg|Lat Sec|Long Deg|Long Sec", "42|5|-71|5", "42|6|-71|6"),
            ("Lat|Lat Dir|Long|Long Dir", "42.1|N|71.1|", "42.1|N|71.1|W"),
            ("Latitude|Lat Min|Longitude|Long Min", "42.1|6|-71.1|6", "42|6|-71|6"),
        )
    ),
    *(
        form(headers, first, second, latitude=latitude, longitude=longitude)
        for headers, first, second, latitude, longitude in (
            ("Lat|Long", "40|-74", "41|-74", 40.0, -74.0),
            ("Lat|Long", "51.478|0", "51.5|0.1", 51.478, 0.0),
            ("Latitude|Longitude", "48,8566|2,3522", "0,045|-0,001", 48.8566, 2.3522),
            ("Latitude|Longitude", "0,045|-0,001", "48,8566|2,3522", 0.045, -0.001),
            ("Latitude (South)|Longitude (East)", "33.75|151.25", "34|151", -33.75, 151.25),
        )
    ),
]

ANGLES = [
    form(headers, first, second, latitude=40.5, longitude=-79.75)
    for headers, first, second in (
        ("Lat|Long", "40\u00b030'N|79\u00b045'0\"W", "41|-80"),
        ("Lat|Long", "N40-30-00|W079-45-00", "41|-80"),
        ("Lat (DMS)|Long (DMS)", "40 30 0 N|79 45 0 W", "41|-80"),
        ("Lat/Long|TIV", "(40.5, -79.75)|5", "41, -80|6"),
        ("Lat, Long|TIV", "40,5; -79,75|5", "41, -80|6"),
        ("Lat Long|TIV", "POINT (-79.75 40.5)|5", "41, -80|6"),
        ("LatLng|TIV", "79.75\u00b0 W 40.5\u00b0 N|5", "41, -80|6"),
        # Who writes W above a number without a sign means one that is west.
        ("Latitude N|Longitude W", "40.5|79.75", "41|80"),
        ("Lat (N)|Long (W)", "40.5|-79.75", "41|80"),
        ("Lat N|Long W", "40.5|79\u00b0 45'", "41|80"),
        ("Latitude (\u00b0N)|Longitude (\u00b0W)", "40,5|79,75", "41|80"),
        ("Lat North|Long West", "40.5|79.75 W", "41|80"),
        ("Latitude N|Longitude E", "40.5|-79.75", "41|80"),
        ("Long/Lat|TIV", "-79.75, 40.5|5", "-80, 41|6"),
        ("LonLat|TIV", "POINT (-79.75 40.5)|5", "-80 41|6"),
        ("geo_point_2d|TIV", "40.5, -79.75|5", "41, -80|6"),
        ("GPS Coordinates|TIV", "N 40 30.0, W 79 45.0|5", "41, -80|6"),
        ("Lat (DMS)|Long (DMS)|Lat (DD)|Long (DD)", "||40.5|-79.75", "||1|1"),
        (
            "LAT_DEG|LAT_MIN|LAT_SEC|LON_DEG|LON_MIN|LON_SEC",
            "40|30|0|-79|45|0",
            "41|0|0|-80|0|0",
        ),
        (  # antenna structures of the FCC
            "loc_lat_deg|loc_lat_min|loc_lat_sec|loc_lat_dir|loc_long_deg|loc_long_min|loc_long_dir",
            "40|30|0.0|N|79|45.0|W",
            "41|0|0.0|N|80|0|W",
        ),
        (
            "Lat Deg|Lat Min|N/S|Long Deg|Long Min|E/W",
            "40|30.000|N|79|45.000|W",
            "41|0|N|80|0|W",
        ),
        (
            "Lat\u00b0|Lat\u2032|Lat\u2033|Long\u00b0|Long\u2032|Long\u2033",
            "40|30|0|-79|45|0",
            "41|0|0|-80|0|0",
        ),
        (
            "GPSLatitude|GPSLatitudeRef|GPSLongitude|GPSLongitudeRef",
            "40.5|N|79.75|W",
            "41|N|80|W",
        ),
        ("Lat|N/S|Long|E/W", "40.5|North|79.75|West", "41|N|80|W"),
        ("Breitengrad|L\u00e4ngengrad", "40,5|-79,75", "41|-80"),
        ("Latitud|Longitud", "40,5\u00b0 N|79,75\u00b0 Oeste", "41|-80"),
        ("Latitude (Y)|Longitude (X)", "40.5|-79.75", "41|-80"),
        ("INTPTLAT|INTPTLONG", "+40.5|-079.75", "+41|-080"),  # gazetteers of the census
        ("Lat Deg|Long Deg", "40.5|-79.75", "41|-80"),
        ("Latitude|Lat Min|Lat Max|Longitude", "40.5|40|41|-79.75", "41|1|2|-80"),
        (
            "Latitude|Longitude|Lat Deg|Lat Min|Long Deg|Long Min",
            "40.5|-79.75|9|9|9|9",
            "41|-80|9|9|9|9",
        ),
    )
]

# -- Words for nothing, codes for unknown ----------------------------------------------------

NOTHING = [
    *forms("""
Zip|Yr Built
02134|
02135|1950
= postal_code: 02134

PostalCode|YearBuilt|NumberOfStoreys
02134|0|-1
02135|1950|2
= postal_code: 02134

Zip|YEARBUILT|NUMSTORIES|BLDGAREA
02134|9999|0|0
02135|1950|2|900
= postal_code: 02134

Zip|Year Built|# Stories|Sq Ft|Building Limit
02134|-999|-999|-999|-999
02135|1950|2|900|0
= postal_code: 02134

Address|City|Zip|Stories
n/a|NULL|02134|TBD
-|x|02135|2
= postal_code: 02134

Street|City|Zip
k.A.|Bonn|53111
Am Markt 1|unbekannt|53111
= city: Bonn | postal_code: 53111

Street|City|Zip|County
néant|Lyon|69001|s/o
1 rue X|Lyon|69002|Rhône
= city: Lyon | postal_code: 69001

City|State|Country
Napoli|NA|Italy
Roma|RM|Italy
= city: Napoli | state: NA | country: Italy

City|State|Country
Windhoek|NA|NA
Oslo||NO
= city: Windhoek | country: NA

City|State|County
Boston|NA|#N/A
Austin|TX|None
= city: Boston

House #|Street|Zip
N/A|Main St|02134
12|Elm St|02134
= address_line_1: Main St | postal_code: 02134
"""),
]

# -- Numbers, units in them, limits ----------------------------------------------------------

NUMBERS = [
    *forms("""
Zip|Sq Ft|Yr Built|Building Limit|# Stories
02134|12,500 sf|c. 1950|$1.2M|2 stories
02135|1|1950|1|1
= postal_code: 02134 | const__bldg_area: 12500 | const__bldg_year_built: 1950
= limits__building_limit: 1200000.0 | const__num_stories: 2

Zip|Sq Ft|Yr Built|Building Limit|# Stories
02134|1161 m2|1950s|5%|3 + basement
02135|1|1950|1|1
= postal_code: 02134

Zip|Sq Ft|Yr Built|Building Limit|# Stories
02134|2345.67|1987-05-01|1.200.000,00|2.0
02135|1|1950|1|1
= postal_code: 02134 | const__bldg_area: 2346 | const__bldg_year_built: 1987
= limits__building_limit: 1200000.0 | const__num_stories: 2

Zip|Sq Ft|Yr Built|Building Limit|# Stories
02134|1.200|87|1.200|2.5
02135|1|1950|1|1
= postal_code: 02134

Zip|Bldg Limit|# Stories
02134|$1,200,000|3
02135|5|2
= postal_code: 02134 | limits__building_limit: 1200000.0 | const__num_stories: 3

Zip|BI Months|BI Limit (Months)|Rents/Mo|Construction
02134|12|18|1000|4
02135|12|18|1000|Frame
= postal_code: 02134

Zip|BI (12 months)|BI Deductible|Monthly Rents|Occupancy|Const. Type
02134|120000|5000|1000|Offices|ISO 4
02135|12|18|1000|344|6.0
= postal_code: 02134 | limits__bi_limit: 120000.0 | occupancy__type_desc: Offices
= const__desc_ping: ISO 4

Zip|Annual Rents|Rents per Unit|Bldg Value / Sq Ft|Roof Covering|Exterior Walls
02134|120000|1000|250|3|Brick
02135|12|18|100|Shingle|2
= postal_code: 02134 | limits__bi_limit: 120000.0 | const__wall_type: Brick
"""),
]

FORMS = [
    *(*STREETS, *WITHOUT_A_STREET, *NUMBERS_OF_VILLAGES, *ONE_LINE, *POSTAL_CODES),
    *(*COORDINATES, *ANGLES, *NOTHING, *NUMBERS),
]


# -- The tests -------------------------------------------------------------------------------


def sent(given: Given, rows: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], dict[str, Any]]:
    """What is sent of each row; by the row, as it stands in the table."""
    fields = [normalize(location).fields for location in given.locations]
    batch = normalize_batch(given.locations)
    assert [json.loads(line) for line in batch.encoded] == fields
    return dict(zip(rows, fields, strict=True))


def as_csv(path: Path, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([headers, *rows])
    return path


Table = tuple[tuple[str, ...], ...]


def orders(each: Form) -> Iterator[Table]:
    """The same table, headers first, with its columns in other orders; the rows as they are."""
    width = len(each.headers)
    for turn in {0, 1, width // 2}:
        places = [*range(turn, width), *range(turn)]
        for in_order in (places, places[::-1]):
            yield tuple(
                tuple(cells[place] for place in in_order) for cells in (each.headers, *each.rows)
            )


@pytest.mark.parametrize("each", [each for each in FORMS if not each.said], ids=str)
def test_what_is_sent_of_a_form(tmp_path: Path, each: Form, request: pytest.FixtureRequest) -> None:
    """Of a CSV, in any order of its columns and rows, and of the same rows as JSON."""
    path = tmp_path / "in.csv"
    most = 2 if is_sample(request.config) else None
    for number, (headers, first, second) in enumerate(islice(orders(each), most)):
        rows = (first, second) if number % 4 < 2 else (second, first)
        assert sent(read_all(as_csv(path, headers, rows)), rows)[first] == each.sent
    # In JSON "address" is the API's own name.
    if len({*each.headers, "address"}) > len(each.headers):
        objects = [dict(zip(each.headers, row, strict=True)) for row in each.rows]
        assert sent(read_all(objects), each.rows)[each.rows[0]] == each.sent


@pytest.mark.parametrize("each", WITHOUT_A_STREET, ids=str)
def test_parts_without_a_street_are_counted(tmp_path: Path, each: Form) -> None:
    """By the columns of which the line is joined, at their row."""
    path = as_csv(tmp_path / "in.csv", each.headers, each.rows[::-1])
    notes = read_all(path).reader.values.notes()
    (note,) = [note for note in notes if note.kind is ValueKind.PART_OF_A_STREET]
    assert (note.values, note.row) == (1, 1)


def test_what_is_said_of_parts_without_a_street(tmp_path: Path) -> None:
    """With what they say, in the order of an address."""
    rows = [("4", "12", "", "Boston"), ("", "14", "Elm St", "Boston"), ("", "16", "", "Boston")]
    given = read_all(as_csv(tmp_path / "in.csv", ("Unit", "House #", "Street", "City"), rows))
    (note,) = given.reader.values.notes()
    assert sentence(note) == (
        '2 values of "House # + Street + Unit" left out, without a street: "12 4" (row 1), "16"'
    )


def test_villages_are_not_counted(tmp_path: Path) -> None:
    """Numbers without a street that are sent, and a 0 for none, are no faults."""
    for each in NUMBERS_OF_VILLAGES[1:]:
        path = as_csv(tmp_path / "in.csv", each.headers, each.rows)
        assert not read_all(path).reader.values.faults()


@pytest.mark.parametrize("each", [each for each in FORMS if each.said], ids=str)
def test_what_is_refused(tmp_path: Path, each: Form) -> None:
    """Before anything is sent, with what settles it; in any order of its columns and rows."""
    path = tmp_path / "in.csv"
    for headers, *rows in orders(each):
        with pytest.raises(InputError) as caught:
            read_all(as_csv(path, headers, rows))
        for text in each.said:
            assert text in str(caught.value)
    objects = [dict(zip(each.headers, row, strict=True)) for row in each.rows]
    with pytest.raises(InputError):
        read_all(objects)


@pytest.mark.parametrize(
    ("rows", "lines", "left_out"),
    [
        ([("12", ""), ("14", "Elm St")], [None, "14 Elm St"], ["12"]),
        ([("12-14", " "), ("", "Rose Cottage")], [None, "Rose Cottage"], ["12-14"]),
        ([("12 Main St", ""), ("1 bis", "")], ["12 Main St", "1 bis"], []),
    ],
)
def test_a_number_alone_of_columns_joined_by_hand(
    rows: list[tuple[str, str]], lines: list[str | None], left_out: list[str], tmp_path: Path
) -> None:
    """It is no address, as where the columns are joined by themselves; and it is counted."""
    path = as_csv(tmp_path / "in.csv", ("A", "B", "Town"), [(*row, "Boston") for row in rows])
    given = read_all(path, mapping={"address_line_1": "A+B", "city": "Town"})
    assert [normalize(each).fields.get("address_line_1") for each in given.locations] == lines
    notes = given.reader.values.notes()
    assert [list(note.examples) for note in notes] == [left_out] * bool(left_out)


def test_a_code_for_no_postal_code_is_counted(tmp_path: Path) -> None:
    """As a word for nothing is."""
    rows = [("1 Main St", "00000"), ("2 Main St", "02134"), ("3 Main St", "99999")]
    given = read_all(as_csv(tmp_path / "in.csv", ("Street", "Zip"), rows))
    (note,) = given.reader.values.notes()
    assert sentence(note) == '2 values of "Zip" say nothing: "00000" (row 1), "99999"'
