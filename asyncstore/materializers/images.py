"""Pillow images, as PNG files."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

from asyncstore.errors import MaterializationError
from asyncstore.materializers._library import decoding, encoding, library, loaded
from asyncstore.materializers._tags import type_name
from asyncstore.materializers.base import Encoded
from asyncstore.materializers.basic import checked
from asyncstore.materializers.values import decode_value, encode_value

_PIXELS: Final = "data.png"
_REST: Final = "image.json"
_MODES: Final = {
    "1": "1", "L": "L", "LA": "LA", "P": "L", "RGB": "RGB", "RGBA": "RGBA", "I;16": "I;16",
}  # fmt: skip
"""The modes that PNG keeps exactly, and the mode of the PNG that keeps them."""


class PillowMaterializer:
    """Images of Pillow: mode, size, pixels, palette and ``info`` come back.

    The pixels are a PNG that other programs can open; palette and ``info`` are kept beside it,
    since PNG has no place for all of them.
    """

    id = "pillow"

    @property
    def types(self) -> tuple[type, ...]:
        """Exactly the Image."""
        return loaded("PIL.Image", "Image")

    def accepts(self, kind: type) -> bool:
        """Never: what was opened from a file would come back as an Image without that file."""
        return False

    def advice(self, kind: type) -> str | None:
        """For images that were opened from files."""
        if issubclass(kind, loaded("PIL.Image", "Image")):
            return "it is tied to the file that it was opened from: save its .copy()"
        return None

    def is_large(self, obj: Any) -> bool:
        """Always: compressing takes its time."""
        return True

    def is_slow(self, encoded: Encoded) -> bool:
        """Always: few bytes may stand for many pixels."""
        return True

    def encode(self, obj: Any) -> Encoded:
        """Refuses modes that PNG does not keep, and what Pillow would refuse to load."""
        module = library("PIL.Image", extra="pillow")
        if type(obj) is not module.Image:
            raise MaterializationError(
                f"expected a PIL.Image.Image, not a {type_name(type(obj))}: save its .copy()"
            )
        with encoding("image"):
            image = obj.copy()
        if image.mode not in _MODES:
            raise MaterializationError(
                f"PNG does not keep images of the mode {image.mode!r} exactly: save "
                f"numpy.asarray(image), or .convert() it to one of {', '.join(_MODES)}"
            )
        _require_size(module, *image.size)
        rest = {"mode": image.mode, "size": image.size, "info": image.info, "palette": None}
        with encoding("image"):
            if image.mode == "P":
                rest["palette"] = _palette(image)
            try:
                files = {_REST: encode_value(rest)}
            except MaterializationError as error:
                raise MaterializationError(f"the image: {error}; remove it from .info") from error
            pixels = module.frombytes(_MODES[image.mode], image.size, image.tobytes())
            buffer = BytesIO()
            if all(image.size):  # PNG has no empty images
                pixels.save(buffer, "PNG")
            return Encoded({**files, _PIXELS: buffer.getvalue()})

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """The image; nothing but PNG is read, and no more pixels than Pillow allows."""
        if set(encoded.files) != {_PIXELS, _REST}:
            raise MaterializationError(f"expected the files {_PIXELS!r} and {_REST!r} of an image")
        module = library("PIL.Image", extra="pillow")
        rest = decode_value(bytes(encoded.files[_REST]))
        with decoding("image"):
            mode, size, info, palette = (rest[key] for key in ("mode", "size", "info", "palette"))
            if mode not in _MODES or type(size) is not tuple or type(info) is not dict:
                raise ValueError("its description does not fit")
            width, height = size
            if type(width) is not int or type(height) is not int or width < 0 or height < 0:
                raise ValueError("its size is no size")
            _require_size(module, width, height)
            data = bytes(encoded.files[_PIXELS])
            if all(size):
                image = _from_png(module, data, _MODES[mode], size)
            else:
                image = module.new(_MODES[mode], size)
            return checked(_dressed(module, image, mode, info, palette), as_type)


def _palette(image: Any) -> tuple[str, bytes]:
    kind = image.palette.mode
    if kind not in ("RGB", "RGBA"):
        raise MaterializationError(f"cannot save an image whose palette is {kind}: convert('RGB')")
    return kind, bytes(image.im.getpalette(kind, kind))


def _dressed(module: Any, image: Any, mode: str, info: Any, palette: Any) -> Any:
    """The image in its own mode, with its palette and its info."""
    if mode == "P":
        kind, colors = palette
        if kind not in ("RGB", "RGBA") or type(colors) is not bytes or len(colors) > 1024:
            raise ValueError("its palette does not fit")
        indices = image.tobytes()
        image = module.new("P", image.size)
        image.frombytes(indices) if indices else None
        image.putpalette(colors, kind)
        image.load()
    image.info = dict(info)
    return image


def _from_png(module: Any, data: bytes, mode: str, size: tuple[int, int]) -> Any:
    # Looked at before Pillow does, which only warns of the smaller ones.
    stored = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or stored != size:
        raise ValueError("its pixels are no PNG of its size")
    with module.open(BytesIO(data), formats=["PNG"]) as opened:
        if opened.mode != mode or opened.size != size:  # it may hold a second header
            raise ValueError(f"its pixels are {opened.size} {opened.mode}, expected {size} {mode}")
        return opened.copy()


def _require_size(module: Any, width: int, height: int) -> None:
    most = module.MAX_IMAGE_PIXELS
    if most is not None and width * height > most:
        raise MaterializationError(
            f"an image of {width:,} x {height:,} pixels is more than Pillow takes for harmless "
            f"({most:,}): raise PIL.Image.MAX_IMAGE_PIXELS, or save numpy.asarray(image)"
        )
