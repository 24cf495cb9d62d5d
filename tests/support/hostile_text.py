"""Values of every kind that people, spreadsheets and programs put into an input."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

PLAIN_NUMBERS = ("38.8670330", "-77", "0", "-0", "90", "-180", "1990", "007", "+7", "5.", ".5", "2")
ODD_NUMBERS = (
    *("1e3", "1E-3", "1e999", "-1e999", "1e", "e5", ".", "-", "+", "1.2.3", "--1", "90.0001"),
    *("nan", "inf", "-Infinity", "1_000", "1,234.5", "12,34", "$5", "$1,234", "5 USD", "n/a"),
    *("40\u00b026'46\"N", "0,045", "79.98 W", "-40 N", "0.0", "-9", "-999"),
    *(" 38.8 ", "38.8\n", "\xa038.8", "٣٨", "38.8", "\u22125", "9007199254740993", "1" * 400),
)
PLAIN_TEXTS = ("1 Main St", "Boston", "MA", "02134", "Cañon City", "us-0001", "O'Fallon", "x")
ODD_TEXTS = (
    *("", " ", "\xa0", "\u3000", "  x", "x ", "\xa0x", "x\u2003", "\x1cx", "x\x85", "\ufeffx"),
    *('"', '""', 'say "hi"', "a,b", "a\nb", "a\r\nb", "a\rb", "\n", "\t", "\\", "a\\nb", "\x00"),
    *(
        '{"x":1}',
        "[1]",
        "null",
        "true",
        "no",
        "PG",
        "PG,PH",
        "é" * 40,
        "\U0001d538",
        "\u2028",
        "\u200b",
    ),
)
BOOLEANS = ("true", "YES", "0", "f", "maybe")

CELLS = (
    st.sampled_from(PLAIN_TEXTS + PLAIN_NUMBERS)
    | st.sampled_from(ODD_TEXTS + ODD_NUMBERS + BOOLEANS)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
)
"""Texts that a file can hold."""

VALUES: st.SearchStrategy[Any] = (
    CELLS
    | st.none()
    | st.booleans()
    | st.integers(-200, 200)
    | st.sampled_from((10**30, 10**400, 2**53 + 1, -(2**64)))
    | st.floats()
    | st.sampled_from((38.867033, -77.0, 0.0, -0.0, 90.0, 180.5, 1e300, math.inf, math.nan))
    | st.sampled_from(({}, {"PH": {"x": 1}}, [], ["PG"], [1], ("PG",), b"x", {"PG"}))
)
"""Anything a mapping can hold, but for what cannot even be encoded."""

SURROGATES = st.sampled_from(("\ud800", "a\udfffb"))
