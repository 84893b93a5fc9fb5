"""Run the benchmarks: ``python -m benchmarks``, or some of them by name."""

from __future__ import annotations

import argparse

from benchmarks import large, s3_loads, small_local
from benchmarks.harness import run

BENCHMARKS = {
    "small_local": small_local.measure,
    "s3_loads": s3_loads.measure,
    "large": large.measure,
}


ONLY_NAMED = {"large"}
"""Takes ten minutes, and some 8 GiB of disk and as much memory."""


def main() -> None:
    """Run what is asked for; exit with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or [name for name in BENCHMARKS if name not in ONLY_NAMED]
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    held = [run(name, BENCHMARKS[name]) for name in names]
    if not all(held):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
