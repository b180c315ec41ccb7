"""Runs worlds: `python -m tests.simulation.simulate --seeds 2000 [--start 0] [--jobs 2] [--seed 1 --trace]`.

Prints progress, and for every violation its seed, the broken invariant, and the command that replays it. The
exit status is 1 if an invariant was broken.
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import structlog

from tests.simulation.ablations import ABLATIONS
from tests.simulation.world import Components, simulate

CHUNK = 50
"""Worlds that a process runs before it reports."""

WARM_UP = 10
"""Worlds that each process runs before its chunks, so that these find its caches filled."""


@dataclass(slots=True)
class Summary:
    """The results of many worlds, summed up.

    `happened` counts faults and other events by name. A violation has its seed, its invariant and a text.
    """

    seeds: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    happened: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, other: Summary) -> None:
        """Add another summary to this one."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.virtual_s += other.virtual_s
        self.happened += other.happened
        self.violations += other.violations


def quiet() -> None:
    """Switch logs off: they would take most of the time."""
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent, cache_logger_on_first_use=True)
    logging.disable(logging.CRITICAL)


def run_chunk(start: int, count: int, ablation: str = "") -> Summary:
    """Run `count` worlds, the first with seed `start`. With an ablation, end at the first violation."""
    summary = Summary()
    components: Components = ABLATIONS[ablation]() if ablation else Components()
    # A world is full of cycles. To collect them once after many worlds is faster, but takes memory.
    gc.disable()
    for seed in range(start, start + count):
        result = simulate(seed, components)
        summary.seeds += 1
        summary.steps += result.steps
        summary.virtual_s += result.virtual_s
        summary.happened += result.happened
        if result.violation is not None:
            summary.violations.append((seed, result.violation.invariant, str(result.violation)))
            if ablation:
                break
    gc.enable()
    return summary


def run_many(start: int, seeds: int, jobs: int, ablation: str = "") -> Iterator[Summary]:
    """Run many worlds in `jobs` processes. Yield the summary of every chunk, in order."""
    chunks = [(first, min(CHUNK, start + seeds - first)) for first in range(start, start + seeds, CHUNK)]
    if jobs == 1:
        for first, count in chunks:
            yield run_chunk(first, count, ablation)
            gc.collect()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_warm_up) as pool:
        futures = [pool.submit(_run_apart, first, count, ablation) for first, count in chunks]
        for future in futures:
            yield future.result()


def _warm_up() -> None:
    quiet()
    run_chunk(0, WARM_UP)
    gc.collect()


def _run_apart(start: int, count: int, ablation: str) -> Summary:
    """Run a chunk in a fork of this process, which ends without collecting its garbage."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(run_chunk(start, count, ablation)))
    child.start()
    sender.close()
    summary: Summary = receiver.recv()
    child.join()
    return summary


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--ablation", choices=["", *sorted(ABLATIONS)], default="", help="switch a safeguard off"
    )
    parser.add_argument("--seed", type=int, help="run this one world only")
    parser.add_argument("--trace", action="store_true", help="with --seed: show everything that happened")
    options = parser.parse_args(arguments)
    quiet()
    if options.seed is not None:
        return _replay(options.seed, options.ablation, show=options.trace)
    return _run(options)


def _replay(seed: int, ablation: str, *, show: bool) -> int:
    result = simulate(seed, ABLATIONS[ablation]() if ablation else Components())
    if show:
        _print_line(f"{result.scenario}")
        for line in result.trace.lines():
            _print_line(line)
    _print_line(f"seed {seed}: {result.violation or 'no violation'}  [trace {result.trace.digest()[:16]}]")
    return 1 if result.violation else 0


def _run(options: argparse.Namespace) -> int:
    total, started, shown = Summary(), time.monotonic(), 0
    for summary in run_many(options.start, options.seeds, options.jobs, options.ablation):
        total.add(summary)
        for seed, _, text in summary.violations:
            without = f" ABLATION={options.ablation}" if options.ablation else ""
            again = f"make replay SEED={seed}{without}"
            _print_line(f"VIOLATION in seed {seed}: {text}\n    again: {again}")
        if options.ablation and summary.violations:
            return 1
        if total.seeds * 20 // options.seeds > shown:
            shown = total.seeds * 20 // options.seeds
            rate = total.seeds / (time.monotonic() - started)
            _print_line(
                f"{total.seeds} of {options.seeds} seeds, {rate:.0f}/s, {len(total.violations)} violations"
            )
    _print_line(
        f"{total.seeds} worlds, {total.virtual_s / 3600:.0f} virtual hours, {total.steps} steps, "
        f"{sum(total.happened.values())} faults of {len(total.happened)} kinds, "
        f"{time.monotonic() - started:.0f} s; {len(total.violations)} violations"
    )
    return 1 if total.violations else 0


def _print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
