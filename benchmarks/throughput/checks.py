"""Whether an output has every row of the input once, in order, with its answers.

python -m benchmarks.throughput.checks lines|repeating|table OUTPUT INPUT SERVED
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.throughput.data import HEADER, read_csv
from benchmarks.throughput.measure import Served


class _Answers(msgspec.Struct):
    PG: msgspec.Raw
    PH: msgspec.Raw


class _Line(msgspec.Struct):
    id: str
    row: int
    status: str
    location_data: _Answers


def need(is_so: bool, what: str) -> None:
    """Raise ValueError with these words, unless it is so."""
    if not is_so:
        raise ValueError(what)


def check_served(served: Served, rows: int) -> None:
    """Every location was answered about, once.

    Raises:
        ValueError: When that is not so.
    """
    need(served.locations == rows, f"{served.locations} locations were served for {rows} rows")


def check_repeating(output: Path, source: Path, served: Served) -> None:
    """The same where rows repeat others: each address was served once, and all have its answer.

    Raises:
        ValueError: When that is not so.
    """
    decode = msgspec.json.Decoder(_Line).decode
    answer_of: dict[tuple[str, ...], int] = {}
    with output.open("rb") as lines:
        for row, (given, line) in enumerate(zip(read_csv(source), lines, strict=True)):
            each = decode(line)
            id_, *address = given.values()
            need((each.id, each.row) == (id_, row), f"line {row} is about {each.id}, not {id_}")
            answer = hash((bytes(each.location_data.PG), bytes(each.location_data.PH)))
            is_same = answer_of.setdefault(tuple(address), answer) == answer
            need(is_same, f"line {row} has another answer than the same address before")
    check_served(served, len(answer_of))


def check_output(output: Path, source: Path, served: Served) -> None:
    """A JSONL file holds what was served about the rows of a CSV.

    Raises:
        ValueError: When it does not.
    """
    decode = msgspec.json.Decoder(_Line).decode
    ids = (row["id"] for row in read_csv(source))
    not_ok = count = 0
    with output.open("rb") as lines:
        for row, (id_, line) in enumerate(zip(ids, lines, strict=True)):
            each = decode(line)
            need((each.id, each.row) == (id_, row), f"line {row} is about {each.id}, not {id_}")
            not_ok += each.status != "ok"
            count += 1
    check_served(served, count)
    need(not_ok == served.not_ok, f"{not_ok} rows are not ok, but {served.not_ok} were served")


def check_table(output: Path, source: Path, served: Served) -> None:
    """A flat table, in Parquet or CSV, holds the rows of a CSV and how each of them ended.

    Raises:
        ValueError: When it does not.
    """
    rows = _rows_of_parquet(output) if output.suffix == ".parquet" else read_csv(output)
    not_ok = count = 0
    for number, (given, row) in enumerate(zip(read_csv(source), rows, strict=True)):
        kept = {name: row[name] for name in given}
        need(kept == given, f"row {number} is {kept}, not {given}")
        need(bool(row["pg_status_code"]), f"row {number} has no answer of PG")
        not_ok += row["enhance_status"] != "ok"
        count += 1
    check_served(served, count)
    need(not_ok == served.not_ok, f"{not_ok} rows are not ok, but {served.not_ok} were served")


def _rows_of_parquet(path: Path) -> Iterator[dict[str, str]]:
    import pyarrow.parquet as pq  # noqa: PLC0415 - 60 MB, for who writes Parquet

    columns = [*HEADER, "enhance_status", "pg_status_code"]
    for batch in pq.ParquetFile(path).iter_batches(columns=columns):
        yield from batch.to_pylist()


if __name__ == "__main__":
    kind, output, source, served = sys.argv[1:]
    checks = {"lines": check_output, "repeating": check_repeating, "table": check_table}
    checks[kind](Path(output), Path(source), Served(**json.loads(served)))
