"""Which bytes of an object go where: into its record, or into which payload object. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from asyncstore.digests import CHUNK_SIZE

PACK: Final = CHUNK_SIZE
"""Bytes of a payload object that holds several files, at most."""

_FEW: Final = 8
_SMALL: Final = 1024 * 1024


def lay_out(sizes: Sequence[int], inline_max: int) -> list[list[int]] | None:
    """The files of each payload object, by their positions; None where all go into the record.

    A few files have an object each. Of many, small ones share objects of up to 8 MiB, in order:
    a folder of 10,000 small files is some hundred requests, and not 10,000.
    """
    if sum(sizes) <= inline_max:
        return None
    if len(sizes) <= _FEW:
        return [[at] for at in range(len(sizes))]
    groups: list[list[int]] = []
    pack: list[int] = []
    packed = 0
    for at, size in enumerate(sizes):
        if size > _SMALL:
            groups.append([at])
            continue
        if pack and packed + size > PACK:
            groups.append(pack)
            pack, packed = [], 0
        pack.append(at)
        packed += size
    return [*groups, pack] if pack else groups
