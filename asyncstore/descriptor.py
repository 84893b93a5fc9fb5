"""The registry descriptor ``asv.json``: the settings that all who open a registry share. Pure."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from asyncstore.errors import (
    IntegrityError,
    RegistrySettingsConflict,
    UnsupportedFormatError,
)
from asyncstore.record import FORMAT, MAX_INLINE
from asyncstore.versions import MAX_COMPONENTS

DESCRIPTOR_KEY: Final = "asv.json"
MAX_DESCRIPTOR: Final = 64 * 1024
DEFAULT_INLINE: Final = 64 * 1024


class Descriptor(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a registry. ``inline_max`` is in bytes."""

    asv: int = FORMAT
    id: str
    version_objects: bool = True
    mutable: bool = False
    version_digits: int = 3
    reuse_deleted: bool = False
    inline_max: int = DEFAULT_INLINE
    min_reader: int = FORMAT
    min_writer: int = FORMAT
    features: list[str] = []

    def reads_like(self, other: Descriptor) -> bool:
        """Whether reading under either setting is the same."""
        return (self.version_objects, self.version_digits) == (
            other.version_objects,
            other.version_digits,
        )


class _Needs(msgspec.Struct):
    """What must be understood before anything else in a descriptor is."""

    asv: int = FORMAT
    min_reader: int = FORMAT
    min_writer: int = FORMAT
    features: list[str] = []


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for; None means "whatever the registry says"."""

    version_objects: bool | None = None
    mutable: bool | None = None
    version_digits: int | None = None
    inline_max: int | None = None

    def __post_init__(self) -> None:
        for setting in ("version_objects", "mutable"):
            value = getattr(self, setting)
            if value is not None and not isinstance(value, bool):
                raise RegistrySettingsConflict(f"{setting}={value!r}: expected True or False")
        _check_number("version_digits", self.version_digits, 1, MAX_COMPONENTS)
        _check_number("inline_max", self.inline_max, 0, MAX_INLINE)

    def new(self) -> Descriptor:
        """The descriptor of a registry that is created now."""
        given = {name: value for name, value in self._all() if value is not None}
        made = Descriptor(id=str(uuid.uuid4()), **given)
        reuse = made.mutable or not made.version_objects
        return msgspec.structs.replace(made, reuse_deleted=reuse)

    def check(self, descriptor: Descriptor, where: str) -> Descriptor:
        """Answer ``descriptor`` if nothing asked for contradicts it."""
        for name, value in self._all():
            stored = getattr(descriptor, name)
            if value is not None and value != stored:
                raise RegistrySettingsConflict(
                    f"the registry at {where} was created with {name}={stored!r}, and "
                    f"{name}={value!r} was asked for: leave the setting out, or use another place"
                )
        return descriptor

    def _all(self) -> list[tuple[str, Any]]:
        return [
            ("version_objects", self.version_objects),
            ("mutable", self.mutable),
            ("version_digits", self.version_digits),
            ("inline_max", self.inline_max),
        ]


def _check_number(setting: str, value: int | None, least: int, most: int) -> None:
    if value is None:
        return
    if type(value) is not int or not least <= value <= most:
        raise RegistrySettingsConflict(
            f"{setting}={value!r}: expected a whole number from {least} to {most:,}"
        )


def write_descriptor(descriptor: Descriptor) -> bytes:
    """The bytes of ``asv.json``: one JSON object that carries a digest of itself."""
    tree = json.loads(msgspec.json.encode(descriptor))
    return _canonical({**tree, "digest": _digest(tree)}) + b"\n"


def read_descriptor(data: bytes, where: str) -> Descriptor:
    """Parse and check ``asv.json``; raises IntegrityError or UnsupportedFormatError."""
    try:
        tree = json.loads(data.decode("ascii"))  # of bytes, it would guess the encoding
        digest = tree.pop("digest")
        if len(data) > MAX_DESCRIPTOR or digest != _digest(tree):
            raise ValueError("its digest does not match")
        needs = msgspec.convert(tree, _Needs)
        if max(needs.min_reader, needs.min_writer, needs.asv) > FORMAT or needs.features:
            raise UnsupportedFormatError(
                f"the registry at {where} is of a newer format than this version of asyncstore "
                "knows: install a newer one"
            )
        found = msgspec.convert(tree, Descriptor)
        Wanted(found.version_objects, found.mutable, found.version_digits, found.inline_max)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"the registry descriptor of {where} is corrupt: {error}") from None
    return found


def _digest(tree: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(tree)).hexdigest()


def _canonical(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
