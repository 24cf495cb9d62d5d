"""Runs that reuse answers, against the same without reuse, whatever came before."""

from __future__ import annotations

import csv
import random
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import pingdata_async as ping
from pingdata_async.sandbox import FaultPlan, SandboxServer, answers
from tests.support.runs import enhancer, lines, sandbox_and_client
from tests.support.sweeps import sampled

Row = dict[str, str]
ASK_ONCE = ping.RetryPolicy(base_delay_s=0.01, max_delay_s=0.02, location_retries=0)
SOURCES = ["PG", "PH", "LB"]
FOLDED = ("address_line_1", "city")
FIELDS = (*FOLDED, "postal_code", "lightbox_parcel_id")
# Many are alike but for white space ("12 3 Main" and "1 23 Main"), or are the same spelt otherwise.
PLACES = [
    dict(zip(FIELDS, (f"{first}{second} {street}", city, "02108", parcel), strict=True))
    for first, second, street, city, parcel in product(
        ("1", "12", "1 ", "12 "), ("3", "23rd"), ("Main St", "MAIN  st", 'Ünï \\" St'),
        ("Boston", "boston ", ""), ("", "aB", "Cd"),
    )
]  # fmt: skip


def folded(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {
        name: " ".join(fields[name].split()).casefold() for name in FOLDED if name in fields
    }


@pytest.fixture(autouse=True)
def same_answer_for_each_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the sandbox takes a location by its letters."""
    of, read = answers.Subject.of, answers.read_place
    monkeypatch.setattr(answers.Subject, "of", lambda fields: of(folded(fields)))
    monkeypatch.setattr(answers, "read_place", lambda fields, digest: read(folded(fields), digest))


def place_of(row: Row) -> tuple[str, ...]:
    return tuple(folded(row)[name].strip() for name in FIELDS)


def charged(server: SandboxServer) -> Counter[str]:
    used = server._api._account.usage({}, server._api._now())["totals"]
    return Counter({code: number for code, number in used.items() if code != "total"})


class Portfolio:
    """Rows at random places, and the runs that asked about some."""

    def __init__(self, folder: Path, rng: random.Random, client: ping.PingDataClient) -> None:
        self.folder, self.rng, self.client = folder, rng, client
        self.outputs: list[Path] = []
        self.known: set[tuple[tuple[str, ...], str]] = set()

    def schedule(self, name: str, rows: int) -> tuple[Path, list[Row]]:
        made = [
            {"id": f"{name}{n}", **row} for n, row in enumerate(self.rng.choices(PLACES, k=rows))
        ]
        if self.rng.random() < 0.3:
            for row in made:
                row["sources"] = self.rng.choice(["", "PG", "PH", "PH;LB"])
        path = self.folder / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, made[0])
            writer.writeheader()
            writer.writerows(made)
        return path, made

    def enhancer(self) -> tuple[ping.BulkEnhancer, list[str]]:
        sources = self.rng.sample(SOURCES, self.rng.randrange(1, 4))
        chunk_size = self.rng.choice([3, 10, 100])
        made = enhancer(self.client, sources=sources, retry_policy=ASK_ONCE, chunk_size=chunk_size)
        return made, sources

    @property
    def runs(self) -> list[Path]:
        return [Path(f"{output}.run") for output in self.outputs]

    async def ask(self) -> None:
        """One run, perhaps with reuse, without deduplication, or retried."""
        source, rows = self.schedule(f"old{len(self.outputs)}-", self.rng.choice([5, 40]))
        output = source.with_suffix(".jsonl")
        run, _ = self.enhancer()
        reuse = self.runs if self.rng.random() < 0.5 else ()
        await run.run(source, output, dedupe=self.rng.random() < 0.7, reuse=reuse)
        if self.rng.random() < 0.3:
            await run.retry(f"{output}.run", all_not_ok=self.rng.random() < 0.5)
        self.outputs.append(output)
        for row, line in zip(rows, lines(output), strict=True):
            for code, answer in line["location_data"].items():
                if answer["is_success"] or answer["status_code"] == 404:
                    self.known.add((place_of(row), code))


# Of the first, one has addresses that differ by a space in two runs, the other rows that repeat a
# reused one in a later chunk.
SEEDS = sorted(range(40), key=lambda seed: seed not in {9, 28})


@pytest.mark.parametrize("seed", sampled(SEEDS, 2))
async def test_reuse_makes_no_difference_but_for_the_charges(seed: int, tmp_path: Path) -> None:
    """The same rows with and without; asked is what no run knows; each reused answer is marked."""
    rng = random.Random(seed)
    async with sandbox_and_client(no_match_share=0.15, seed=seed) as (server, client):
        portfolio = Portfolio(tmp_path, rng, client)
        for _ in range(rng.choice([1, 2, 3])):
            server._api._injector.plan = FaultPlan(
                missing_source=rng.choice([0, 0.1]),
                source_trouble=rng.choice([0, 0.2]),
                missing_location=rng.choice([0, 0.1]),
            )
            await portfolio.ask()
        server._api._injector.plan = FaultPlan()
        source, rows = portfolio.schedule("new", 40)
        run, sources = portfolio.enhancer()
        await run.run(source, tmp_path / "without.jsonl")
        before = charged(server)
        await run.run(source, tmp_path / "with.jsonl", reuse=portfolio.runs, pay_again=True)
        asked = charged(server) - before
    wanted: set[tuple[tuple[str, ...], str, str]] = set()  # rows with other sources are others
    for row, one, other in zip(
        rows, lines(tmp_path / "without.jsonl"), lines(tmp_path / "with.jsonl"), strict=True
    ):
        own = row.get("sources", "").split(";") if row.get("sources") else sources
        of_row = {(place_of(row), code) for code in own}
        assert set(other.pop("reused", ())) == {code for _, code in of_row & portfolio.known}
        assert one == other
        wanted |= {(*each, row.get("sources", "")) for each in of_row - portfolio.known}
    assert asked == Counter(code for _, code, _ in wanted)
