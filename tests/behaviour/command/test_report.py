"""`pingdata-async report`, looked at in a real browser without a network."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import pingdata_async as ping
from pingdata_async.sandbox import SandboxServer
from tests.support import browser
from tests.support.commands import ADDRESSES, run, sandbox
from tests.support.raw_api import RawApi, answer
from tests.support.servers import raw_server

__all__ = ["sandbox"]

HACK = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
MOST_BYTES = 3_000_000


@pytest.fixture
async def page() -> AsyncIterator[browser.Page]:
    if browser.CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip("there is no Chromium; `scripts/prepare browser` installs it")
    async with browser.open_page() as opened:
        yield opened


async def hostile(writer: asyncio.StreamWriter, body: bytes) -> None:
    """Answers that hold HTML, formulas and much text, in names and in values."""
    rows: dict[str, Any] = json.loads(body)
    for number, found in enumerate(rows.values()):
        found["PG"] = {
            **found["PG"],
            "longitude": -88.0 + number,
            "confidence": 40 + 10 * number,
            "location_type": f"ROOFTOP {HACK}",
            "state": "GA",
            f"<img src=x onerror=window.hacked={number}>": HACK,
            "__proto__": ["a", "b"][number % 2],
            "year_built": [1, 1e300, -1e300, 1990, 2000, 2001][number],
            "kind": ["=HYPERLINK(1)", "\u2028\u202e\x00"][number % 2],
            "long": "x" * (100_000 + number % 2),
            "constructor": number,
            "owner": {"lat": 42.123456 + number},
            "price": 1234.5 + number,
            "word": ["constructor", "toString", "__proto__"][number % 3],
        }
    writer.write(answer(json.dumps(rows).encode()))


async def hostile_report(folder: Path) -> Path:
    source, report = folder / "in.csv", folder / "r.html"
    with source.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["address", "latitude", "longitude", HACK])
        rows.writerows(
            [f"{n} Main St {HACK}, Boston, MA 02108", 42.3, -71.0 - n, "=1+1"] for n in range(6)
        )
    async with raw_server(RawApi(write_output=(hostile,))) as server:
        done = await run(
            "enhance", source, "-o", folder / "o.jsonl", "-s", "PG", "-u", server.url,
            "--report", report,
        )  # fmt: skip
    assert done.code == 0, done.err
    return report


@pytest.mark.large
async def test_every_chart_draws_and_nothing_leaves(
    sandbox: SandboxServer, page: browser.Page, tmp_path: Path
) -> None:
    """Wide, narrow, dark and printed: each chart has marks, the console is silent."""
    output, report = tmp_path / "o.csv", tmp_path / "r.html"
    words = ("-s", "PG,PH", "-u", sandbox.url, "--report", report)
    done = await run("enhance", ADDRESSES, "-o", output, *words)
    assert done.code == 0, done.err
    assert report.stat().st_size < MOST_BYTES
    for width, media, is_dark in ((1280, "", False), (400, "", True), (800, "print", True)):
        await page.show(report, width=width, media=media, dark=is_dark)
        assert page.requests == [report.as_uri()]
        assert page.errors == []
        assert await page.value("document.documentElement.scrollWidth") <= width
        empty = await page.value(
            "[...document.querySelectorAll('.chart')].filter(each => !each.querySelector("
            "'.mark-rect path, .mark-line path, .mark-symbol path, .mark-area path')"
            ").map(each => each.closest('figure').innerText)"
        )
        assert empty == []
        is_light = await page.value("getComputedStyle(document.body).color === 'rgb(0, 0, 0)'")
        assert is_light == (media == "print")
    # Pixels too: a chart is not what is left where its marks are taken away.
    await page.show(report, width=600)
    count = await page.value("document.querySelectorAll('.chart').length")
    some = [0, count // 2, count - 1]  # a picture takes a while
    drawn = [await page.picture(await box_of(page, number)) for number in some]
    await page.value(  # for good: a new size, as of a picture, draws the charts again
        "document.head.insertAdjacentHTML('beforeend', '<style>.role-mark{display:none}</style>')"
    )
    for number, picture in zip(some, drawn, strict=True):
        assert await page.picture(await box_of(page, number)) != picture, number


async def box_of(page: browser.Page, number: int) -> dict[str, float]:
    """Where a chart is on the page."""
    found: dict[str, float] = await page.value(
        f"(() => {{ const box = document.querySelectorAll('.chart')[{number}]"
        ".getBoundingClientRect(); return {x: box.x + scrollX, y: box.y + scrollY,"
        " width: box.width, height: box.height}; })()"
    )
    return found


@pytest.mark.large
async def test_the_map_by_keyboard(
    sandbox: SandboxServer, page: browser.Page, tmp_path: Path
) -> None:
    """It is reached by Tab; plus, arrows and 0 move it; another colouring draws other points."""
    report = tmp_path / "r.html"
    words = ("-s", "PG,PH", "-u", sandbox.url, "--report", report)
    assert (await run("enhance", ADDRESSES, "-o", tmp_path / "o.csv", *words)).code == 0
    await page.show(report)
    reached = []
    for _ in range(30):
        await page.press("Tab")
        reached.append(await page.value("document.activeElement.id"))
        if reached[-1] == "chart-map":
            break
    assert reached[-5:] == ["map-layer", "map-in", "map-out", "map-all", "chart-map"]
    shown = "document.getElementById('chart-map').innerHTML.replace(/(clip|gradient_)\\d+/g, '')"
    drawings = [await page.value(shown)]
    for key in ("+", "ArrowLeft", "0"):
        await page.press(key)
        await page.value("mapDrawn()")
        drawings.append(await page.value(shown))
    assert len(set(drawings)) == 3
    assert drawings[0] == drawings[3]
    await page.value(
        "document.getElementById('map-layer').selectedIndex = 2,"
        " document.getElementById('map-layer').dispatchEvent(new Event('change')), mapDrawn()"
    )
    assert await page.value(shown) != drawings[0]
    assert page.errors == []


@pytest.mark.large
async def test_hostile_words_do_nothing_in_a_browser(page: browser.Page, tmp_path: Path) -> None:
    """Of the input and of answers, in names and values: they are shown, and nothing else."""
    report = await hostile_report(tmp_path)
    await page.show(report)
    assert (page.requests, page.errors) == ([report.as_uri()], [])
    assert await page.value("typeof window.hacked") == "undefined"
    assert await page.value("document.querySelectorAll('img').length") == 0
    assert "onerror=window.hacked" in await page.value("document.body.innerText")
    layers = await page.value("document.getElementById('map-layer').options.length")
    for number in range(layers):
        await page.value(
            f"document.getElementById('map-layer').selectedIndex = {number},"
            " document.getElementById('map-layer').dispatchEvent(new Event('change')), mapDrawn()"
        )
    assert page.errors == []


async def test_rows_that_want_attention(tmp_path: Path) -> None:
    """Low confidence, another state, far away; without rows only their numbers are told."""
    report = await hostile_report(tmp_path)
    text = report.read_text()
    assert "In another state than the address says: 6 rows" in text
    assert "Confidence below 60: 2 rows" in text
    assert "More than 1 km from the given coordinates: 6 rows" in text
    assert "found in GA, the address says MA" in text
    assert "PG: owner lat" in text
    assert "From 1,234.5 to 1,239.5; half are up to" in text
    assert text.count("</script>") == 3
    assert len(text) < MOST_BYTES
    done = await run("report", tmp_path / "o.jsonl", "-o", report, "--no-rows")
    assert (done.code, done.err) == (0, f"Written to {report}\n")
    assert "In another state than the address says: 6 rows" in report.read_text()
    assert not re.search("Main St|Boston|PG: owner lat|From 1,234.5", report.read_text())


async def test_a_summary_has_its_report(sandbox: SandboxServer, tmp_path: Path) -> None:
    """In Python, beside the output by default."""
    async with ping.PingDataClient(api_url=sandbox.url, auth_token="right") as client:
        summary = await ping.BulkEnhancer(client, ["PG"]).run(ADDRESSES, tmp_path / "o.jsonl")
    gone = ping.RunSummary()
    with pytest.raises(ping.RunError, match="this run has none"):
        gone.report()
    assert summary.run_dir == str(tmp_path / "o.jsonl.run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--report", "r.xlsx"), "a report is HTML"),
        (("--report", "r.html", "--discard-run"), "leave out --discard-run"),
        (("--report", "{output}"), "is also used for something else"),
    ],
)
async def test_a_report_that_cannot_be_written(
    words: tuple[str, ...], said: str, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """It is refused before anything is sent."""
    output = tmp_path / "o.html"
    given = [word.format(output=output) for word in words]
    done = await run("enhance", ADDRESSES, "-o", output, "-s", "PG", "-u", sandbox.url, *given)
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "o.html.run").exists()
