"""Materializers of other packages, by entry point."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncstore import AsyncRegistry
from asyncstore.errors import MaterializationError
from asyncstore.materializers import plugins
from asyncstore.materializers.basic import JsonMaterializer

PACKAGE = """
import fractions
from asyncstore.materializers import Encoded


class FractionMaterializer:
    id = "example.fraction"
    types = (fractions.Fraction,)

    def accepts(self, kind):
        return False

    def is_large(self, obj):
        return False

    def encode(self, obj):
        return Encoded({"data.txt": str(obj).encode()})

    def decode(self, encoded, as_type):
        return fractions.Fraction(encoded.files["data.txt"].decode())


class RangeMaterializer(FractionMaterializer):
    id = "example.range"
    types = ()

    def accepts(self, kind):
        return kind is range


class Shadow(FractionMaterializer):
    id = "json"


class Pickling(FractionMaterializer):
    id = "dill"


nothing = 5
"""

ENTRY_POINTS = """
[asyncstore.materializers]
example.fraction = example_plugin:FractionMaterializer
example.range = example_plugin:RangeMaterializer
json = example_plugin:Shadow
dill = example_plugin:Pickling
broken = example_plugin_missing:x
nothing = example_plugin:nothing
other.name = example_plugin:FractionMaterializer
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "site"
    info = folder / "example_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "example_plugin.py").write_text(textwrap.dedent(PACKAGE))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(folder))
    plugins.installed.cache_clear()
    yield
    plugins.installed.cache_clear()
    sys.modules.pop("example_plugin", None)


@pytest.mark.asyncio
async def test_they_are_found_for_saving_and_for_loading(plugin: None) -> None:
    from fractions import Fraction

    async with AsyncRegistry("memory://plugged") as one, AsyncRegistry("memory://plugged") as other:
        assert "example_plugin" not in sys.modules  # opening imports nothing
        await one.save("half", Fraction(1, 2))
        assert (await one.info("half"))["materializer"] == "example.fraction"
        assert await other.load("half") == Fraction(1, 2)
        await one.save("list", [1])
        assert await one.load("list") == [1]  # by asyncstore's own materializer


@pytest.mark.asyncio
async def test_pickle_takes_only_what_none_of_them_does(plugin: None) -> None:
    async with AsyncRegistry("memory://", allow_pickle=True) as registry:
        await registry.save("theirs", range(3))
        assert (await registry.info("theirs"))["materializer"] == "example.range"
        await registry.save("nobody's", slice(3))
        assert (await registry.info("nobody's"))["materializer"] == "pickle"


@pytest.mark.asyncio
async def test_what_a_registry_was_given_wins_whatever_its_id_is(plugin: None) -> None:
    class Given(JsonMaterializer):
        id = "joblib"
        types = (int,)

    async with AsyncRegistry("memory://", allow_pickle=True, materializers=[Given()]) as registry:
        await registry.save("x", 3)
        assert (await registry.info("x"))["materializer"] == "joblib"


@pytest.mark.asyncio
async def test_faulty_ones_stop_nothing_and_show_where_they_are_missed(plugin: None) -> None:
    async with AsyncRegistry("memory://", allow_pickle=True) as registry:
        with pytest.raises(MaterializationError) as caught:
            await registry.save("a", [1], materializer="broken")
    for part in ("'broken'", "cannot be loaded", "'nothing'", "'dill'", "'other.name'"):
        assert part in str(caught.value)


@pytest.mark.asyncio
async def test_x1_a_registry_may_be_kept_from_them(plugin: None) -> None:
    async with AsyncRegistry("memory://plugged") as one:
        from fractions import Fraction

        await one.save("half", Fraction(1, 2))
        sys.modules.pop("example_plugin")
        plugins.installed.cache_clear()
        async with AsyncRegistry("memory://plugged", entry_points=False) as other:
            with pytest.raises(MaterializationError, match=r"example\.fraction"):
                await other.load("half")
            with pytest.raises(MaterializationError, match="Fraction"):
                await other.save("b", Fraction(1, 2))
        assert "example_plugin" not in sys.modules


@pytest.mark.asyncio
async def test_x1_what_is_imported_does_not_depend_on_what_is_stored(plugin: None) -> None:
    async with AsyncRegistry("memory://") as registry:
        await registry.save("a", 1)
        imported: Any = sys.modules.get("example_plugin")
        assert imported is not None  # at the first use, though nothing asked for it
