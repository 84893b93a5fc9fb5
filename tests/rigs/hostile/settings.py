"""Hostile settings of a registry, and places that are not what they seem."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

from tests.rigs.hostile.case import KEY, NAME, PAYLOAD, SLOT, Case, genuine, header_text, sealed
from tests.rigs.hostile.records import ANY, BROKEN, NUMBERS

SETTINGS: dict[str, Any] = {
    "asv": 1, "id": "0" * 32, "version_objects": True, "mutable": False, "version_digits": 3,
    "reuse_deleted": False, "inline_max": 65536, "min_reader": 1, "min_writer": 1, "features": [],
}  # fmt: skip


def settings_of(tree: Any) -> bytes:
    """The bytes of asv.json, with the digest that makes them look genuine."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({**tree, "digest": digest}, sort_keys=True).encode() + b"\n"


GENUINE = settings_of(SETTINGS)


def ordinary() -> dict[str, bytes]:
    """A harmless object."""
    tree, objects, inline = genuine({"data.bin": b"harmless"})
    return {**objects, KEY: sealed(header_text(tree), inline)}


def hostile_settings(chance: random.Random) -> Case:
    """Settings that lie, or that are none."""
    if chance.random() < 0.25:
        return Case("settings", {**ordinary(), "asv.json": chance.choice([*BROKEN, b"x" * 70_000])})
    tree = dict(SETTINGS)
    for _ in range(chance.choice([1, 1, 2])):
        key = chance.choice([*SETTINGS, "digest", "other"])
        tree[key] = chance.choice([*ANY, *NUMBERS, 4, 8, ["x"], "/etc/passwd"])
        if chance.random() < 0.15:
            del tree[key]
    data = settings_of(tree)
    if chance.random() < 0.2:
        at = chance.randrange(len(data))
        data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
    return Case("settings", {**ordinary(), "asv.json": data})


def hostile_place(chance: random.Random) -> Case:
    """Links, pipes and folders in a directory where records, payload and their folders belong."""
    contents = chance.choice([{"data.bin": b"harmless"}, {"a": b"harmless", "b": b"more"}])
    changes: dict[str, Any] = {"materializer": "path"} if chance.random() < 0.5 else {}
    tree, objects, inline = genuine(contents, payload=True, **changes)
    objects[KEY] = sealed(header_text(tree), inline)
    made = Case("place", objects, on_disk=True, taken=chance.choice(["nothing", "links"]))
    place = chance.choice([
        KEY, f"{PAYLOAD}/0", f"{PAYLOAD}/1", PAYLOAD, f"d/{NAME}", "asv.json", f"m/{NAME}",
        f"m/{NAME}/{SLOT[:-1]}1", "g", f"g/{NAME}", "l", "t", "m/y",
    ])  # fmt: skip
    below = [key for key in objects if key == place or key.startswith(f"{place}/")]
    how = chance.randrange(4)
    if how == 0:
        targets = ["@/canary", "@/canary/secret.txt", "/etc/passwd", "/dev/zero", place, "nowhere"]
        made.links[place] = chance.choice(targets)
    elif how == 1:
        made.pipes.append(place)
    elif how == 2:
        objects[f"{place}/inside"] = b"a file in what is a folder now"
    else:
        objects[place] = b""
    for key in below:
        objects.pop(key, None) if how != 3 or key != place else None
    return made
