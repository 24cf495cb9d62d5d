"""The data sources the sandbox knows: their codes, names and what kind of answer they give."""

from typing import Final

SOURCES: Final[tuple[tuple[str, str], ...]] = (
    ("NOOP", "No Op Datasource"),
    ("AZG", "Azure Geocoding"),
    ("BV", "Betterview"),
    ("CA", "Cape Analytics"),
    ("CLS_CSRS", "CoreLogic Spatial Coastal Storm Risk Score"),
    ("CLS_CRS", "CoreLogic Spatial Crime Risk Score"),
    ("CLS_DTFST", "CoreLogic Spatial Distance to FireStation"),
    ("CLS_EQRS", "CoreLogic Spatial Earthquake Risk Score"),
    ("CLS_FFRS", "CoreLogic Spatial Flash Flood Risk Score"),
    ("CLS_FRS", "CoreLogic Spatial Flood Risk Score"),
    ("CLS_HI", "CoreLogic Spatial Hail Insight"),
    ("CLS_HR", "CoreLogic Spatial Hail Risk"),
    ("CLS_NWFRS", "CoreLogic Spatial Non-Weather FireRisk Score"),
    ("CLS_NWWRS", "CoreLogic Spatial Non-Weather WaterRisk Score"),
    ("CLS_WFRS", "CoreLogic Spatial Wildfire Risk Score"),
    ("CLS_WRS", "CoreLogic Spatial Wind Risk Score"),
    ("DTC", "Distance To Coast"),
    ("DTFH", "Ping Distance To Fire Hydrant"),
    ("DTFST", "Ping Distance To Fire Station"),
    ("E2V", "E2Value Commercial Lite"),
    ("E2VR", "E2Value Residential Lite"),
    ("EC", "Easi Crime"),
    ("EG", "Esri Geocoding"),
    ("EGR", "Esri Reverse Geocoding"),
    ("FNRI", "Fema National Risk Index"),
    ("GIO", "Geocodio"),
    ("GEV", "Google Elevation"),
    ("GG", "Google Geocoding"),
    ("GGR", "Google Reverse Geocoding"),
    ("HH", "Hazardhub"),
    ("HG", "Here Geocoding"),
    ("IMF", "Intermap Flood"),
    ("KR", "Katrisk"),
    ("LP", "LibPostal"),
    ("LB", "Lightbox"),
    ("LBFZ", "Lightbox Flood Zone"),
    ("LBG", "Lightbox Geocoding"),
    ("LBP", "Lightbox Parcel"),
    ("LBGR", "Lightbox Reverse Geocoding"),
    ("LBSS", "Lightbox SpatialStream"),
    ("LBS", "Lightbox Structures"),
    ("DTFS", "Ping Distance To Florida Sinkhole"),
    ("PFF", "Ping Fema Flood Zone"),
    ("PFPC", "Ping Fire Protection Classification"),
    ("PG", "Ping Geocoding"),
    ("PH", "Ping Hazard"),
    ("PO", "Ping Occupancy"),
    ("PSZ", "Ping Slosh Zone"),
    ("PUC", "Ping USA Construction"),
    ("PUSDAW", "Ping USDA Wildfire"),
    ("PLP", "Ping Parcel"),
    ("PLB", "Ping Building"),
    ("PLA", "Ping Assessment"),
    ("PSG", "Precisely Geocoding"),
    ("REASKM", "Reask Metryc"),
    ("RZR", "Redzone Risk"),
    ("RMSLCP", "RMS Loss Cost Pricing"),
    ("RMS_US_ESDB", "RMS US ExposureSource Database"),
    ("SM", "Smarty Street Address"),
    ("TF", "Tensorflight"),
    ("T4D", "Teren4d"),
    ("TG", "Tiger Geocoding"),
    ("VP", "Verisk Property"),
    ("VPD", "Vexcel Property Damage"),
    ("VPI", "Vexcel Property Information"),
)
"""Code and name of every source of the vendor's list."""

NAMES: Final[dict[str, str]] = dict(SOURCES)
"""The name of each known source code."""

REVERSE_GEOCODERS: Final[frozenset[str]] = frozenset({"EGR", "GGR", "LBGR"})
"""Geocoders that start from coordinates."""

GEOCODERS: Final[frozenset[str]] = REVERSE_GEOCODERS | {
    "AZG",
    "EG",
    "GG",
    "GIO",
    "HG",
    "LBG",
    "LP",
    "PG",
    "PSG",
    "SM",
    "TG",
}
"""Sources that answer with an address and its coordinates."""

HAZARDS: Final[frozenset[str]] = frozenset({"HH", "PH"})
"""Sources that answer with tens of hazard and building attributes."""

NEED_CREDENTIALS: Final[frozenset[str]] = frozenset(
    code for code, name in SOURCES if name.startswith(("CoreLogic", "RMS ", "Verisk", "Vexcel"))
)
"""Sources for which a customer brings an account of their own."""
