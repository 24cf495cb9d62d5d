"""Seeded answers of PG and PH about a location, ready to be joined into outputs."""

from __future__ import annotations

import csv
import json
import random
from typing import Any

from benchmarks.throughput.data import ADDRESSES
from pingdata_async.sandbox.answers import Options, answer_location

SEED = 7
COUNT = 400
NO_MATCHES = COUNT // 100  # one in a hundred has a source that knows nothing of it
FOREIGN = COUNT // 50  # one in fifty is not ASCII
SPACINGS = ("compact", "spaced")
_STREETS = ("Peñasco Boulevard", "Rue Évangéline", "Cañón Perdido Street", "Öland Avenue")
_CITIES = ("Española", "Nuñez Crossing", "La Cañada Flintridge", "Lindström")
_PERILS = ("hail", "tornado", "straight_line_wind", "wildfire", "flood", "winter_storm")


def make_templates(spacing: str = "compact") -> tuple[list[bytes], list[bool]]:
    """Each answer as JSON, and whether every source in it succeeded.

    Args:
        spacing: "compact" as most web frameworks write JSON, in UTF-8; "spaced" as Python's own
            json.dumps does, with escapes.
    """
    rng = random.Random(SEED)
    with ADDRESSES.open(encoding="utf-8", newline="") as file:
        addresses = list(csv.DictReader(file))
    answers = [_answer(number, addresses[number % len(addresses)], rng) for number in range(COUNT)]
    rng.shuffle(answers)
    are_ok = [all(source["is_success"] for source in each.values()) for each in answers]
    if spacing == "spaced":
        return [json.dumps(each).encode() for each in answers], are_ok
    encoded = [json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in answers]
    return [each.encode() for each in encoded], are_ok


def _answer(number: int, address: dict[str, str], rng: random.Random) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: address[name] for name in ("address_line_1", "city", "state", "postal_code")
    }
    fields["latitude"] = round(float(address["latitude"]) + rng.random() / 20, 6)
    fields["longitude"] = round(float(address["longitude"]) - rng.random() / 20, 6)
    if NO_MATCHES <= number < NO_MATCHES + FOREIGN:
        fields["address_line_1"] = f"{rng.randrange(1, 9999)} {rng.choice(_STREETS)}"
        fields["city"] = rng.choice(_CITIES)
    answer = answer_location(fields, ("PG", "PH"), Options(), no_match_share=0.0)
    answer["PH"].update(_more(fields, rng))
    if number < NO_MATCHES:
        nothing = answer_location(fields, ("PG", "PH"), Options(), no_match_share=1.0)
        answer["PH"] = nothing["PH"]
        if number % 2:
            answer["PG"] = nothing["PG"]
    return answer


def _more(fields: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """What a hazard source says beyond the sandbox's: so much that a location has 3.7 KB."""
    return {
        "historic_events": [
            {
                "peril": rng.choice(_PERILS),
                "date": f"{rng.randrange(1980, 2025)}-{rng.randrange(1, 13):02d}-15",
                "magnitude": round(rng.uniform(0.5, 9.0), 2),
                "distance_miles": round(rng.uniform(0.1, 40.0), 3),
            }
            for _ in range(10)
        ],
        "footprint": [
            [
                round(fields["latitude"] + rng.uniform(-2e-4, 2e-4), 6),
                round(fields["longitude"] + rng.uniform(-2e-4, 2e-4), 6),
            ]
            for _ in range(8)
        ],
        "footprint_id": f"{rng.getrandbits(128):032x}",
    }
