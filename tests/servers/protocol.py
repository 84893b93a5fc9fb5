"""The requests of S3 and their answers, without the network: what the S3 that counts understands.

Objects: PUT (If-None-Match: ``*``, If-Match), GET (Range, If-Match, If-None-Match), HEAD, DELETE
(If-Match), CopyObject, DeleteObjects, ListObjectsV2, and multipart uploads: create, part, complete,
abort, list. Buckets come into being when they are first named; deleting one deletes what is in it.
Signatures and checksums are not verified.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.servers.objects import (
    Bucket,
    Quirk,
    Refused,
    Stored,
    check_write,
    etag_of,
    same_etag,
    slice_of,
)

_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_KEPT = {"content-type", "content-encoding", "content-disposition", "cache-control"}


class Reply(NamedTuple):
    """An answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}


@dataclass(slots=True)
class Call:
    """A request, taken apart. Names of headers are matched in any case."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def conditional_write(self) -> bool:
        """Whether it changes something under a condition."""
        return self.method in {"PUT", "POST", "DELETE"} and (
            "If-Match" in self.headers or "If-None-Match" in self.headers
        )


class S3:
    """The buckets. ``quirks`` are those that every bucket has, next to those in its name."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.quirks: set[Quirk] = set()

    def answer(self, call: Call) -> Reply:
        """Do what a request asks for.

        Raises:
            Refused: with the error to answer.
        """
        bucket = self.buckets.get(call.bucket)
        if bucket is None:
            bucket = self.buckets[call.bucket] = Bucket(call.bucket)
        if Quirk.MISSING in self._quirks(bucket):
            raise Refused(404, "NoSuchBucket")
        if not call.key:
            return self._on_bucket(call, bucket)
        if "uploadId" in call.query or "uploads" in call.query:
            return self._on_upload(call, bucket)
        if call.method in {"GET", "HEAD"}:
            return _get(call, bucket)
        if call.method == "PUT":
            return self._put(call, bucket)
        if call.method == "DELETE":
            self._check(call, bucket)
            bucket.delete(call.key)
            return Reply(204)
        raise Refused(501, "NotImplemented")

    def _quirks(self, bucket: Bucket) -> frozenset[Quirk]:
        return bucket.quirks.union(self.quirks) if self.quirks else bucket.quirks

    def _check(self, call: Call, bucket: Bucket) -> None:
        """Refuse a write whose conditions are not met."""
        if call.conditional_write:
            headers = call.headers
            current = bucket.objects.get(call.key)
            conditions = headers.get("If-Match"), headers.get("If-None-Match")
            check_write(current, *conditions, self._quirks(bucket))

    def _put(self, call: Call, bucket: Bucket) -> Reply:
        self._check(call, bucket)
        source = call.headers.get("x-amz-copy-source")
        if source is None:
            stored = bucket.put(call.key, call.body, _kept(call.headers))
            return Reply(headers={"ETag": stored.etag})
        name, _, key = unquote(source).lstrip("/").partition("/")
        original = self.buckets.setdefault(name, Bucket(name)).get(key)
        wanted = call.headers.get("x-amz-copy-source-if-match")
        if wanted is not None and not same_etag(wanted, original.etag):
            raise Refused(412, "PreconditionFailed")
        replaces = call.headers.get("x-amz-metadata-directive") == "REPLACE"
        headers = _kept(call.headers) if replaces else original.headers
        stored = bucket.put(call.key, original.body, headers)
        when = f"<LastModified>{_time(stored)}</LastModified>"
        return _xml("CopyObjectResult", f"{when}<ETag>{escape(stored.etag)}</ETag>")

    def _on_bucket(self, call: Call, bucket: Bucket) -> Reply:
        if call.method == "GET":
            if "uploads" in call.query:
                return _list_uploads(call, bucket)
            if "location" in call.query:
                return _xml("LocationConstraint", "")
            return _list(call, bucket, self._quirks(bucket))
        if call.method == "POST" and "delete" in call.query:
            return _delete_all(call, bucket)
        if call.method == "DELETE":
            del self.buckets[call.bucket]
            return Reply(204)
        if call.method in {"PUT", "HEAD"}:
            return Reply()
        raise Refused(501, "NotImplemented")

    def _on_upload(self, call: Call, bucket: Bucket) -> Reply:
        if call.method == "POST" and "uploads" in call.query:
            name = bucket.begin_upload(call.key, _kept(call.headers))
            where = f"<Bucket>{call.bucket}</Bucket><Key>{escape(call.key)}</Key>"
            return _xml("InitiateMultipartUploadResult", f"{where}<UploadId>{name}</UploadId>")
        name = call.query.get("uploadId", "")
        upload = bucket.upload(name)
        if call.method == "PUT" and "x-amz-copy-source" not in call.headers:
            upload.parts[int(call.query["partNumber"])] = call.body
            return Reply(headers={"ETag": etag_of(call.body)})
        if call.method == "POST":
            self._check(call, bucket)
            stored = bucket.complete_upload(name, _numbers(call.body))
            where = f"<Bucket>{call.bucket}</Bucket><Key>{escape(call.key)}</Key>"
            return _xml(
                "CompleteMultipartUploadResult", f"{where}<ETag>{escape(stored.etag)}</ETag>"
            )
        if call.method == "DELETE":
            del bucket.uploads[name]
            return Reply(204)
        raise Refused(501, "NotImplemented")


def _get(call: Call, bucket: Bucket) -> Reply:
    stored = bucket.get(call.key)
    asked = call.headers
    if "If-Match" in asked and not same_etag(asked["If-Match"], stored.etag):
        raise Refused(412, "PreconditionFailed")
    if "If-None-Match" in asked and same_etag(asked["If-None-Match"], stored.etag):
        return Reply(304, headers={"ETag": stored.etag})
    headers = {
        "ETag": stored.etag,
        "Last-Modified": formatdate(stored.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        **stored.headers,
    }
    if "Range" not in asked:
        return Reply(200, stored.body, headers)
    start, end = slice_of(stored.body, asked["Range"])
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(stored.body)}"
    return Reply(206, stored.body[start:end], headers)


def _delete_all(call: Call, bucket: Bucket) -> Reply:
    request = ElementTree.fromstring(call.body)
    keys = [element.text or "" for element in request.iterfind("{*}Object/{*}Key")]
    if len(keys) > 1000:
        raise Refused(400, "MalformedXML")
    for key in keys:
        bucket.delete(key)
    quiet = request.findtext("{*}Quiet") == "true"
    deleted = (
        "" if quiet else "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
    )
    return _xml("DeleteResult", deleted)


def _list(call: Call, bucket: Bucket, quirks: frozenset[Quirk]) -> Reply:
    query = call.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit = min(int(query.get("max-keys", 1000)), 1000)
    token = unquote(query.get("continuation-token", ""))
    if Quirk.UNORDERED in quirks:
        page = bucket.shuffled_page(prefix, delimiter, token, limit)
    else:
        page = bucket.page(prefix, delimiter, query.get("start-after", ""), token, limit)
    write = _written(query)
    more = 16 if Quirk.ENCRYPTING in quirks else 0
    parts = [
        f"<Name>{call.bucket}</Name><Prefix>{write(prefix)}</Prefix><MaxKeys>{limit}</MaxKeys>",
        f"<KeyCount>{len(page.keys) + len(page.prefixes)}</KeyCount>",
        f"<IsTruncated>{str(page.token is not None).lower()}</IsTruncated>",
    ]
    if delimiter:
        parts.append(f"<Delimiter>{write(delimiter)}</Delimiter>")
    if "encoding-type" in query:
        parts.append("<EncodingType>url</EncodingType>")
    if page.token is not None:
        # Quoted once more than it has to be: it may hold what XML cannot.
        token = quote(page.token, safe="")
        parts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
    for key in page.keys:
        stored = bucket.objects[key]
        parts.append(
            f"<Contents><Key>{write(key)}</Key><LastModified>{_time(stored)}</LastModified>"
            f"<ETag>{escape(stored.etag)}</ETag><Size>{len(stored.body) + more}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )
    parts.extend(
        f"<CommonPrefixes><Prefix>{write(each)}</Prefix></CommonPrefixes>" for each in page.prefixes
    )
    return _xml("ListBucketResult", "".join(parts))


def _list_uploads(call: Call, bucket: Bucket) -> Reply:
    prefix = call.query.get("prefix", "")
    write = _written(call.query)
    found = sorted((each.key, name) for name, each in bucket.uploads.items())
    rows = "".join(
        f"<Upload><Key>{write(key)}</Key><UploadId>{name}</UploadId></Upload>"
        for key, name in found
        if key.startswith(prefix)
    )
    encoding = "<EncodingType>url</EncodingType>" if "encoding-type" in call.query else ""
    about = f"<Bucket>{call.bucket}</Bucket><IsTruncated>false</IsTruncated>{encoding}"
    return _xml("ListMultipartUploadsResult", about + rows)


def _written(query: Mapping[str, str]) -> Callable[[str], str]:
    """How keys are written in a listing: in XML, or as in an address where that was asked for."""
    if query.get("encoding-type") == "url":
        return lambda text: quote(text, safe="/")
    return escape


def _numbers(body: bytes) -> list[int]:
    """The parts that the completion of an upload names."""
    parts = ElementTree.fromstring(body).iterfind("{*}Part/{*}PartNumber")
    return [int(part.text or 0) for part in parts]


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are stored with an object."""
    kept: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower in _KEPT or lower.startswith("x-amz-meta-"):
            kept[lower] = value
    if "aws-chunked" in kept.get("content-encoding", ""):
        # It says how the request was sent, not what the object is.
        codings = kept.pop("content-encoding").split(",")
        rest = ",".join(each.strip() for each in codings if each.strip() != "aws-chunked")
        if rest:
            kept["content-encoding"] = rest
    return kept


def without_chunks(body: bytes) -> bytes:
    """The bytes in an ``aws-chunked`` body: ``size[;signature] CRLF bytes CRLF``, then trailers."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].partition(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def _time(stored: Stored) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.modified))


def _xml(name: str, inside: str) -> Reply:
    text = f'<?xml version="1.0" encoding="UTF-8"?><{name} {_NAMESPACE}>{inside}</{name}>'
    return Reply(200, text.encode(), {"Content-Type": "application/xml"})
