"""A hunt through simulated worlds for one in which the scheduler breaks a promise.

    python -m tests.simulation.command --seeds N [--start S] [--jobs J]
    python -m tests.simulation.command --seed N [--log FILE]

The second form runs one world again, exactly as it was, and shows it. Exit code 1: one broke.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import logging
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.simulation.simulation import simulate

SEEDS_AT_A_TIME = 50  # for a process


def _hunt_part(seeds: range) -> tuple[int, int, list[tuple[int, str]]]:
    logging.getLogger("pingdata_async").addHandler(logging.NullHandler())  # payments in doubt
    requests, failures = 0, []
    for seed in seeds:
        report = simulate(seed)
        requests += report.requests
        if report.error is not None:
            failures.append((seed, report.in_words()))
    return len(seeds), requests, failures


def _parts(start: int, seeds: int) -> Iterator[range]:
    for begin in range(start, start + seeds, SEEDS_AT_A_TIME):
        yield range(begin, min(begin + SEEDS_AT_A_TIME, start + seeds))


def hunt_widely(start: int, seeds: int, jobs: int) -> int:
    """Hunt in several processes; says how many worlds broke."""
    began = time.monotonic()
    done = all_requests = 0
    failures: list[tuple[int, str]] = []
    processes = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=processes) as pool:
        parts = [pool.submit(_hunt_part, part) for part in _parts(start, seeds)]
        for part in parts:  # in their order: the first failure is that of the lowest seed
            worlds, requests, found = part.result()
            done += worlds
            all_requests += requests
            if found and not failures:
                print(found[0][1], flush=True)
            failures += found
            rate = done / (time.monotonic() - began)
            print(f"{done:,} of {seeds:,} worlds, {rate:.1f}/s, {len(failures)} broken", flush=True)
    print(f"seeds {start} to {start + seeds - 1}: {all_requests:,} requests were simulated")
    for seed, said in failures:
        print(f"scripts/simulate --seed {seed}  # {said.splitlines()[0]}")
    return len(failures)


def show(seed: int, log: Path | None) -> bool:
    """Run one world and say what came of it; says whether it held."""
    report = simulate(seed, keeps_log=log is not None)
    if log is not None:
        log.write_text("\n".join([*report.lines, ""]), encoding="utf-8")
    if report.error is None:
        print(f"seed {seed}: nothing broke\nthe world:\n{report.world.in_words()}")
    else:
        print(report.in_words())
    print(
        f"{report.requests:,} requests in {report.seconds:,.1f} simulated seconds; "
        f"events {report.digest[:16]}"
    )
    return report.error is None


def main(arguments: list[str] | None = None) -> int:
    """Hunt as the command line says; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--start", type=int, default=0, help="the seed of the first one")
    parser.add_argument("--jobs", type=int, default=2, help="processes at work")
    parser.add_argument("--seed", type=int, help="run this world alone, and show it")
    parser.add_argument("--log", type=Path, help="with --seed: where to write all that happened")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return 0 if show(given.seed, given.log) else 1
    broken = hunt_widely(given.start, given.seeds, given.jobs)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
