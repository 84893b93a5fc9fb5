"""``kill -9`` of a writer at any moment (rig R6; lessons L4 and A3).

A kill does not show a missing fsync, because the page cache outlives the process: the order of
write, fsync, link and fsync is asserted on a trace in ``test_local_backend.py``.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.rigs import kill
from tests.rigs.processes import warm_up

SECONDS = float(os.environ.get("ASYNCSTORE_KILL_SECONDS", "10"))


@pytest.fixture(autouse=True, scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> None:
    warm_up(tmp_path_factory.mktemp("nothing"))


@pytest.mark.leaves_staging
def test_every_acknowledged_save_survives_kill_9_and_nothing_torn_is_visible(
    tmp_path: Path,
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    report = kill.run(seconds=SECONDS, seed=seed, place=tmp_path)
    print(report)
    assert report.cycles >= 20
    assert report.acknowledged > 0
    assert report.in_flight > 0, "no writer was killed while it wrote"
