"""What the S3 that counts keeps, and the rules of it: objects, conditions, listings, uploads.

Nothing here does input or output, and nothing waits: between a check and the change that hangs on
it no other request can come, so that conditional writes are exact.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

_UPLOAD_IDS = itertools.count(1)


class Quirk(StrEnum):
    """A way of being a bad S3, or of being one that people really use."""

    MISSING = "missing"
    """The bucket does not exist: 404 NoSuchBucket."""

    IGNORES_IF_NONE_MATCH = "ignores-if-none-match"
    """If-None-Match is not looked at, so that every create succeeds."""

    IGNORES_IF_MATCH = "ignores-if-match"
    """If-Match is not looked at, so that every replacement succeeds."""

    NO_CONDITIONS = "no-conditions"
    """Conditional writes are answered with 501 NotImplemented."""

    UNQUOTED = "unquoted"
    """If-Match of a write is met only by the ETag without its quotes."""

    RACE_500 = "race-500"
    """An If-Match of a write that is not met is answered with 500 InternalError."""

    UNORDERED = "unordered"
    """Listings come in no order, and know no start-after."""

    ENCRYPTING = "encrypting"
    """Listed sizes are 16 more than the bytes, as behind a proxy that encrypts."""


def quirks_in(bucket: str) -> frozenset[Quirk]:
    """The quirks that a bucket's name begins with: ``unquoted-race-500-photos`` has two."""
    found: set[Quirk] = set()
    rest = bucket
    while quirk := next((each for each in Quirk if rest.startswith(each)), None):
        found.add(quirk)
        rest = rest.removeprefix(quirk).removeprefix("-")
    return frozenset(found)


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Stored:
    """An object; the ETag is quoted, as it is sent."""

    body: bytes
    etag: str
    headers: Mapping[str, str]
    modified: float


@dataclass(slots=True)
class Upload:
    """A multipart upload that is under way."""

    key: str
    headers: Mapping[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)


class Page(NamedTuple):
    """A part of a listing: keys, common prefixes, and the token for the next part."""

    keys: list[str]
    prefixes: list[str]
    token: str | None


class Bucket:
    """The objects and uploads of one bucket."""

    def __init__(self, name: str) -> None:
        self.quirks = quirks_in(name)
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self._keys: list[str] = []  # in order

    def put(self, key: str, body: bytes, headers: Mapping[str, str], etag: str = "") -> Stored:
        """Store an object, in place of one of that key."""
        if key not in self.objects:
            bisect.insort(self._keys, key)
        stored = Stored(body, etag or etag_of(body), headers, time.time())
        self.objects[key] = stored
        return stored

    def get(self, key: str) -> Stored:
        """The object of that key."""
        stored = self.objects.get(key)
        if stored is None:
            raise Refused(404, "NoSuchKey")
        return stored

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none, as in S3."""
        if self.objects.pop(key, None) is not None:
            del self._keys[bisect.bisect_left(self._keys, key)]

    def page(self, prefix: str, delimiter: str, after: str, token: str, limit: int) -> Page:
        """A part of the listing in order: of ``limit`` entries, behind ``token`` or ``after``."""
        return _page(self._keys, prefix, delimiter, token or after, limit)

    def shuffled_page(self, prefix: str, delimiter: str, token: str, limit: int) -> Page:
        """A part of the listing in some order, the same one as long as the bucket is the same."""
        whole = _page(self._keys, prefix, delimiter, "", len(self._keys) + 1)
        entries = [(key, False) for key in whole.keys] + [(each, True) for each in whole.prefixes]
        random.Random(len(entries)).shuffle(entries)
        start = int(token or 0)
        part = entries[start : start + limit]
        more = limit > 0 and start + limit < len(entries)
        keys = [name for name, common in part if not common]
        prefixes = [name for name, common in part if common]
        return Page(keys, prefixes, str(start + limit) if more else None)

    def begin_upload(self, key: str, headers: Mapping[str, str]) -> str:
        """Begin a multipart upload; its id."""
        name = f"upload-{next(_UPLOAD_IDS)}"
        self.uploads[name] = Upload(key, headers)
        return name

    def upload(self, name: str) -> Upload:
        """The multipart upload of that id."""
        found = self.uploads.get(name)
        if found is None:
            raise Refused(404, "NoSuchUpload")
        return found

    def complete_upload(self, name: str, numbers: list[int]) -> Stored:
        """Make an object of these parts; parts that are not named are thrown away."""
        upload = self.upload(name)
        if not numbers or not all(number in upload.parts for number in numbers):
            raise Refused(400, "InvalidPart")
        if numbers != sorted(set(numbers)):
            raise Refused(400, "InvalidPartOrder")
        parts = [upload.parts[number] for number in numbers]
        digests = b"".join(_md5(part).digest() for part in parts)
        del self.uploads[name]
        etag = f'"{_md5(digests).hexdigest()}-{len(parts)}"'
        return self.put(upload.key, b"".join(parts), upload.headers, etag)


def _md5(body: bytes) -> hashlib._Hash:
    return hashlib.md5(body, usedforsecurity=False)


def etag_of(body: bytes) -> str:
    """The ETag of an object that was stored in one piece."""
    return f'"{_md5(body).hexdigest()}"'


def same_etag(condition: str, etag: str) -> bool:
    """Whether an If-Match or If-None-Match names this ETag."""
    return condition == "*" or condition.strip('"') == etag.strip('"')


def check_write(
    current: Stored | None,
    if_match: str | None,
    if_none_match: str | None,
    quirks: frozenset[Quirk] = frozenset(),
) -> None:
    """Refuse a write whose conditions the object that is there does not meet."""
    if Quirk.NO_CONDITIONS in quirks:
        raise Refused(501, "NotImplemented")
    if if_none_match is not None and Quirk.IGNORES_IF_NONE_MATCH not in quirks:
        if if_none_match != "*":
            raise Refused(501, "NotImplemented")
        if current is not None:
            raise Refused(412, "PreconditionFailed")
    if if_match is not None and Quirk.IGNORES_IF_MATCH not in quirks:
        if current is None:
            raise Refused(404, "NoSuchKey")
        met = same_etag(if_match, current.etag)
        if Quirk.UNQUOTED in quirks and if_match.startswith('"'):
            met = False
        if not met:
            lost = (500, "InternalError") if Quirk.RACE_500 in quirks else None
            raise Refused(*(lost or (412, "PreconditionFailed")))


def slice_of(body: bytes, wanted: str) -> tuple[int, int]:
    """The first byte and the one behind the last that a Range header asks for."""
    unit, _, span = wanted.partition("=")
    first, dash, last = span.partition("-")
    if unit != "bytes" or not dash or "," in span or not (first or last):
        raise Refused(416, "InvalidRange")
    size = len(body)
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    if start >= end:
        raise Refused(416, "InvalidRange")
    return start, end


def _page(ordered: list[str], prefix: str, delimiter: str, after: str, limit: int) -> Page:
    """A part of a listing, of what sorts behind ``after``; so does a common prefix, as one name."""
    keys: list[str] = []
    prefixes: list[str] = []
    last = ""
    at = bisect.bisect_left(ordered, prefix)
    if after:
        at = max(at, bisect.bisect_right(ordered, after))
    while limit and at < len(ordered) and ordered[at].startswith(prefix):
        key = ordered[at]
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        common = key[: cut + len(delimiter)] if cut >= 0 else ""
        listed = not common or common > after
        if listed and len(keys) + len(prefixes) >= limit:
            return Page(keys, prefixes, last)
        if not common:
            keys.append(key)
            last = key
            at += 1
            continue
        if listed:
            prefixes.append(common)
            last = common
        at = bisect.bisect_left(ordered, common[:-1] + chr(ord(common[-1]) + 1))
    return Page(keys, prefixes, None)
