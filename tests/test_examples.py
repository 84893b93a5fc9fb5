"""The examples of the public contract run exactly as printed, and twice in a row."""

from __future__ import annotations

import ast
import asyncio
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from asyncstore import AsyncRegistry, AsyncStore, StoreAmbiguousObjectError
from tests.documents import ROOT

EXAMPLE = ROOT / "tests" / "examples" / "contract_section_8.py"

PRINTED = [
    "{'acc': 0.92}",
    "{'acc': 0.95}",
    "hello",
    "Ambiguous as expected: 'shared:item' is in 2 mounts (a, b): say which one, with "
    "'a/shared:item' or 'b/shared:item'",
    "1",
    "{'ok': True}",
]


def run_example(folder: Path, *options: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ASYNCSTORE_STORE_DIR": str(folder / "s")}
    done = subprocess.run(
        [sys.executable, *options, str(EXAMPLE)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


def test_the_examples_run_as_printed(tmp_path: Path) -> None:
    assert run_example(tmp_path, "-W", "error") == PRINTED


def test_the_examples_run_a_second_time_in_the_same_places(tmp_path: Path) -> None:
    assert run_example(tmp_path) == run_example(tmp_path) == PRINTED


def test_the_examples_run_in_the_test_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASYNCSTORE_STORE_DIR", str(tmp_path / "configured"))
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == PRINTED


def test_the_example_file_is_code_and_nothing_else() -> None:
    """It stands in the contract word for word, so nothing may be added to it for the test."""
    assert not any(
        isinstance(node, ast.Assert) for node in ast.walk(ast.parse(EXAMPLE.read_text()))
    )


def test_the_asynchronous_twins_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCSTORE_STORE_DIR", str(tmp_path / "configured"))

    async def twins() -> None:
        r1 = AsyncRegistry(backend=tmp_path / "a", version_objects=True, mutable=True)
        r2 = AsyncRegistry(backend=tmp_path / "b", version_objects=True, mutable=True)
        store = AsyncStore(mounts={"a": r1, "b": r2}, default_location="a")
        await store.save("a/model:resnet", {"acc": 0.92})
        await store.save("b/model:vit", {"acc": 0.95})
        assert await store.load("a/model:resnet") == {"acc": 0.92}
        assert await store.load("b/model:vit") == {"acc": 0.95}
        await store.save("b/data:item1", "hello")
        assert await store.load("data:item1") == "hello"
        await store.save("a/shared:item", 1)
        await store.save("b/shared:item", 2)
        with pytest.raises(StoreAmbiguousObjectError):
            await store.load("shared:item")
        assert await store.load("a/shared:item") == 1
        await store.aclose()
        async with AsyncStore() as alone:
            await alone.save("default/demo:item", {"ok": True})
            assert await alone.load("default/demo:item") == {"ok": True}

    asyncio.run(twins())


def test_the_demonstration_runs_and_shows_the_main_job(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "asyncstore", "demo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for promised in (
        "found in mount 'b'",
        "StoreAmbiguousObjectError: 'shared:item' is in 2 mounts (a, b)",
        "StoreKeyFormatError: save needs a key that names its mount",
        "all different: True",
        "RegistryVersionConflict",
        "StoreDiscoveryIncomplete after 0.5",
    ):
        assert promised in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_typo_on_the_command_line_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asyncstore", "dmeo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "'dmeo'" in done.stderr
    assert "demo" in done.stderr
