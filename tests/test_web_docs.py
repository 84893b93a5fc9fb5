"""The applications that docs/web.md shows run, and its tables say what is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import asyncstore
from asyncstore import AsyncStoreError
from tests.documents import ROOT, Block, blocks
from tests.rigs.asgi import client_of

pytestmark = pytest.mark.asyncio

DOWNLOAD, FASTAPI, OWN = blocks("docs/web.md", "python")


@contextmanager
def app_of(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ASYNCSTORE_STORE_DIR", str(folder / "configured"))
    module = ModuleType(f"page_{block.line}")
    exec(compile(block.code, f"{block.page}:{block.line}", "exec"), module.__dict__)
    yield module.__dict__["app"]


async def test_the_download_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncstore.AsyncStore({"lab": tmp_path / "lab_store"}) as store:
        await store.save("lab/x", b"bytes")
    with app_of(DOWNLOAD, tmp_path, monkeypatch) as app:
        async with client_of(app) as client:
            assert (await client.get("/objects/x")).content == b"bytes"
            assert (await client.get("/objects/y")).status_code == 404


async def test_with_fastapi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with app_of(FASTAPI, tmp_path, monkeypatch) as app:
        async with client_of(app) as client:
            reply = await client.put(
                "/objects/lab/x", content=b"bytes", headers={"content-type": "text/x-own"}
            )
            assert (reply.status_code, reply.json()) == (201, {"version": "1.0.0"})
            got = await client.get("/objects/lab/x")
            assert (got.content, got.headers["content-type"]) == (b"bytes", "text/x-own")
            assert got.headers["content-disposition"] == 'attachment; filename="x"'


async def test_with_a_lifespan_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with app_of(OWN, tmp_path, monkeypatch) as app:
        async with client_of(app) as client:
            assert (await client.get("/")).text == "hello"


async def test_the_table_of_errors_names_errors_that_exist() -> None:
    page = (ROOT / "docs/web.md").read_text().partition("## Errors")[2]
    named = re.findall(r"`(\w+(?:Error|NotFound|Conflict|Incomplete|Timeout|Unknown))`", page)
    assert len(named) > 10
    assert all(issubclass(getattr(asyncstore, name), AsyncStoreError) for name in named)
