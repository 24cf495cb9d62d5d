"""Draws the README's pictures: `python -m docs.pictures` writes docs/run.svg and report.jpg.

The report is the demo's, in a headless browser. The display is the command's own, fed with the
events of a run of a million rows.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import anyio
from rich.console import Console

from pingdata_async.cli.screen import draw_progress
from pingdata_async.events import ChunkFinished, InputPlanned, JobPolled, JobSubmitted
from pingdata_async.progress import RunProgress
from tests.support.browser import open_page

DEMO_REPORT = Path(__file__).parents[1] / "build" / "demo.html"
REPORT_WIDTH, REPORT_HEIGHT = 1000, 960
ROWS, JOBS, CHUNK = 1_000_000, 437, 1_000
COMMAND = "$ pingdata-async enhance portfolio.xlsx -o enhanced.xlsx --sources PG,PH"
PLANNED = "1,000,000 rows, 912,480 to be sent in 913 jobs; 87,520 repeated rows at no cost."


def main() -> None:
    """Draw it."""
    now = [0.0]
    progress = RunProgress(clock=lambda: now[0], wall_clock=lambda: now[0])
    progress(InputPlanned(rows=ROWS, locations=912_480, repeated=87_520, chunks=913, jobs=913))
    for job in range(JOBS):
        now[0] += 1.9
        job_id = f"job-{job}"
        charged = {"PG": CHUNK, "PH": CHUNK - 41}
        progress(
            JobSubmitted(
                chunk=job,
                job_id=job_id,
                locations=CHUNK,
                charged_before=False,
                charged_by_source=charged,
            )
        )
        status = "IN_PROGRESS" if job < JOBS - 6 else "PENDING"
        progress(
            JobPolled(
                chunk=job, job_id=job_id, status=status, num_requested=CHUNK, num_completed=None
            )
        )
        if job < JOBS - 22:
            rows = CHUNK + 95
            progress(
                ChunkFinished(
                    chunk=job,
                    job_id=job_id,
                    rows=rows,
                    ok=rows - 9,
                    partial=5,
                    failed=4,
                    no_answer=0,
                    reasons={"no_match": 9},
                )
            )
    console = Console(record=True, width=88, file=io.StringIO(), force_terminal=True)
    console.print(COMMAND, highlight=False, markup=False)
    console.print(PLANNED, highlight=False)
    console.print(draw_progress(progress))
    drawn = console.export_svg(title="pingdata-async")
    # A page must not fetch fonts from elsewhere.
    drawn = re.sub(r"\s*@font-face \{.*?\}\n", "", drawn, flags=re.DOTALL)
    Path(__file__).with_name("run.svg").write_text(drawn, encoding="utf-8")
    anyio.run(picture_report)


async def picture_report() -> None:
    """A picture of the demo's report: its head and its map; `scripts/demo` has to have run."""
    async with open_page() as page:
        await page.show(DEMO_REPORT, width=REPORT_WIDTH)
        await page.value("document.querySelector('main').prepend(document.querySelector('#map'))")
        part = {"x": 0.0, "y": 0.0, "width": REPORT_WIDTH, "height": REPORT_HEIGHT}
        drawn = await page.picture(part, "jpeg")
    Path(__file__).with_name("report.jpg").write_bytes(drawn)


if __name__ == "__main__":
    main()
