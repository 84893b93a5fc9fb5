"""cloudpickle, behind the gate for pickle."""

from __future__ import annotations

from typing import Any

import pytest

from asyncstore import AsyncRegistry
from asyncstore.errors import MaterializationError
from asyncstore.materializers import CloudpickleMaterializer, default_materializers
from tests.materializers.support import run_python, there_and_back

pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")

CLOUDPICKLE = CloudpickleMaterializer()


def test_functions_come_back() -> None:
    assert there_and_back(CLOUDPICKLE, lambda x: x + 1)(2) == 3
    with pytest.raises(MaterializationError, match="does not pickle"):
        CLOUDPICKLE.encode(n for n in range(3))
    with pytest.raises(MaterializationError, match="as_type"):
        there_and_back(CLOUDPICKLE, [1], dict)


@pytest.mark.asyncio
async def test_x1_it_is_refused_unless_pickle_is_allowed() -> None:
    async with (
        AsyncRegistry("memory://pickled", allow_pickle=True) as trusting,
        AsyncRegistry("memory://pickled") as other,
    ):
        await trusting.save("f", lambda: 7, materializer="cloudpickle")
        assert (await trusting.load("f"))() == 7
        for materializer in ("cloudpickle", CLOUDPICKLE):
            with pytest.raises(MaterializationError, match="allow_pickle=True"):
                await other.save("g", [1], materializer=materializer)
        with pytest.raises(MaterializationError, match="allow_pickle=True"):
            await other.load("f")


def test_pickle_still_takes_what_nothing_else_does() -> None:
    table = default_materializers(allow_pickle=True)
    assert table.for_object(object()).id == "pickle"
    assert table.for_object([1], "cloudpickle").id == "cloudpickle"


def test_the_gate_comes_before_the_import() -> None:
    script = """
        import sys
        from asyncstore.materializers import default_materializers
        for ask in (lambda table: table.by_id("cloudpickle"),
                    lambda table: table.for_object([1], "cloudpickle")):
            try:
                ask(default_materializers())
            except TypeError as error:
                print("allow_pickle=True" in str(error), "cloudpickle" in sys.modules)
    """
    assert run_python(script).split() == ["True", "False"] * 2


def test_damaged_files_raise_nothing_else() -> None:
    value: Any = {"a": [1, 2.0, "x"]}
    encoded = CLOUDPICKLE.encode(value)
    for files in ({}, {"other": b""}, {"data.pkl": b""}, {"data.pkl": b"\x80\x05."}):
        with pytest.raises(MaterializationError):
            CLOUDPICKLE.decode(type(encoded)(files), None)
