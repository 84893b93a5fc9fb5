"""A prefix of an S3 bucket as a backend, on aiobotocore."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence
from typing import Any, Final

from asyncstore.backends.base import (
    Backend,
    Blob,
    Buffer,
    Capabilities,
    Entry,
    Page,
    PutReply,
    PutStatus,
    check_key,
)
from asyncstore.backends.multipart import put_in_parts
from asyncstore.backends.probing import PROBE
from asyncstore.backends.s3.address import S3Address, S3Options, parse_address
from asyncstore.backends.s3.bodies import Body, crc32, md5, read_body
from asyncstore.backends.s3.client import Lease, S3Client, lease
from asyncstore.backends.s3.faults import code_of, is_absent, mapped, reply_to, status_of
from asyncstore.concurrency import SMALL, maybe_in_worker, together
from asyncstore.errors import BackendCapabilityError, BackendError

_MAY_BE_STYLE: Final = (PutStatus.REFUSED, PutStatus.UNKNOWN)
"""What a service may answer to a tag in quotes that it takes without them only."""

_PAST_ALL: Final = "\U0010ffff"
_BATCH: Final = 1000
_MOST_COPIED: Final = 1024**3
"""Bytes that a service copies within the time that one request may be silent."""

_WHOLE: Final = 1024 * 1024
"""Who asks for so much from the start wants all there is, and is spared the answer to a range."""


class S3Backend:
    """Objects below a prefix of a bucket, on AWS or any service that speaks S3.

    ``client`` is an aiobotocore client to be used as it is, and never closed; without one a
    client is made at first use from ``options``, for each event loop, and shared by all backends
    that reach the service in the same way. Closing the last of them closes it.
    """

    part_size: int = 8 * 1024 * 1024

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        client: S3Client | None = None,
        options: S3Options | None = None,
    ) -> None:
        self._address = S3Address(bucket, prefix.strip("/"), options or S3Options())
        self._given = client
        self._leases: dict[asyncio.AbstractEventLoop, Lease] = {}
        self._quoted: bool | None = None

    @classmethod
    def from_uri(cls, uri: str, **options: Any) -> S3Backend:
        """The backend for ``s3://bucket/prefix?endpoint_url=...``, with options as keywords."""
        client = options.pop("client", None)
        address = parse_address(uri, options)
        return cls(address.bucket, address.prefix, client=client, options=address.options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix?endpoint_url=...``, without credentials."""
        return self._address.uri

    @property
    def capabilities(self) -> Capabilities:
        """What AWS keeps; whether this service does is found out by ``check_backend``."""
        return Capabilities(remote=True)

    # -- reading -----------------------------------------------------------------------------

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> Blob | None:
        """Read in one request; a range that begins past the end takes another."""
        ranged = start > 0 or (length is not None and length < _WHOLE)
        parameters = self._of(key)
        if ranged:
            if length == 0:
                return await self._get_nothing(key)
            end = "" if length is None else start + length - 1
            parameters["Range"] = f"bytes={start}-{end}"
        try:
            reply = await (await self._client()).get_object(**parameters)
            async with reply["Body"] as body:
                size, expected = self._sizes(reply, key, start)
                if length is not None:
                    expected = min(expected, length)
                data = await read_body(body, expected)
            return Blob(data, size, _tag(reply))
        except Exception as error:
            if is_absent(error):
                return None
            if code_of(error) == "InvalidRange" or status_of(error) == 416:
                return await self._get_nothing(key)
            raise mapped(error, self._doing("reading", key)) from error

    async def _get_nothing(self, key: str) -> Blob | None:
        """No bytes of an object: its size and tag, which no range of nothing can be asked for."""
        entry = await self.head(key)
        return None if entry is None else Blob(b"", entry.size, entry.tag or "")

    async def head(self, key: str) -> Entry | None:
        """Size and tag in one request, two where there is nothing."""
        client = await self._client()
        try:
            reply = await client.head_object(**self._of(key))
            return Entry(key, int(reply["ContentLength"]), _tag(reply))
        except Exception as error:
            if status_of(error) != 404:
                raise mapped(error, self._doing("asking for", key)) from error
        # The answer to HEAD has no body, so a missing bucket looks like a missing object.
        try:
            reply = await client.get_object(**self._of(key))
            async with reply["Body"]:
                return Entry(key, int(reply["ContentLength"]), _tag(reply))
        except Exception as error:
            if is_absent(error):
                return None
            raise mapped(error, self._doing("asking for", key)) from error

    async def list(
        self,
        prefix: str,
        *,
        start_after: str = "",
        limit: int = 1000,
        peek: int | None = None,
        deep: bool = False,
    ) -> Page:
        """List in one request; in more only where a page shows nothing and yet is not the last."""
        check_key(prefix.removesuffix("/"))
        parameters = self._bucket() | {"Prefix": self._full(prefix), "MaxKeys": limit}
        if not deep:
            parameters["Delimiter"] = "/"
        if start_after:  # nothing below a prefix comes after it
            after = start_after + _PAST_ALL if start_after.endswith("/") else start_after
            parameters["StartAfter"] = self._full(after)
        while True:
            page, token = await self._list_once(prefix, parameters)
            if page.entries or page.prefixes or not page.more:
                return page
            if token is None:
                raise BackendError(f"{self._doing('listing', prefix)}: the listing does not go on")
            parameters["ContinuationToken"] = token

    async def _list_once(self, prefix: str, parameters: dict[str, Any]) -> tuple[Page, str | None]:
        what = self._doing("listing", prefix)
        try:
            reply = await (await self._client()).list_objects_v2(**parameters)
            more = reply["IsTruncated"]  # in every listing; missing where something else answered
            cut = len(self._full(""))
            entries = tuple(
                Entry(found["Key"][cut:], found["Size"], _unquoted(found.get("ETag", "")))
                for found in reply.get("Contents", ())
                if not found["Key"].endswith("/")  # a folder as consoles draw them
            )
            prefixes = tuple(found["Prefix"][cut:] for found in reply.get("CommonPrefixes", ()))
            token = reply.get("NextContinuationToken")
        except Exception as error:
            raise mapped(error, what) from error
        for shown in ([entry.key for entry in entries], list(prefixes)):
            if shown != sorted(shown) or not all(name.startswith(prefix) for name in shown):
                raise BackendCapabilityError(
                    f"{what}: the keys come in no order, so the newest version cannot be told"
                )
        return Page(entries, prefixes, more), token

    # -- writing -----------------------------------------------------------------------------

    async def put(self, key: str, data: Buffer | AsyncIterable[Buffer]) -> None:
        """Store in one request, or in parts that show only when all are there."""
        check_key(key)  # before anything of a stream is read
        await put_in_parts(self, key, data)

    async def put_whole(self, key: str, data: Buffer) -> None:
        """Store in one request."""
        check_key(key)
        reply = await self._put(key, data, {})
        if reply.status is not PutStatus.DONE:
            raise reply.error or BackendError(f"{self._doing('writing', key)}: refused")

    async def put_if(self, key: str, data: Buffer, *, tag: str | None) -> PutReply:
        """Create or replace in one request, two where a service is new and refuses the first.

        Ceph 16 takes an ETag to match without its quotes only, others with them only. Which is
        learnt from what is accepted; the other way is not tried before a stale tag was seen to be
        refused that way.
        """
        try:
            check_key(key)
        except BackendError as error:
            return PutReply(PutStatus.FAILED, error=error)
        if tag is None:
            return await self._put(key, data, {"IfNoneMatch": "*"})
        if self._quoted is not False:
            reply = await self._put(key, data, {"IfMatch": f'"{tag}"'})
            if reply.status is PutStatus.DONE:
                self._quoted = True
            if reply.status not in _MAY_BE_STYLE or self._quoted:
                return reply
            if not await self._refuses_unquoted():
                return reply
        else:
            reply = PutReply(PutStatus.REFUSED)
        bare = await self._put(key, data, {"IfMatch": tag})
        if bare.status is PutStatus.DONE:
            self._quoted = False
        elif reply.status is PutStatus.UNKNOWN:
            return reply  # the first may have landed, and then the second is refused
        return bare

    async def _refuses_unquoted(self) -> bool:
        """Whether a stale tag without quotes is refused, and not passed over as malformed."""
        await self._put(PROBE, b"probe", {"IfNoneMatch": "*"})
        reply = await self._put(PROBE, b"probe", {"IfMatch": "0" * 32})
        return reply.status is PutStatus.REFUSED

    async def _put(self, key: str, data: Buffer, condition: dict[str, str]) -> PutReply:
        what = self._doing("writing", key)
        try:
            client = await self._client()
        except BackendError as error:  # nothing was sent
            return PutReply(PutStatus.FAILED, error=error)
        try:
            parameters = self._of(key) | await self._body(data) | condition
            reply = await client.put_object(**parameters)
            return PutReply(PutStatus.DONE, _tag(reply))
        except Exception as error:
            return reply_to(error, what, sent_once=self._given is None)

    async def _body(self, data: Buffer) -> dict[str, Any]:
        """The bytes as a client takes them without a copy, and their checksum."""
        large = memoryview(data).nbytes > SMALL
        found: dict[str, Any] = {"Body": Body(data) if large else bytes(data)}
        if self._address.options.checksum == "md5":
            found["ContentMD5"] = await maybe_in_worker(large, md5, data)
        elif self._address.options.checksum == "crc32":
            found["ChecksumCRC32"] = await maybe_in_worker(large, crc32, data)
        return found

    def copies_from(self, source: Backend, size: int) -> bool:
        """Whether both are on one service, signed in alike, and one request copies so much."""
        return (
            isinstance(source, S3Backend)
            and size <= _MOST_COPIED
            and source._address.options == self._address.options
            and source._given is self._given
        )

    async def copy_object(self, source: Backend, source_key: str, key: str) -> None:
        """Have the service copy an object, in one request. Asking again does no harm."""
        if not isinstance(source, S3Backend):
            raise BackendError(f"{self.uri}: {source.uri} is another service")
        what = self._doing("copying to", key)
        try:
            place = source._of(source_key)
            reply = await (await self._client()).copy_object(**self._of(key), CopySource=place)
            _tag(reply["CopyObjectResult"])
        except Exception as error:
            raise mapped(error, what) from error

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove: a few keys each in a request of its own, many in batches of 1,000."""
        for key in keys:
            check_key(key)
        if len(keys) <= 8:
            await together(*(self._delete(key) for key in keys))
            return
        for at in range(0, len(keys), _BATCH):
            await self._delete_batch(keys[at : at + _BATCH])

    async def _delete(self, key: str) -> None:
        try:
            await (await self._client()).delete_object(**self._of(key))
        except Exception as error:
            if not is_absent(error):
                raise mapped(error, self._doing("removing", key)) from error

    async def _delete_batch(self, keys: Sequence[str]) -> None:
        what = f"{self.uri}: removing {len(keys)} objects"
        objects = [{"Key": self._full(key)} for key in keys]
        try:
            reply = await (await self._client()).delete_objects(
                **self._bucket(), Delete={"Objects": objects, "Quiet": True}
            )
            left = [error for error in reply.get("Errors", ()) if error.get("Code") != "NoSuchKey"]
        except Exception as error:
            raise mapped(error, what) from error
        if left:
            raise BackendError(f"{what}: {len(left)} were not, the first: {left[0].get('Code')}")

    # -- multipart ---------------------------------------------------------------------------

    async def begin_parts(self, key: str) -> str:
        """Start an upload in parts; nothing shows before it is finished."""
        try:
            reply = await (await self._client()).create_multipart_upload(**self._of(key))
            return str(reply["UploadId"])
        except Exception as error:
            raise mapped(error, self._doing("starting to write", key)) from error

    async def put_part(self, key: str, upload: str, number: int, data: Buffer) -> str:
        """Store one part, counted from 1, and answer its tag. Sending it again does no harm."""
        what = self._doing(f"writing part {number} of", key)
        try:
            reply = await (await self._client()).upload_part(
                **self._of(key), UploadId=upload, PartNumber=number, **await self._body(data)
            )
            return str(reply["ETag"])
        except Exception as error:
            raise mapped(error, what) from error

    async def finish_parts(self, key: str, upload: str, tags: Sequence[str], size: int) -> None:
        """Make the whole of the parts visible, all ``size`` bytes at once."""
        parts = [{"PartNumber": at, "ETag": tag} for at, tag in enumerate(tags, 1)]
        try:
            reply = await (await self._client()).complete_multipart_upload(
                **self._of(key), UploadId=upload, MultipartUpload={"Parts": parts}
            )
            _tag(reply)
        except Exception as error:
            if code_of(error) == "NoSuchUpload":  # finished already, and the answer was lost?
                entry = await self.head(key)
                if entry is not None and entry.size == size:
                    return
            raise mapped(error, self._doing("ending to write", key)) from error

    async def abandon_parts(self, key: str, upload: str) -> None:
        """Drop an upload and its parts."""
        try:
            await (await self._client()).abort_multipart_upload(**self._of(key), UploadId=upload)
        except Exception as error:
            if not is_absent(error):
                raise mapped(error, self._doing("no longer writing", key)) from error

    # -- the rest ----------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Give the client back; the next use gets one again. One that was handed in stays open."""
        held = self._leases.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held.release()

    async def _client(self) -> S3Client:
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        held = self._leases.get(loop)
        if held is not None and held.is_valid:
            return held.client
        try:
            made = await lease(self._address.options)
        except Exception as error:
            raise mapped(error, f"{self.uri}: opening it") from error
        held = self._leases.get(loop)
        if held is not None and held.is_valid:  # another call was quicker
            await made.release()
            return held.client
        for other in [other for other in self._leases if other.is_closed()]:
            self._leases.pop(other, None)
        self._leases[loop] = made
        return made.client

    def _sizes(self, reply: dict[str, Any], key: str, start: int) -> tuple[int, int]:
        """The size of the object, and how many bytes of it from ``start`` this reply brings."""
        coming = int(reply["ContentLength"])
        shown = reply.get("ContentRange")  # "bytes 0-99/1234"
        if shown is None and start == 0:
            return coming, coming
        if shown is None or not shown.startswith(f"bytes {start}-"):
            raise BackendCapabilityError(
                f"{self._doing('reading', key)}: a range from byte {start} was asked for, and "
                f"the service sent {shown or 'all'}"
            )
        return int(shown.rpartition("/")[2]), coming

    def _full(self, key: str) -> str:
        prefix = self._address.prefix
        return f"{prefix}/{key}" if prefix else key

    def _bucket(self) -> dict[str, Any]:
        return {"Bucket": self._address.bucket}

    def _of(self, key: str) -> dict[str, Any]:
        check_key(key)
        return {"Bucket": self._address.bucket, "Key": self._full(key)}

    def _doing(self, doing: str, what: str) -> str:
        return f"{self.uri}: {doing} {what}"


def _tag(reply: dict[str, Any]) -> str:
    """The ETag of a reply, which every S3 gives; a reply without one is not S3's."""
    return _unquoted(reply["ETag"])


def _unquoted(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')
