"""Headers of statements of values as they are published, and what each of them means."""

from __future__ import annotations

from typing import NamedTuple


class Form(NamedTuple):
    """A form: its headers, what is made of which of them, and nothing of the others."""

    headers: tuple[str, ...]
    fields: dict[str, str | tuple[str, ...]]


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


OED = Form(
    words(
        """
        PortNumber AccNumber LocNumber LocName LocGroup CorrelationGroup IsPrimary IsTenant
        BuildingID LocInceptionDate LocExpiryDate PercentComplete CompletionDate CountryCode
        Latitude Longitude StreetAddress PostalCode City AreaCode AreaName GeogSchemeXX GeogNameXX
        AddressMatch GeocodeQuality Geocoder OrgOccupancyScheme OrgOccupancyCode
        OrgConstructionScheme OrgConstructionCode OccupancyCode ConstructionCode YearBuilt
        NumberOfStoreys NumberOfBuildings FloorArea FloorAreaUnit LocUserDef1 LocPerilsCovered
        BuildingTIV OtherTIV ContentsTIV BITIV BIPOI LocCurrency LocGrossPremium LocDed1Building
        LocLimit1Building LocLimit3Contents LocLimit4BI YearUpgraded SprinklerType RoofCover
        RoofYearBuilt RoofGeometry FloodZone Basement BasementLevelCount FoundationType Cladding
        BuildingHeight BuildingValuation BuildingType OEDVersion OriginalCurrency
        """
    ),
    {
        "id": "LocNumber",
        "bldg_name": "LocName",
        "country": "CountryCode",
        "latitude": "Latitude",
        "longitude": "Longitude",
        "address_line_1": "StreetAddress",
        "postal_code": "PostalCode",
        "city": "City",
        "state": "AreaCode",
        "const__bldg_year_built": "YearBuilt",
        "const__num_stories": "NumberOfStoreys",
        "const__num_stories_below_gnd": "BasementLevelCount",
        "limits__building_limit": "BuildingTIV",
        "limits__bpp_limit": "ContentsTIV",
        "limits__bi_limit": "BITIV",
        "limits__signs_and_other_limit": "OtherTIV",
    },
)

CEDE = Form(
    (
        *words(
            """
        ContractID LocationID LocationName ISOBIN LocationGroup IsPrimary IsTenant InceptionDate
        ExpirationDate Street City SubArea2 SubArea Area CRESTA PostalCode CountryISO Latitude
        Longitude UserGeocodeMatchLevel GeoCoderCode EnhancedGeoMatchLevelCode GeocoderAccountId
        BuildingValue OtherValue ContentsValue TimeElementValue DaysCovered Currency RiskCount
        Premium ConstructionCodeType ConstructionCode ConstructionOther OccupancyCodeType
        OccupancyCode YearBuilt NumberOfStories GrossArea GrossAreaUnit BuildingHeight
        BuildingHeightUnitCode Territory NonCatGroundUpLoss UDF1 LocationDFID SubAreaName
        ISOConstructionCode ISOOccupancyCode FloorArea FloorAreaUnitCode FloorsOccupied
        BuildingCondition RoofGeometry RoofCover RoofYearBuilt WallType WallSiding GlassType
        FoundationType BasementLevelCount BasementFinishType ContentVulnerability
        """
        ),
        *("Certified Structures (IBHS)", "PPC Code", "Fire Sprinklers", "LocPerils"),
        *("LocLimitType", "LimitBldg", "LimitOther", "LimitContent", "LimitTime", "LimitBldg 2"),
    ),
    {
        "id": "LocationID",
        "bldg_name": "LocationName",
        "address_line_1": "Street",
        "city": "City",
        "state": "Area",
        "county": "SubAreaName",
        "postal_code": "PostalCode",
        "country": "CountryISO",
        "latitude": "Latitude",
        "longitude": "Longitude",
        "const__bldg_year_built": "YearBuilt",
        "const__num_stories": "NumberOfStories",
        "const__num_stories_below_gnd": "BasementLevelCount",
        "limits__building_limit": "BuildingValue",
        "limits__signs_and_other_limit": "OtherValue",
        "limits__bpp_limit": "ContentsValue",
        "limits__bi_limit": "TimeElementValue",
    },
)

CEDE_DATABASE = Form(
    words(
        """
        ExposureSetName ContractID LocationID CountryCode PerilSet Latitude Longitude
        AIROccupancyCode AIRConstructionCodeA AIRConstructionCodeB ReplacementValueA
        ReplacementValueB ReplacementValueC ReplacementValueD CurrencyCode
        """
    ),
    {
        "id": "LocationID",
        "country": "CountryCode",
        "latitude": "Latitude",
        "longitude": "Longitude",
        "occupancy__code_air": "AIROccupancyCode",
        "const__code_air": "AIRConstructionCodeA",
        "limits__building_limit": "ReplacementValueA",
        "limits__signs_and_other_limit": "ReplacementValueB",
        "limits__bpp_limit": "ReplacementValueC",
        "limits__bi_limit": "ReplacementValueD",
    },
)

RMS_EDM = Form(
    words(
        """
        ACCNTNUM LOCNUM LOCNAME ADDRESSNUM STREETNAME DISTRICT DSTRCTCODE CITY CITYCODE STATE
        STATECODE POSTALCODE COUNTY COUNTYCODE CRESTA LATITUDE LONGITUDE FLOORAREA AREAUNIT
        CNTRYSCHEME CNTRYCODE NUMBLDGS BLDGSCHEME BLDGCLASS OCCSCHEME OCCTYPE YEARBUILT NUMSTORIES
        EQCV1VAL EQCV1VCUR EQCV1LIMIT EQCV2VAL EQCV3VAL WSCV1VAL WSCV2VAL WSSITEDED INCEPTDATE
        CONSTQUALI ROOFSYS ROOFAGE ROOFGEOM CLADSYS FOUNDSYS
        """
    ),
    {
        "id": "LOCNUM",
        "bldg_name": "LOCNAME",
        "address_line_1": ("ADDRESSNUM", "STREETNAME"),
        "city": "CITY",
        "state": "STATECODE",
        "postal_code": "POSTALCODE",
        "county": "COUNTY",
        "country": "CNTRYCODE",
        "latitude": "LATITUDE",
        "longitude": "LONGITUDE",
        "const__bldg_year_built": "YEARBUILT",
        "const__num_stories": "NUMSTORIES",
    },
)

CARRIER = Form(
    (
        *("* Bldg No.", "AddressNum", "*Street Address", "*City", "*State Code", "*Zip", "County"),
        *("Is Prop within 1000 ft of saltwater", "*# of Bldgs", "ISO Const"),
        "Construction Description (provide further details on construction features)",
        *("ISO Prot Class", "*# of Stories", "*Orig Year Built"),
        *("*Year Roof covering last fully replaced", "*Real Property Value ($)"),
        "Personal Property Value ($)",
        "Other Value $ (outdoor prop & Eqpt must be sch'd)",
        *("BI/Rental Income ($)", "*Total TIV", "*Occupancy", "*# of Units", "*Square Footage"),
        *("Percent Sprinklered", "Sprinklered (Y/N)"),
    ),
    {
        "id": "* Bldg No.",
        "address_line_1": ("AddressNum", "*Street Address"),  # where that has no number
        "city": "*City",
        "state": "*State Code",
        "postal_code": "*Zip",
        "county": "County",
        "const__desc_ping": (
            "Construction Description (provide further details on construction features)"
        ),
        "const__num_stories": "*# of Stories",
        "const__bldg_year_built": "*Orig Year Built",
        "const__bldg_area": "*Square Footage",
        "occupancy__type_desc": "*Occupancy",
        "limits__building_limit": "*Real Property Value ($)",
        "limits__bpp_limit": "Personal Property Value ($)",
        "limits__bi_limit": "BI/Rental Income ($)",
        "limits__signs_and_other_limit": "Other Value $ (outdoor prop & Eqpt must be sch'd)",
    },
)

WHOLESALE_BROKER = Form(
    (
        *("Loc  #", "Location Street Address:", "City", "State", "Zip Code", "Building Value"),
        *("Content", "BI w/ EE", "Total TIV", "# Apt  Units", "Building Occupancy"),
        *("Construction", "# of Stories", "Yr Built Gut/Reh", "Total Building  Area", "Plumbing"),
        *("Heating", "Electrical", "Roof", "Sprinkler %"),
    ),
    {
        "id": "Loc  #",
        "address_line_1": "Location Street Address:",
        "city": "City",
        "state": "State",
        "postal_code": "Zip Code",
        "limits__building_limit": "Building Value",
        "limits__bpp_limit": "Content",
        "limits__bi_limit": "BI w/ EE",
        "occupancy__type_desc": "Building Occupancy",
        "const__desc_ping": "Construction",
        "const__num_stories": "# of Stories",
        "const__bldg_area": "Total Building  Area",
    },
)

UNDERWRITING_WORKSHEET = Form(
    (
        *("Loc #", "Bldg #", "Delete", "Physical Building #", "Single Physical Building #"),
        *("Street 1", "Street 2", "City", "State", "Zip", "County", "Validated Zip"),
        *("Building Value", "Business Personal Property", "Business Income"),
        *("Misc Real Property", "TIV", "# Units", "Building Description", "ClassCodeDesc"),
        *("Construction Type", "Dist. To Fire Hydrant (Feet)", "Prot Class", "# Stories"),
        *("# Basements", "Year Built", "Sq Ftg", "Wiring Year", "Roofing Year"),
        *("Sprinkler Wet/Dry", "Roof Covering", "Roof Geometry", "Roof Anchor", "Cladding Type"),
    ),
    {
        "id": "Loc #",
        "address_line_1": "Street 1",
        "address_line_2": "Street 2",
        "city": "City",
        "state": "State",
        "postal_code": "Zip",
        "county": "County",
        "limits__building_limit": "Building Value",
        "limits__bpp_limit": "Business Personal Property",
        "limits__bi_limit": "Business Income",
        "occupancy__type_desc": "Building Description",
        "const__desc_ping": "Construction Type",
        "const__num_stories": "# Stories",
        "const__num_stories_below_gnd": "# Basements",
        "const__bldg_year_built": "Year Built",
        "const__bldg_area": "Sq Ftg",
        "const__roof_covering": "Roof Covering",
        "const__wall_type": "Cladding Type",
    },
)

HABITATIONAL_SCHEDULE = Form(
    (
        *("Loc", "Unit", "Property Name", "Occ Class", "Site Address", "City", "St", "Zip"),
        *("Parish", "Bldg RC", "BPP", "Loss of Rents", "M&E", "Other", "Total IV"),
    ),
    {
        "id": "Loc",
        "bldg_name": "Property Name",
        "address_line_1": ("Site Address", "Unit"),
        "city": "City",
        "state": "St",
        "postal_code": "Zip",
        "county": "Parish",
        "limits__building_limit": "Bldg RC",
        "limits__bpp_limit": "BPP",
        "limits__bi_limit": "Loss of Rents",
    },
)

RETAIL_BROKER = Form(
    (
        *("Loc #", "Bldg #", "Bldg Name", "Location Address", "Town", "State/Prov", "Postcode"),
        *("County", "Country", "Lat/Long", "Yr. Built", "No. of Stories", "Bldg Area\n(sq ft)"),
        *("ISO Const", "Const.", "Occupancy", "Building Limit", "Contents (BPP)", "BI/EE"),
        *("Signs & Other", "TIV $", "Mailing Address", "Mailing City", "Mailing Zip"),
    ),
    {
        "id": "Loc #",
        "bldg_name": "Bldg Name",
        "address_line_1": "Location Address",
        "city": "Town",
        "state": "State/Prov",
        "postal_code": "Postcode",
        "county": "County",
        "country": "Country",
        "latitude": "Lat/Long",
        "longitude": "Lat/Long",
        "const__bldg_year_built": "Yr. Built",
        "const__num_stories": "No. of Stories",
        "const__bldg_area": "Bldg Area\n(sq ft)",
        "const__desc_ping": "Const.",
        "occupancy__type_desc": "Occupancy",
        "limits__building_limit": "Building Limit",
        "limits__bpp_limit": "Contents (BPP)",
        "limits__bi_limit": "BI/EE",
        "limits__signs_and_other_limit": "Signs & Other",
    },
)

FORMS = {name: form for name, form in list(globals().items()) if isinstance(form, Form)}
