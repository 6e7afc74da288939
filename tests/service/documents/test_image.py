"""Untrusted bytes become an upright picture, or one clear error."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linewise.service.documents.image import FORMATS, LINE_IMAGE_SIDE_PX, ImageLimits, UprightImage, decode
from linewise.service.errors import (
    Animated,
    EmptyFile,
    ImageError,
    ImageTooLarge,
    ImageTooSmall,
    Undecodable,
    UnsupportedImage,
)

LIMITS = ImageLimits(max_pixels=50_000_000, max_side=32_768, max_aspect=500)


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def read(data: bytes, limits: ImageLimits = LIMITS) -> UprightImage:
    return decode(data, limits)


def corner_marked(mode: str = "L") -> Image.Image:
    """White, 60 x 40, with a black block in the top left corner."""
    image = Image.new("L", (60, 40), 255)
    image.paste(0, (0, 0, 20, 20))
    return image.convert(mode)


def dark_corner(pixels: np.ndarray) -> tuple[str, str]:
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    row, column = np.argwhere(grey < 128).mean(axis=0)
    return ("top" if row < grey.shape[0] / 2 else "bottom", "left" if column < grey.shape[1] / 2 else "right")


def png_with_header(width: int, height: int, depth: int = 8, colour: int = 0, body: bytes = b"") -> bytes:
    """A PNG whose header says what we like."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body, 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_of_the_list_is_decoded(file_format: str) -> None:
    result = read(encode(corner_marked("RGB"), file_format))
    assert (result.width, result.height, result.format) == (60, 40, file_format)
    assert result.pixels.dtype == np.uint8
    assert dark_corner(result.pixels) == ("top", "left")


@pytest.mark.parametrize("file_format", ["GIF", "ICO", "PPM", "PCX", "TGA"])
def test_formats_outside_the_list_are_refused_though_pillow_reads_them(file_format: str) -> None:
    with pytest.raises(UnsupportedImage):
        read(encode(corner_marked("RGB"), file_format))


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7", b"<svg/>", b"PK\x03\x04", b"RIFF0000WAVE", b"\x00" * 64])
def test_bytes_that_are_no_image_are_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        read(data)


def test_no_bytes_are_an_empty_file() -> None:
    with pytest.raises(EmptyFile):
        read(b"")


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_picture_cut_in_half_is_undecodable(file_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(Image.fromarray(noise), file_format)
    with pytest.raises(Undecodable):
        read(data[: len(data) // 2])


@pytest.mark.parametrize(
    "magic", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\x00", b"RIFF\x10\x00\x00\x00WEBP"]
)
def test_the_right_signature_before_garbage_is_undecodable(magic: bytes) -> None:
    with pytest.raises(Undecodable):
        read(magic + bytes(range(256)))


@pytest.mark.filterwarnings("ignore")  # Pillow warns about much of this; the outcome is what matters
@pytest.mark.parametrize("file_format", FORMATS)
def test_flipped_and_missing_bytes_never_raise_anything_but_image_errors(file_format: str) -> None:
    random = np.random.default_rng(1)
    data = np.frombuffer(encode(corner_marked("RGB"), file_format), np.uint8)
    for _ in range(150):
        broken = data[: random.integers(1, len(data) + 1)].copy()
        spots = random.integers(0, len(broken), 4)
        broken[spots] = random.integers(0, 256, 4)
        with contextlib.suppress(ImageError):
            read(broken.tobytes())


def test_a_small_file_of_81_megapixels_is_refused_by_its_header() -> None:
    data = png_with_header(9000, 9000, body=bytes(9000 * 9001))
    assert len(data) < 100_000
    with pytest.raises(ImageTooLarge, match="9000 x 9000"):
        read(data)


@pytest.mark.parametrize("side", [15_000, 65_535, 2**31 - 1])
def test_a_header_beyond_pillows_own_limits_is_refused_as_too_large(side: int) -> None:
    with pytest.raises(ImageTooLarge):
        read(png_with_header(side, side))


def test_the_limit_of_pixels_may_exceed_that_of_pillow() -> None:
    limits = ImageLimits(max_pixels=400_000_000, max_side=32_768, max_aspect=500)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Undecodable):  # not too large: the pixels are missing
            read(png_with_header(20_000, 10_000), limits)
        with pytest.raises(ImageTooLarge, match="20001 x 20000 pixels; the limit is 400000000"):
            read(png_with_header(20_001, 20_000), limits)


def test_a_side_over_the_limit_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="longest side allowed is 32768"):
        read(encode(Image.new("L", (32_769, 100), 255)))


def test_ten_thousand_by_three_is_refused_for_its_shape() -> None:
    with pytest.raises(ImageTooLarge, match="10000 x 3"):
        read(encode(Image.new("L", (10_000, 3), 255)))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (100, 2), (2, 100)])
def test_sides_under_three_pixels_are_too_small(size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooSmall):
        read(encode(Image.new("L", size, 255)))


def test_three_pixels_are_enough() -> None:
    assert read(encode(Image.new("L", (3, 3), 255))).pixels.shape == (3, 3)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(file_format: str) -> None:
    second = Image.new("RGB", (60, 40), (10, 200, 30))
    data = encode(corner_marked("RGB"), file_format, save_all=True, append_images=[second])
    with pytest.raises(Animated):
        read(data)


def test_a_phones_jpeg_with_an_appended_preview_is_read_as_its_photo() -> None:
    data = encode(corner_marked("RGB"), "MPO", save_all=True, append_images=[Image.new("RGB", (30, 20))])
    result = read(data)
    assert (result.format, result.width, result.height) == ("JPEG", 60, 40)
    assert dark_corner(result.pixels) == ("top", "left")


# Where the block of the top left corner must land for each EXIF orientation, and the clockwise turn that is reported.
UPRIGHT = {
    1: (("top", "left"), 0),
    2: (("top", "right"), 0),
    3: (("bottom", "right"), 180),
    4: (("bottom", "left"), 180),
    5: (("top", "left"), 270),
    6: (("top", "right"), 90),
    7: (("bottom", "right"), 90),
    8: (("bottom", "left"), 270),
}


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied_in_every_format_that_has_it(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = read(encode(corner_marked("RGB"), file_format, exif=exif))
    corner, turn = UPRIGHT[orientation]
    assert dark_corner(result.pixels) == corner
    assert result.orientation_applied == turn
    expected = (40, 60) if orientation >= 5 else (60, 40)
    assert (result.width, result.height) == expected
    assert result.pixels.shape[1::-1] == expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("orientation", [0, 9, 77, 65535])
def test_an_unknown_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert read(encode(corner_marked(), "JPEG", exif=exif)).orientation_applied == 0


@pytest.mark.filterwarnings("ignore")
def test_garbage_exif_and_icc_do_not_cost_the_picture() -> None:
    data = encode(corner_marked("RGB"), "JPEG", exif=b"Exif\x00\x00" + b"\xff" * 300, icc_profile=b"\x07" * 500)
    assert dark_corner(read(data).pixels) == ("top", "left")


@pytest.mark.parametrize(("ink", "ground"), [((0, 0, 0), 255), ((255, 255, 255), 0), ((200, 0, 0), 255)])
def test_plain_ink_on_transparent_lands_on_the_opposite_ground(ink: tuple[int, int, int], ground: int) -> None:
    image = Image.new("RGBA", (60, 40), (*ink, 0))
    image.paste((*ink, 255), (10, 10, 30, 30))
    pixels = read(encode(image)).pixels
    assert tuple(pixels[20, 20]) == ink
    assert (pixels[0, 0] == ground).all()


def test_a_label_with_transparent_corners_keeps_a_quiet_edge() -> None:
    image = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (3, 3, 57, 37))
    image.paste((0, 0, 0, 255), (20, 10, 40, 30))
    pixels = read(encode(image)).pixels
    assert (pixels[0, 0] == 255).all()
    assert (pixels[20, 30] == 0).all()


def test_half_transparent_ink_is_blended() -> None:
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 128))
    assert abs(int(read(encode(image)).pixels[5, 5, 0]) - 127) <= 1


def test_a_fully_transparent_picture_is_blank() -> None:
    assert (read(encode(Image.new("RGBA", (10, 10), (9, 9, 9, 0)))).pixels == 255).all()


def test_grey_with_alpha_and_palette_with_a_transparent_entry_are_composited() -> None:
    grey = Image.new("LA", (20, 20), (255, 0))
    grey.paste((255, 255), (5, 5, 15, 15))
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.paste(1, (5, 5, 15, 15))
    for data in (encode(grey), encode(palette, transparency=0)):
        pixels = read(data).pixels
        assert (pixels[0, 0] == 0).all() and (pixels[10, 10] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_modes_of_png_keep_their_brightness(mode: str) -> None:
    assert dark_corner(read(encode(corner_marked(mode))).pixels) == ("top", "left")


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(file_format: str) -> None:
    result = read(encode(corner_marked("CMYK"), file_format))
    assert result.pixels.shape == (40, 60, 3)
    assert dark_corner(result.pixels) == ("top", "left")


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("top", [4095, 65535])
def test_sixteen_bit_grey_is_scaled_by_the_range_it_uses(file_format: str, top: int) -> None:
    values = np.full((40, 60), top, np.uint16)
    values[:20, :20] = 0
    values[30:, 50:] = top // 2
    pixels = read(encode(Image.fromarray(values), file_format)).pixels
    assert pixels.shape == (40, 60)
    assert (pixels[0, 0], pixels[39, 0]) == (0, 255)
    assert abs(int(pixels[39, 59]) - 127) <= 1


def test_floating_point_and_32_bit_tiff_are_scaled_too() -> None:
    values = np.linspace(-3.0, 9.0, 1600, dtype=np.float32).reshape(40, 40)
    values[1, 1] = np.nan
    for image in (Image.fromarray(values), Image.fromarray((np.nan_to_num(values) * 1e6).astype(np.int32))):
        pixels = read(encode(image, "TIFF")).pixels
        assert (pixels.min(), pixels.max()) == (0, 255)


def test_a_flat_sixteen_bit_picture_is_blank() -> None:
    assert (read(encode(Image.fromarray(np.full((9, 9), 700, np.uint16)))).pixels == 255).all()


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_large_picture_is_decoded_small_and_knows_its_true_size(file_format: str, mode: str) -> None:
    image = corner_marked(mode).resize((3000, 2000))
    result = read(encode(image, file_format))
    assert (result.width, result.height) == (3000, 2000)
    assert LINE_IMAGE_SIDE_PX <= min(result.pixels.shape[:2]) < 2 * LINE_IMAGE_SIDE_PX
    assert result.scale == pytest.approx(3000 / result.pixels.shape[1])
    assert dark_corner(result.pixels) == ("top", "left")


def test_a_picture_of_ordinary_size_is_not_touched() -> None:
    values = np.random.default_rng(2).integers(0, 256, (LINE_IMAGE_SIDE_PX * 2 - 1, 700, 3), np.uint8)
    assert (read(encode(Image.fromarray(values))).pixels == values).all()


def test_limits_are_those_of_the_settings() -> None:
    data = encode(Image.new("L", (100, 50), 255))
    read(data, ImageLimits(5000, 100, 2.0))
    for limits in (ImageLimits(4999, 100, 2.0), ImageLimits(5000, 99, 2.0), ImageLimits(5000, 100, 1.9)):
        with pytest.raises(ImageTooLarge):
            read(data, limits)
