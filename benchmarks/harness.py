"""Measuring a thing as a ratio to its floor, on a machine that is noisy.

Both are run in turn (A B A B), so that whatever slows the machine slows both; the result is the
median of the rounds' ratios. A ratio is what is asked of us; the times beside it are for people.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

from asyncstore import __version__

RESULTS = Path(__file__).parent / "results"

Step = Callable[[], Awaitable[object]]


@dataclass
class Measure:
    """One measured ratio, to what it is measured by, and the bar that it must not pass.

    Times are in microseconds a call.
    """

    name: str
    bar: float
    ours: float = 0.0
    floor: float = 0.0
    ratio: float = 0.0
    rounds: list[float] = field(default_factory=list)
    unit: str = "µs"

    @property
    def held(self) -> bool:
        """Whether the bar holds."""
        return self.ratio <= self.bar


async def compare(
    name: str, ours: Step, floor: Step, *, bar: float, rounds: int = 15, calls: int = 150
) -> Measure:
    """Run both in turn, ``calls`` at a time, and answer the median ratio of ``rounds`` rounds."""
    for step in (ours, floor):  # first calls open files, start threads and fill caches
        await _timed(step, max(1, min(5, calls), calls // 10))
    pairs = [(await _timed(ours, calls), await _timed(floor, calls)) for _ in range(rounds)]
    ratios = [mine / least for mine, least in pairs]
    return Measure(
        name,
        bar,
        ours=statistics.median(mine for mine, _ in pairs),
        floor=statistics.median(least for _, least in pairs),
        ratio=statistics.median(ratios),
        rounds=[round(ratio, 3) for ratio in ratios],
    )


async def _timed(step: Step, calls: int) -> float:
    """The median time of one call, in microseconds."""
    times: list[float] = []
    for _ in range(calls):
        began = time.perf_counter()
        await step()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


@contextmanager
def grown() -> Iterator[list[float]]:
    """By how many MiB the resident memory of this process grew at most meanwhile; Linux only."""
    most = [0.0]
    done = Event()
    before = _resident()

    def watch() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], _resident() - before)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def table(measures: list[Measure]) -> str:
    """The measures as a Markdown table."""
    lines = ["| measure | asyncstore | floor | ratio | bar | |", "|---|---|---|---|---|---|"]
    for m in measures:
        held = "held" if m.held else "MISSED"
        lines.append(
            f"| {m.name} | {m.ours:,.0f} {m.unit} | {m.floor:,.0f} {m.unit} | {m.ratio:.2f} | "
            f"{m.bar:.2f} | {held} |"
        )
    return "\n".join(lines)


def save(name: str, measures: list[Measure]) -> Path:
    """Write the measures as JSON, with what they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {
        "asyncstore": __version__,
        "python": sys.version.split()[0],
        "machine": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "measures": [asdict(measure) for measure in measures],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def run(name: str, work: Callable[[], Awaitable[list[Measure]]]) -> bool:
    """Run one benchmark, print and keep its table; whether all its bars hold."""

    async def main() -> list[Measure]:
        return await work()

    measures = asyncio.run(main())
    print(table(measures))
    save(name, measures)
    return all(measure.held for measure in measures)
