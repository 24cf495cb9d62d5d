"""Ways to pace and to poll, side by side, in simulated time.

    python -m benchmarks.policies [--seeds N]

runs the real engine, with our own policies and with common ones, against simulated APIs of
different kinds, and writes `policies.md`, `policies.svg` and `policies.json` in
`benchmarks/results`. Nothing depends on the machine: the same code
writes the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.charts import Panel, draw
from benchmarks.policies.profiles import PROFILES, Profile
from benchmarks.policies.trial import CONTENDERS, run_trial

RESULTS = Path(__file__).parents[1] / "results"
DAY = RESULTS / "day.json"
SEEDS = 7
DIGITS = 4


@dataclass(frozen=True)
class Figures:
    """How a contender did on a profile; the median of several seeds.

    Attributes:
        polls_a_job: Polls of each job.
        lag_s: Seconds from the end of a job to the answer that shows it, on average.
        lag_p95_s: The 95th percentile of that.
        lag_share: The mean, as a share of the time at work.
        of_ideal: Throughput, as a share of that of a client that loses no time.
        refused_share: The share of requests answered 429 or 503.
        too_early: Requests sent before the time that a Retry-After named.
        rows_lost: Rows without an answer.
        seconds: The whole run.
    """

    polls_a_job: float
    lag_s: float
    lag_p95_s: float
    lag_share: float
    of_ideal: float
    refused_share: float
    too_early: float
    rows_lost: float
    seconds: float


Table = dict[str, dict[str, Figures]]  # by profile, then by contender


def measure(profile_at: int, contender_at: int, seed: int) -> Figures:
    """One run."""
    profile, contender = PROFILES[profile_at], CONTENDERS[contender_at]
    outcome = run_trial(profile.trial, contender, seed)
    return Figures(
        polls_a_job=outcome.polls_a_job,
        lag_s=outcome.mean_lag_s,
        lag_p95_s=outcome.p95_lag_s,
        lag_share=outcome.lag_share,
        of_ideal=profile.ideal_s(seed) / outcome.seconds,
        refused_share=outcome.refused_share,
        too_early=outcome.too_early,
        rows_lost=profile.trial.jobs * profile.trial.locations - outcome.rows_ok,
        seconds=outcome.seconds,
    )


def medians(some: Iterable[Figures]) -> Figures:
    """The median of each figure; the maximum of what must never happen."""
    dicts = [asdict(each) for each in some]
    return Figures(
        **{
            name: (
                max(each[name] for each in dicts)
                if name in {"too_early", "rows_lost"}
                else round(median(each[name] for each in dicts), DIGITS)
            )
            for name in dicts[0]
        }
    )


def measure_all(seeds: int) -> Table:
    """Every contender on every profile, as many at once as there are cores."""
    cases = [
        (profile, contender, seed)
        for profile in range(len(PROFILES))
        for contender in range(len(CONTENDERS))
        for seed in range(seeds)
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(cases, pool.map(measure, *zip(*cases, strict=True)), strict=True))
    return {
        profile.name: {
            contender.name: medians(found[p, c, seed] for seed in range(seeds))
            for c, contender in enumerate(CONTENDERS)
        }
        for p, profile in enumerate(PROFILES)
    }


HEAD = (
    "| | polls a job | lag, mean | p95 | of the job | of the ideal | refused | too early | time |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
)


def section(profile: Profile, by_contender: dict[str, Figures]) -> str:
    """One profile's part of the table."""
    lines = [
        f"| {name} | {each.polls_a_job:.1f} | {each.lag_s:.2f} s | {each.lag_p95_s:.2f} s | "
        f"{each.lag_share:.1%} | {each.of_ideal:.0%} | {each.refused_share:.1%} | "
        f"{each.too_early:.0f} | {each.seconds:.0f} s |\n"
        for name, each in by_contender.items()
    ]
    lines[0] = lines[0].replace("| ours |", "| **ours** |")
    title = profile.name[0].upper() + profile.name[1:]
    about = f"{profile.about} {profile.trial.jobs} jobs."
    return f"## {title}\n{about}\n\n{HEAD}{''.join(lines)}"


def page(table: Table, seeds: int) -> str:
    """The whole of `policies.md`."""
    about = f"""# Ways to pace and to poll, side by side

Made by `scripts/bench policies`: the real engine in simulated time against simulated APIs of
different kinds; medians of {seeds} seeds. The same code makes the same page on any machine.

- *ours*: the number of jobs follows what the API can take (at most 64), the rate of requests is
  learnt from 429s, polls are predicted. *ours, but N jobs*: with a fixed number of jobs.
- *every 3 s* is the interval of the vendor's documentation, *every 5 s* that of the vendor's
  client, *0.5 s doubling* waits 0.5, 1, 2, ... 30 s; each with a fixed number of jobs. They wait as
  long as a Retry-After says, but learn no rate from it. (The engine makes each interval of every
  contender up to 10 % longer at random, so that jobs drift apart.)
- *lag*: the time from a job's end to the answer that shows it; *of the job*: as a share of the time
  that jobs take to be worked on. *of the ideal*: throughput compared with a client that has 64 jobs
  in flight and loses no time; where the rate of requests is the limit, compared with 4 requests a
  job, so a contender that needs fewer is above 100 %. *refused*: requests answered 429 or 503.
  *too early*: requests sent before the time that a Retry-After named.
- A job's count of completed locations grows unevenly: slowly first and then fast, or the other way
  round. A request takes 50 ms.

![Polls, lag and throughput of each](policies.svg)
"""
    sections = [section(profile, table[profile.name]) for profile in PROFILES]
    return "\n".join([about, *sections, day()])


def day() -> str:
    """The record of the day-long run, as `day.py` left it."""
    if not DAY.exists():
        return ""
    return str(json.loads(DAY.read_text(encoding="utf-8"))["text"]) + "\n"


def plot(table: Table) -> str:
    """The whole of `policies.svg`."""
    names = [contender.name for contender in CONTENDERS]
    panels = []
    for profile in PROFILES:
        rows = [table[profile.name][name] for name in names]
        panels.append(
            Panel(
                profile.name,
                {
                    "polls a job": [(each.polls_a_job, f"{each.polls_a_job:.1f}") for each in rows],
                    "lag, of the job": [(each.lag_share, f"{each.lag_share:.0%}") for each in rows],
                    "throughput, of the ideal": [
                        (each.of_ideal, f"{each.of_ideal:.0%}") for each in rows
                    ],
                    "refused": [(each.refused_share, f"{each.refused_share:.1%}") for each in rows],
                },
            )
        )
    return draw(names, panels)


def main(seeds: int) -> None:
    table = measure_all(seeds)
    results = {
        "seeds": seeds,
        "profiles": {
            profile.name: {name: asdict(each) for name, each in table[profile.name].items()}
            for profile in PROFILES
        },
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(results, indent=1) + "\n"
    (RESULTS / "policies.json").write_text(text, encoding="utf-8")
    (RESULTS / "policies.md").write_text(page(table, seeds), encoding="utf-8")
    (RESULTS / "policies.svg").write_text(plot(table), encoding="utf-8")
    print((RESULTS / "policies.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    main(parser.parse_args().seeds)
