"""Whoever may write to a store can make loading fail, and nothing else (lessons X1 and X2).

Each case puts hostile bytes straight into a registry, in an envelope whose hashes are right, and
then loads, reads, copies, asks and lists. Only errors of the contract may come of it; nothing
outside the target may be touched, nothing imported and nothing run, in bounded time and memory. A
process of its own plays them, since what is watched (``sys.addaudithook``, peak memory) is of a
whole process, and a library that crashes is to be seen as such.

``ASYNCSTORE_HOSTILE=100000`` plays more of them, as ``nox -s hostile`` does. See
``tests/rigs/hostile``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CASES = int(os.environ.get("ASYNCSTORE_HOSTILE", "10000"))
SECONDS_PER_CASE = 0.02

NEEDED = ("numpy", "pandas", "polars", "pyarrow", "PIL", "pydantic")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.timeout(120 + CASES * SECONDS_PER_CASE),
]


def played(*options: str) -> dict[str, Any]:
    """What a process that plays hostile cases reports; the test fails with what it says of harm."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.rigs.hostile", *options],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-5_000:]
    report: dict[str, Any] = json.loads(run.stdout)
    return report


def test_x1_x2_hostile_records_and_archives_do_no_harm() -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    report = played("--cases", str(CASES), "--seed", str(seed))
    print(report)
    assert report["cases"] == CASES
    # The hostility gets past the first check often enough, and is refused on every floor.
    outcomes = report["outcomes"]
    assert outcomes["success"] > CASES / 4
    assert outcomes["IntegrityError"] > CASES / 4
    assert outcomes["MaterializationError"] > CASES / 10
    assert {"UnsupportedFormatError", "RegistryObjectNotFound", "BackendError"} <= set(outcomes)
    assert {"numpy", "pandas", "polars", "pyarrow", "pillow", "msgspec", "pydantic", "dataclass",
            "pickle", "settings", "place", "twins",
            "bad_chunks"} <= set(report["kinds"])  # fmt: skip


def test_harm_of_every_kind_would_be_noticed() -> None:
    """So that the silence above means something."""
    assert played("--harm") == {"unnoticed": []}
