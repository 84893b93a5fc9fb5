"""Runs hostile cases; see the package."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.rigs.hostile import harms
from tests.rigs.hostile.world import World


async def _run(world: World, numbers: range) -> None:
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
    await world.warm_up()
    await world.run(numbers)
    assert not complaints, complaints


def main() -> None:
    """Print a line of JSON that says what happened, or fail with the case that did harm."""
    parser = argparse.ArgumentParser(prog="python -m tests.rigs.hostile")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", type=int, help="play this case alone")
    parser.add_argument("--harm", action="store_true", help="do harm instead, and see it noticed")
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr, flush=True)
    # What libraries think of hostile bytes is not of interest, as long as they refuse them.
    warnings.simplefilter("ignore")
    logging.disable()
    numbers = range(options.start, options.start + options.cases)
    if options.only is not None:
        numbers = range(options.only, options.only + 1)
    started = time.monotonic()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # spares the disk
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        world = World(Path(folder).resolve(), options.seed)
        if options.harm:
            print(json.dumps({"unnoticed": harms.main(world)}))
            return
        asyncio.run(_run(world, numbers))
    seconds = round(time.monotonic() - started, 1)
    report = {"seed": options.seed, "cases": len(numbers), "seconds": seconds}
    print(json.dumps({**report, "outcomes": world.outcomes, "kinds": world.kinds}))


if __name__ == "__main__":
    main()
