"""From an encoded object to what is stored of it: its manifest and its payload objects."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from asyncstore.backends.base import Buffer
from asyncstore.concurrency import SMALL, in_order, in_worker, maybe_in_worker, together
from asyncstore.digests import CHUNK_SIZE, Digest, Hasher, digest_of
from asyncstore.materializers import Encoded
from asyncstore.materializers.ondisk import LocalFile, changed
from asyncstore.record import FileEntry, Manifest, content_hash, file_entry, new_commit
from asyncstore.registry.fetching import AHEAD
from asyncstore.registry.layout import lay_out
from asyncstore.registry.opened import Opened, writer_name

Content = Buffer | LocalFile


@dataclass(frozen=True, slots=True)
class Draft:
    """An object ready to be stored: its manifest but for the version, and its bytes.

    ``payloads`` are the objects to upload, in the order of their index; ``payload_count`` counts
    those that were uploaded before, too. They go under the id ``commit``. ``finish`` completes the
    manifest with what only the upload tells.
    """

    name: str
    commit: str
    manifest: Manifest
    inline: bytes = b""
    payloads: tuple[Buffer | AsyncIterable[Buffer], ...] = ()
    payload_count: int = 0
    finish: Callable[[], Awaitable[Manifest]] | None = None

    async def finished(self) -> Draft:
        """The same, complete; to be asked for once all payloads are uploaded."""
        if self.finish is None:
            return self
        return replace(self, manifest=await self.finish(), finish=None)


async def make_draft(
    o: Opened,
    name: str,
    encoded: Encoded,
    again: Callable[[], Awaitable[Encoded]],
    *,
    kind: str,
    materializer: str,
    metadata: dict[str, Any],
) -> Draft:
    """Lay the files out: all in the record, or in payload objects.

    What is in memory is hashed now, what is on the disk while it is uploaded; ``again`` encodes
    once more, to see that nothing on the disk changed meanwhile.
    """
    contents: dict[str, Content] = {**encoded.files, **encoded.on_disk}
    sizes = [_size(content) for content in contents.values()]
    groups = lay_out(sizes, o.descriptor.inline_max)
    o.meter.begin(sum(sizes), len(sizes))
    if groups is None:
        contents = {path: await _in_memory(content) for path, content in contents.items()}
    digests: dict[str, Digest] = dict(
        await together(*(_hashed(path, content) for path, content in contents.items()))
    )

    async def manifest() -> Manifest:
        if encoded.on_disk and (found := await again()) != encoded:
            differ = found.on_disk.items() ^ encoded.on_disk.items()
            paths = sorted({file.path for _, file in differ})
            raise changed(paths[0] if paths else f"{kind} {name!r}")
        entries = _entries(list(contents), digests, groups, encoded.on_disk)
        return manifest_of(
            name, entries, dirs=list(encoded.dirs), kind=kind, materializer=materializer,
            params=dict(encoded.params), metadata=metadata,
        )  # fmt: skip

    if groups is None:
        inline = b"".join(_bytes(content) for content in contents.values())
        return Draft(name, new_commit(), await manifest(), inline=inline)
    listed = list(contents.items())
    payloads = tuple(_payload([listed[at] for at in group], digests) for group in groups)
    draft = Draft(
        name, new_commit(), EMPTY, payloads=payloads, payload_count=len(payloads), finish=manifest
    )
    return draft if encoded.on_disk else await draft.finished()


def _size(content: Content) -> int:
    return content.size if isinstance(content, LocalFile) else memoryview(content).nbytes


def _bytes(content: Content) -> Buffer:
    assert not isinstance(content, LocalFile)
    return content


async def _in_memory(content: Content) -> Buffer:
    if not isinstance(content, LocalFile):
        return content
    return (await in_worker(content.read, 0, content.size))[0]


async def _hashed(path: str, content: Content) -> tuple[str, Digest]:
    """A file with its digest; one on the disk is hashed later, when it is read."""
    if isinstance(content, LocalFile):
        return path, Hasher().digest()
    large = memoryview(content).nbytes > SMALL
    return path, await maybe_in_worker(large, digest_of, content)


def _payload(
    files: Sequence[tuple[str, Content]], digests: dict[str, Digest]
) -> Buffer | AsyncIterable[Buffer]:
    """The bytes of one payload object."""
    _, first = files[0]
    if len(files) == 1 and not isinstance(first, LocalFile):
        return first
    return _stream(files, digests)


async def _stream(
    files: Sequence[tuple[str, Content]], digests: dict[str, Digest]
) -> AsyncGenerator[Buffer]:
    """Files one after the other; what is on the disk is read ahead and hashed on the way."""
    for path, content in files:
        if not isinstance(content, LocalFile):
            yield content
            continue
        hasher = Hasher()
        calls = (
            partial(in_worker, content.read, at, min(CHUNK_SIZE, content.size - at))
            for at in range(0, content.size, CHUNK_SIZE)
        )
        async with aclosing(in_order(calls, ahead=AHEAD)) as chunks:
            async for data, leaf in chunks:
                hasher.add(leaf, len(data))
                yield data
                del data  # else it stays in memory until the next one is there
        digests[path] = hasher.digest()


def _entries(
    paths: Sequence[str],
    digests: Mapping[str, Digest],
    groups: list[list[int]] | None,
    on_disk: Mapping[str, LocalFile],
) -> list[FileEntry]:
    entries: list[FileEntry] = []
    executable = {path for path, file in on_disk.items() if file.executable}
    for index, group in enumerate(groups if groups is not None else [range(len(paths))]):
        offset = 0
        for at in group:
            path = paths[at]
            digest = digests[path]
            inline, payload = (offset, None) if groups is None else (None, index)
            entries.append(
                file_entry(
                    path,
                    digest,
                    inline=inline,
                    payload=payload,
                    offset=offset if inline is None else 0,
                    executable=path in executable,
                )
            )
            offset += digest.size
    return entries


def manifest_of(
    name: str,
    files: list[FileEntry],
    *,
    dirs: Sequence[str] = (),
    kind: str,
    materializer: str,
    params: dict[str, Any],
    metadata: dict[str, Any],
) -> Manifest:
    """The manifest of a new object; its version is filled in when it is committed."""
    return Manifest(
        name=name,
        version="",
        created=now(),
        committed="",
        writer=writer_name(),
        kind=kind,
        materializer=materializer,
        params=params,
        metadata=metadata,
        files=files,
        dirs=list(dirs),
        hash=content_hash(files, dirs),
        size=sum(entry.n for entry in files),
    )


def now() -> str:
    """The time of day in UTC, as records write it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


EMPTY = manifest_of("", [], kind="", materializer="", params={}, metadata={})
