"""Pillow images."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.errors import MaterializationError
from asyncstore.materializers import Encoded, PillowMaterializer, default_materializers
from asyncstore.materializers.values import encode_value
from tests.materializers.support import no_other_error, there_and_back, through_registry

Image: Any = pytest.importorskip("PIL.Image", reason="pillow is not installed")

PILLOW = PillowMaterializer()
MODES = {"1": 1, "L": 1, "LA": 2, "P": 1, "RGB": 3, "RGBA": 4, "I;16": 2}


def same(one: Any, other: Any) -> None:
    assert other == one
    assert type(other) is type(one)
    assert other.info == one.info
    if one.mode == "P":
        assert other.palette.mode == one.palette.mode
        assert other.convert("RGBA").tobytes() == one.convert("RGBA").tobytes()


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(MODES)), st.integers(0, 9), st.integers(0, 9), st.data())
def test_pixels_come_back_exactly(mode: str, width: int, height: int, data: Any) -> None:
    size = height * ((width + 7) // 8 if mode == "1" else width * MODES[mode])
    pixels = data.draw(st.binary(min_size=size, max_size=size))
    image = (
        Image.frombytes(mode, (width, height), pixels) if size else Image.new(mode, (width, height))
    )
    same(image, there_and_back(PILLOW, image))


def dressed(image: Any, palette: Any = None, kind: str = "RGB", **info: Any) -> Any:
    if palette is not None:
        image.putpalette(palette, kind)
    image.info = info
    return image


IMAGES = [
    dressed(Image.new("RGB", (3, 3)), dpi=(72, 72), icc_profile=b"x", transparency=(1, 2, 3)),
    dressed(Image.new("P", (2, 2)), list(range(256)) * 3, transparency=b"\0\1"),
    dressed(Image.new("P", (2, 2)), [1, 2, 3, 4] * 3, "RGBA"),
    dressed(Image.new("P", (0, 2)), [1, 2, 3]),
    Image.linear_gradient("L").convert("RGB").quantize(7),
    Image.new("P", (3, 3)),
    Image.new("RGB", (0, 5)),
    Image.new("RGBA", (1, 1), (1, 2, 3, 0)),
]


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: f"{image.mode}{image.size}")
def test_palette_and_info_come_back(image: Any) -> None:
    assert default_materializers().for_object(image).id == "pillow"
    same(image, there_and_back(PILLOW, image))


@pytest.mark.asyncio
async def test_images_come_back_from_a_registry() -> None:
    image = Image.effect_noise((300, 200), 50)
    same(image, await through_registry(image, Image.Image))


def test_others_can_open_the_file() -> None:
    image = Image.effect_noise((30, 20), 50)
    with Image.open(io.BytesIO(PILLOW.encode(image).files["data.png"])) as opened:
        assert opened.tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", ["CMYK", "F", "I", "YCbCr", "HSV", "LAB", "PA", "RGBX", "RGBa"])
def test_modes_that_png_does_not_keep_are_refused(mode: str) -> None:
    with pytest.raises(MaterializationError, match=f"'{mode}'.*asarray"):
        PILLOW.encode(Image.new(mode, (1, 1)))


def test_other_refusals_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MaterializationError, match=r"\.info"):
        PILLOW.encode(dressed(Image.new("L", (1, 1)), x=object()))
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "GIF")
    with (
        Image.open(buffer) as opened,
        pytest.raises(MaterializationError, match=r"GifImageFile: .*\.copy\(\)"),
    ):
        default_materializers().for_object(opened)
    with pytest.raises(MaterializationError, match="expected a PIL"):
        PILLOW.encode(1)
    encoded = PILLOW.encode(Image.new("L", (20, 20)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(MaterializationError, match="MAX_IMAGE_PIXELS"):
        PILLOW.encode(Image.new("L", (20, 20)))
    with pytest.raises(MaterializationError, match="MAX_IMAGE_PIXELS"):
        PILLOW.decode(encoded, None)


def png(width: int, height: int, data: bytes, *, more: tuple[int, int] | None = None) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    sizes = [(width, height), *([] if more is None else [more])]
    heads = [chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)) for size in sizes]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*heads, chunk(b"IDAT", data), chunk(b"IEND", b"")])


@pytest.mark.parametrize("stated", [(50_000, 50_000), (3, 3), (-1, 3), (True, 3), (2**70, 0), (3,)])
@pytest.mark.parametrize("actual", [(50_000, 50_000), (3, 3), (2**31 - 1, 2**31 - 1)])
def test_bombs_and_lies_are_refused(stated: Any, actual: tuple[int, int]) -> None:
    rest = encode_value({"mode": "L", "size": stated, "info": {}, "palette": None})
    files = {"image.json": rest, "data.png": png(*actual, zlib.compress(bytes(1000)))}
    if stated == actual == (3, 3):
        assert PILLOW.decode(Encoded(files), None).size == (3, 3)
        return
    with pytest.raises(MaterializationError):
        PILLOW.decode(Encoded(files), None)


def test_a_second_header_does_not_make_an_image_larger() -> None:
    rest = encode_value({"mode": "L", "size": (3, 3), "info": {}, "palette": None})
    data = png(3, 3, zlib.compress(bytes(9_000 * 9_001)), more=(9_000, 9_000))
    with pytest.raises(MaterializationError, match=r"\(9000, 9000\)"):
        PILLOW.decode(Encoded({"image.json": rest, "data.png": data}), None)


def test_only_png_is_read() -> None:
    buffer = io.BytesIO()
    Image.new("L", (3, 3)).save(buffer, "GIF")
    rest = encode_value({"mode": "L", "size": (3, 3), "info": {}, "palette": None})
    with pytest.raises(MaterializationError):
        PILLOW.decode(Encoded({"image.json": rest, "data.png": buffer.getvalue()}), None)


def test_damaged_files_raise_nothing_else() -> None:
    for image in (IMAGES[1], Image.effect_noise((9, 9), 9)):
        no_other_error(PILLOW, PILLOW.encode(image), tries=150)
    with pytest.raises(MaterializationError, match="as_type"):
        there_and_back(PILLOW, IMAGES[0], dict)
