"""Where a bucket is and how to sign in: from a URI and keywords to checked options. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, Literal, get_args
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from asyncstore.errors import RegistrySettingsConflict

Addressing = Literal["auto", "path", "virtual"]
Checksum = Literal["md5", "crc32", "none"]

MAX_PREFIX: Final = 512
"""Bytes of a mount's prefix, so that every key below it fits into S3's 1,024."""

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_IN_URI: Final = ("endpoint_url", "region", "profile", "addressing", "checksum", "anonymous")
_SECRET: Final = ("access_key_id", "secret_access_key", "session_token")
_TEXTS: Final = ("endpoint_url", "region", "profile", *_SECRET)
_SPELLINGS: Final = {
    **{name: name for name in (*_IN_URI, *_SECRET)},
    **{f"aws_{name}": name for name in _SECRET},
    "region_name": "region",
    "endpoint": "endpoint_url",
    "profile_name": "profile",
}


@dataclass(frozen=True, slots=True)
class S3Options:
    """How the service behind a bucket is reached. Credentials never show in its repr.

    ``connect_timeout`` and ``read_timeout`` are in seconds, for a connection to be made and for
    the next bytes to come. Without keys here, botocore finds them in the environment, the shared
    credentials file (``profile``) or the machine's role.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing: Addressing = "auto"
    checksum: Checksum = "md5"
    anonymous: bool = False
    connections: int = 64
    connect_timeout: float = 5.0
    read_timeout: float = 30.0
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._check_types()
        for name, choices in (("addressing", Addressing), ("checksum", Checksum)):
            value = getattr(self, name)
            if value not in get_args(choices):
                known = ", ".join(map(repr, get_args(choices)))
                raise RegistrySettingsConflict(f"{name}={value!r}: expected one of {known}")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise RegistrySettingsConflict(
                "access_key_id and secret_access_key go together: give both, or neither and have "
                "them found in the environment"
            )
        if self.endpoint_url is not None:
            _check_endpoint(self.endpoint_url)

    def _check_types(self) -> None:
        for name in _TEXTS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise RegistrySettingsConflict(f"{name}: expected text, got {type(value).__name__}")
        if type(self.connections) is not int or self.connections < 1:
            raise RegistrySettingsConflict("connections: expected a whole number of 1 or more")
        for name in ("connect_timeout", "read_timeout"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < float("inf"):
                raise RegistrySettingsConflict(f"{name}={value!r}: expected seconds above 0")
        if type(self.anonymous) is not bool:
            raise RegistrySettingsConflict("anonymous: expected True or False")

    def shown(self) -> dict[str, str]:
        """What tells one place from another, as it stands in a URI: no credentials."""
        found = {"endpoint_url": self.endpoint_url, "region": self.region}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class S3Address:
    """A bucket, and the prefix in it that holds the objects (no slash at either end)."""

    bucket: str
    prefix: str
    options: S3Options

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            shown = self.bucket.partition(":")[0][:80]  # what follows may be a secret
            raise RegistrySettingsConflict(
                f"{shown!r}{'...' if shown != self.bucket else ''} is no bucket name, which has up "
                "to 255 letters, digits, dots, hyphens and underscores: expected s3://bucket/prefix"
            )
        parts = self.prefix.split("/") if self.prefix else []
        if any(part in {"", ".", ".."} for part in parts) or "\0" in self.prefix:
            raise RegistrySettingsConflict(
                f"{self.prefix[:80]!r} is no prefix: expected segments joined by single slashes, "
                "none of them '.' or '..'"
            )
        if len(self.prefix.encode()) > MAX_PREFIX:
            raise RegistrySettingsConflict(
                f"the prefix has {len(self.prefix.encode())} bytes, and {MAX_PREFIX} is the most"
            )

    @property
    def uri(self) -> str:
        """The URI of this place, for people to read: it opens the same, given the credentials."""
        path = f"/{quote(self.prefix)}" if self.prefix else ""
        query = urlencode(self.options.shown(), safe=":/")
        return f"s3://{self.bucket}{path}{'?' + query if query else ''}"


def parse_address(uri: str, options: Mapping[str, Any]) -> S3Address:
    """The address that a URI and keywords name.

    Raises RegistrySettingsConflict, which shows no credentials, for what is none and for what is
    given twice and differs.
    """
    if any(ord(char) < 32 for char in uri):
        raise RegistrySettingsConflict("a URI has no control characters; write them as %0A")
    parts = _split(uri, "the URI")
    if parts.username is not None or parts.password is not None:
        raise RegistrySettingsConflict(
            "credentials do not belong in a URI, which ends up in logs: use the environment, a "
            "profile, or the keywords access_key_id and secret_access_key"
        )
    if parts.fragment:
        raise RegistrySettingsConflict(f"an s3:// URI has no fragment; write '#' as %23 ({_HOW})")
    given = dict(_named(options))
    for name, value in _named(_query(parts.query)):
        if name in _SECRET:
            raise RegistrySettingsConflict(
                f"{name} does not belong in a URI, which ends up in logs: give it as a keyword"
            )
        if name not in _IN_URI:
            raise RegistrySettingsConflict(f"{name} is no part of an s3:// URI: {_HOW}")
        if given.setdefault(name, value) != value:
            raise RegistrySettingsConflict(
                f"{name} is given twice: {value!r} in the URI and {given[name]!r} as a keyword"
            )
    if "anonymous" in given:
        given["anonymous"] = _truth(given["anonymous"])
    prefix = unquote(parts.path).strip("/")
    return S3Address(parts.netloc, prefix, S3Options(**given))


_HOW: Final = "expected s3://bucket/prefix?endpoint_url=...&region=..."


def _query(text: str) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RegistrySettingsConflict("an option is given twice in the URI")
    return found


def _named(options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Options by their own names, whichever spelling was used; those that are None are left out."""
    found: list[tuple[str, Any]] = []
    for given, value in options.items():
        name = _SPELLINGS.get(given, given if given in S3Options.__slots__ else None)
        if name is None:
            close = get_close_matches(given, [*_SPELLINGS, *S3Options.__slots__], 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            known = ", ".join((*_IN_URI, *_SECRET))
            raise RegistrySettingsConflict(
                f"{given[:40]!r} is no option of an S3 backend: {hint}Known are {known}"
            )
        if value is not None:
            found.append((name, value))
    return found


_WORDS: Final[dict[object, bool]] = {"true": True, "1": True, "false": False, "0": False}


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value not in _WORDS:
        raise RegistrySettingsConflict(f"anonymous={value!r}: expected true or false")
    return _WORDS[value]


def _check_endpoint(url: str) -> None:
    parts = _split(url, "endpoint_url")
    if parts.username is not None or parts.password is not None:
        raise RegistrySettingsConflict(
            "credentials do not belong in endpoint_url, which ends up in logs"
        )
    extra = parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or extra:
        shown = f"{parts.scheme}://{parts.hostname or ''}"[:100]  # a query may hold a secret
        raise RegistrySettingsConflict(
            f"endpoint_url={shown!r}{'...' if extra else ''}: expected http://host:port or "
            "https://host:port"
        )


def _split(url: str, what: str) -> SplitResult:
    with suppress(ValueError):  # whose message shows what may be a secret
        parts = urlsplit(url)
        _ = parts.port  # may raise as well
        return parts
    raise RegistrySettingsConflict(
        f"{what} is none: expected scheme://host:port/path, with a number for the port"
    )
