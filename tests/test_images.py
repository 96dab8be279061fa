"""Pictures in and out, compared with closed forms, NumPy and Pillow's own helpers."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from skimage import color

from tessella.errors import PictureError, ShapeError
from tessella.images import (
    atomic_file,
    decode_rgb,
    from_pixels,
    load_image,
    open_image,
    pad_to_multiple,
    save_image,
    tiles,
    to_pixels,
)

GREY_RAMP = np.arange(0, 65536, 97, dtype=np.uint16)[None].repeat(3, axis=0)


def gradient(height: int = 24, width: int = 40) -> np.ndarray:
    """A smooth picture with three unlike channels, uint8 (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1), 128 + 60 * np.sin(x / 5)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def linear_profile(space: bytes = b"RGB ") -> bytes:
    """An ICC profile with sRGB's primaries (adapted to D50) and gamma 1."""
    columns = {
        b"rXYZ": (0.43607, 0.22249, 0.01392),
        b"gXYZ": (0.38515, 0.71687, 0.09708),
        b"bXYZ": (0.14307, 0.06061, 0.71410),
        b"wtpt": (0.96420, 1.00000, 0.82491),
    }

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    tags = {name: xyz(values) for name, values in columns.items()}
    for name in (b"rTRC", b"gTRC", b"bTRC", b"kTRC"):
        tags[name] = b"curv\0\0\0\0" + struct.pack(">I", 0) + b"\0" * 4
    text = b"linear\0"
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 79
    tags[b"cprt"] = b"text\0\0\0\0none\0\0\0\0"
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        body += b"\0" * (-len(body) % 4)
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body
    header = struct.pack(">I4sI", start + len(data), b"\0\0\0\0", 0x02400000)
    header += b"mntr" + space + b"XYZ " + struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + data


def srgb_of_linear(values: np.ndarray) -> np.ndarray:
    linear = values / 255
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * curve


# ---- formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("PPM", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 100, "subsampling": 0}, 3),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 6),
    ],
)
def test_formats_are_read(kind: str, options: dict[str, object], tolerance: int) -> None:
    pixels = gradient()
    read = decode_rgb(encoded(Image.fromarray(pixels), kind, **options))
    assert read.shape == pixels.shape
    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - pixels).max() <= tolerance


def test_path_stream_bytes_and_image_give_the_same(tmp_path: Path) -> None:
    pixels = gradient()
    data = encoded(Image.fromarray(pixels), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with path.open("rb") as stream:
        for picture in (path, str(path), data, stream, Image.fromarray(pixels)):
            assert np.array_equal(decode_rgb(picture), pixels)


def test_stream_that_cannot_seek_is_read() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self._inner = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:
            return self._inner.readinto(buffer)

    pixels = gradient()
    pipe = io.BufferedReader(Pipe(encoded(Image.fromarray(pixels), "PNG")))
    assert np.array_equal(decode_rgb(pipe), pixels)


def test_first_frame_of_an_animation() -> None:
    first, second = Image.new("RGB", (5, 4), (200, 0, 0)), Image.new("RGB", (5, 4), (0, 0, 200))
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(first, kind, save_all=True, append_images=[second], **options)
        assert np.array_equal(decode_rgb(data), np.array(first)), kind


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_matches_pillow(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(gradient(16, 32)), kind, exif=exif.tobytes(), **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(decode_rgb(data), np.array(expected))
    assert (decode_rgb(data).shape[0] == 32) == (orientation >= 5)


def test_orientation_keeps_profile_and_transparency() -> None:
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[:, :2] = 128
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(
        Image.fromarray(pixels),
        "PNG",
        exif=exif.tobytes(),
        icc_profile=linear_profile(),
        transparency=(0, 0, 0),
    )
    read = decode_rgb(data, background=(9, 9, 9))
    assert read.shape == (4, 2, 3)
    assert np.abs(read[:2].astype(float) - srgb_of_linear(np.array(128.0))).max() <= 1
    assert (read[2:] == 9).all()


# ---- colour ----------------------------------------------------------------------------------


def test_grey_and_bilevel_are_spread_over_channels() -> None:
    grey = gradient()[..., 0]
    assert np.array_equal(decode_rgb(encoded(Image.fromarray(grey), "PNG"))[..., 1], grey)
    bits = Image.fromarray(grey > 99)
    read = decode_rgb(encoded(bits, "PNG"))
    assert np.array_equal(read[..., 2], np.where(grey > 99, 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    read = decode_rgb(encoded(Image.fromarray(GREY_RAMP), kind))
    assert np.array_equal(read[..., 0], np.floor(GREY_RAMP / 257 + 0.5))


def test_16_bit_colour_is_scaled() -> None:
    deep = np.stack([GREY_RAMP, GREY_RAMP[:, ::-1], GREY_RAMP // 2], axis=-1)
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    height, width = GREY_RAMP.shape
    png = png_header(width, height)
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(raw)
    png = png[:8]
    for chunk in (ihdr, idat, b"IEND"):
        png += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert np.abs(decode_rgb(png) - deep / 257).max() <= 1


def test_32_bit_and_float_values_need_a_known_range() -> None:
    floats = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    read = decode_rgb(encoded(Image.fromarray(floats), "TIFF"))
    assert np.abs(read[..., 0] - floats * 255).max() <= 0.5
    with pytest.raises(PictureError, match=r"floats from 0 to 2; expected 0 to 1"):
        decode_rgb(encoded(Image.fromarray(floats * 2), "TIFF"))
    with pytest.raises(PictureError, match="32-bit values"):
        decode_rgb(encoded(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"))


@pytest.mark.parametrize("background", [(255, 255, 255), (10, 200, 30)])
def test_alpha_is_composited_on_the_background(background: tuple[int, int, int]) -> None:
    alpha = np.linspace(0, 255, 24 * 40).reshape(24, 40).astype(np.uint8)
    pixels = gradient()
    weight = alpha[..., None] / 255
    expected = pixels * weight + np.array(background) * (1 - weight)
    rgba = np.concatenate([pixels, alpha[..., None]], axis=-1)
    for kind in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        read = decode_rgb(encoded(Image.fromarray(rgba), kind, **options), background=background)
        assert np.abs(read - expected).max() <= 1, kind


def test_background_is_white_by_default() -> None:
    clear = Image.new("LA", (3, 2), (7, 0))
    assert (decode_rgb(encoded(clear, "PNG")) == 255).all()


def test_transparent_palette_key_and_grey_key() -> None:
    palette = Image.frombytes("P", (2, 2), bytes([0, 1, 2, 1]))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    data = encoded(palette, "PNG", transparency=bytes([255, 0, 128]))
    read = decode_rgb(data, background=(0, 0, 0)).astype(int)
    assert read[0, 0].tolist() == [255, 0, 0]
    assert read[0, 1].tolist() == [0, 0, 0]
    assert abs(read[1, 0, 2] - 128) <= 1
    opaque = decode_rgb(encoded(palette, "PNG"))
    assert opaque[1, 0].tolist() == [0, 0, 255]
    deep = Image.fromarray(np.array([[0, 65535]], np.uint16))
    keyed = decode_rgb(encoded(deep, "PNG", transparency=65535), background=(1, 2, 3))
    assert keyed.tolist() == [[[0, 0, 0], [1, 2, 3]]]


def test_cmyk_without_profile() -> None:
    ink = np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8)
    read = decode_rgb(encoded(Image.frombytes("CMYK", (8, 6), ink.tobytes()), "TIFF"))
    expected = (255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255
    assert np.abs(read - expected).max() <= 1


def test_cmyk_jpeg_is_not_inverted() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    read = decode_rgb(encoded(ink, "JPEG", quality=95))
    assert np.abs(read.reshape(-1, 3).mean(axis=0) - [255, 0, 0]).max() <= 4


def test_lab_matches_scikit_image() -> None:
    lab = np.zeros((1, 3, 3), np.uint8)
    lab[0] = [[128, 0, 0], [200, 20, 246], [60, 236, 30]]  # L of 255; a, b signed
    read = decode_rgb(Image.frombytes("LAB", (3, 1), lab.tobytes()))
    signed = lab.astype(np.int16)
    signed[..., 1:] = lab[..., 1:].astype(np.int8)
    expected = color.lab2rgb(signed * [100 / 255, 1, 1], illuminant="D65")
    assert np.abs(read[0, 0] - expected[0, 0] * 255).max() <= 4


def test_colour_profile_is_converted_to_srgb() -> None:
    pixels = gradient()
    data = encoded(Image.fromarray(pixels), "PNG", icc_profile=linear_profile())
    expected = srgb_of_linear(pixels.astype(float))
    assert np.abs(decode_rgb(data) - expected).max() <= 1.5
    rgba = np.concatenate([pixels, np.full((24, 40, 1), 255, np.uint8)], axis=-1)
    data = encoded(Image.fromarray(rgba), "PNG", icc_profile=linear_profile())
    assert np.abs(decode_rgb(data) - expected).max() <= 1.5


def test_grey_picture_with_grey_or_colour_profile() -> None:
    grey = gradient()[..., 0]
    for space in (b"GRAY", b"RGB "):
        data = encoded(Image.fromarray(grey), "PNG", icc_profile=linear_profile(space))
        expected = srgb_of_linear(grey.astype(float))
        assert np.abs(decode_rgb(data)[..., 0] - expected).max() <= 1.5


def test_unusable_profile_is_told_and_ignored() -> None:
    pixels = gradient()
    for profile in (b"nonsense", linear_profile(b"CMYK")):
        data = encoded(Image.fromarray(pixels), "PNG", icc_profile=profile)
        with pytest.warns(UserWarning, match="cannot be used"):
            assert np.array_equal(decode_rgb(data, name="a"), pixels)


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM"])
def test_truncated_files_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "cut"
    for part in (0, 1, 3, 8, 20, len(data) // 4, len(data) // 2):
        path.write_bytes(data[:part])
        with pytest.raises(PictureError, match="cut"):
            decode_rgb(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged metadata
def test_damaged_files_give_a_picture_or_one_error(kind: str) -> None:
    random = np.random.default_rng(2)
    data = np.frombuffer(encoded(Image.fromarray(gradient(8, 8)), kind), np.uint8)
    for _ in range(150):
        broken = data.copy()
        places = random.integers(0, min(len(data), 200), 3)
        broken[places] = random.integers(0, 256, 3)
        try:
            read = decode_rgb(broken.tobytes(), max_pixels=10**6)
        except PictureError:
            continue
        assert read.ndim == 3


def test_other_files_and_missing_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="does not exist"):
        open_image(tmp_path / "none.png")
    with pytest.raises(PictureError, match="cannot be read"):
        open_image(tmp_path)
    for data in (b"", b"P", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"MZ" + bytes(64)):
        with pytest.raises(PictureError, match="the picture"):
            open_image(data)


def test_size_limit_comes_before_decoding() -> None:
    bomb = png_header(50_000, 50_000)
    with pytest.raises(PictureError, match=r"50000x50000 = 2500000000 pixels; the limit is 134217"):
        open_image(bomb)
    with pytest.raises(PictureError, match="limit is 959"):
        open_image(Image.fromarray(gradient()), max_pixels=959)
    assert open_image(Image.fromarray(gradient()), max_pixels=960).size == (40, 24)


def test_limit_of_pillow_neither_warns_nor_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(gradient()), "PNG")
    for pillow_limit in (700, 100):  # Pillow would warn at the first and refuse at the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
        assert open_image(data, max_pixels=None).size == (40, 24)
        assert pillow_limit == Image.MAX_IMAGE_PIXELS


# ---- tensors and padding ---------------------------------------------------------------------


def test_load_image_range_and_shape(tmp_path: Path) -> None:
    pixels = gradient()
    path = tmp_path / "a.png"
    save_image(path, pixels)
    images = load_image(path)
    assert images.shape == (1, 3, 24, 40)
    assert images.dtype == torch.float32
    expected = pixels.transpose(2, 0, 1)[None] / 127.5 - 1
    assert np.abs(images.numpy() - expected).max() < 1e-6
    assert np.array_equal(to_pixels(images), pixels)


def test_one_pixel_picture() -> None:
    images = load_image(encoded(Image.new("RGB", (1, 1), (255, 0, 51)), "PNG"))
    assert images.flatten().tolist() == pytest.approx([1, -1, -0.6])
    padded = pad_to_multiple(images, 8)
    assert padded.shape == (1, 3, 8, 8)
    assert torch.equal(padded, images.expand(1, 3, 8, 8))


def test_to_pixels_clamps_and_refuses_batches() -> None:
    assert to_pixels(torch.tensor([-3.0, 0.0, 3.0]).view(3, 1, 1)).tolist() == [[[0, 128, 255]]]
    for wrong in (torch.zeros(2, 3, 4, 4), torch.zeros(1, 4, 4), torch.zeros(3, 4, 4).int()):
        with pytest.raises(ShapeError, match="given; expected"):
            to_pixels(wrong)
    with pytest.raises(ShapeError, match="given; expected"):
        from_pixels(np.zeros((4, 4), np.uint8))


def test_read_only_pixels_are_accepted() -> None:
    pixels = gradient()
    pixels.flags.writeable = False
    assert from_pixels(pixels[2:7, 3:9]).shape == (1, 3, 5, 6)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_padding_matches_numpy(height: int, width: int, stride: int) -> None:
    images = torch.arange(2.0 * 3 * height * width).view(2, 3, height, width)
    below, right = -height % stride, -width % stride
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (0, below), (0, right)), mode="edge")
    assert np.array_equal(pad_to_multiple(images, stride).numpy(), expected)


# ---- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp", ".ppm", ".PNG"])
def test_lossless_writing(tmp_path: Path, suffix: str) -> None:
    pixels = gradient()
    for picture in (pixels, Image.fromarray(pixels), from_pixels(pixels)):
        save_image(tmp_path / f"a{suffix}", picture)
        assert np.array_equal(decode_rgb(tmp_path / f"a{suffix}"), pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
def test_lossy_writing(tmp_path: Path, suffix: str) -> None:
    save_image(tmp_path / f"a{suffix}", gradient())
    read = decode_rgb(tmp_path / f"a{suffix}").astype(float)
    assert np.abs(read - gradient()).mean() < 3


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"suffix '.xyz'; expected one of .png"):
        save_image(tmp_path / "a.xyz", gradient())
    with pytest.raises(PictureError, match="cannot be written"):
        save_image(tmp_path / "none" / "a.png", gradient())


def test_failed_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_file(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    with atomic_file(path) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


# ---- tiles -----------------------------------------------------------------------------------


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(1, 5),
    st.integers(0, 3),
    st.integers(1, 12),
)
@settings(max_examples=100, deadline=None)
def test_tiles_cover_once_with_their_halo(
    height: int, width: int, stride: int, halo: int, extra: int
) -> None:
    halo *= stride
    tile = 2 * halo + extra * stride
    covered = np.zeros((height, width), int)
    shapes = set()
    for core, outer in tiles(height, width, tile=tile, halo=halo, stride=stride):
        covered[core.top : core.bottom, core.left : core.right] += 1
        for low, high, first, last, length in (
            (core.top, core.bottom, outer.top, outer.bottom, height),
            (core.left, core.right, outer.left, outer.right, width),
        ):
            assert low % stride == first % stride == 0
            assert high % stride == 0 or high == length
            assert first <= max(0, low - halo)
            assert last >= min(length, high + halo)
            assert first >= 0
            assert last <= length
        shapes.add((-(-outer.height // stride), -(-outer.width // stride)))
        assert max(shapes) <= (tile // stride, tile // stride) or tile >= max(height, width)
    assert (covered == 1).all()
    assert len(shapes) == 1


def test_tiles_waste_little() -> None:
    area = sum(
        t.outer.height * t.outer.width for t in tiles(8000, 12000, tile=2048, halo=72, stride=8)
    )
    assert area < 1.2 * 8000 * 12000


def test_impossible_tiles_are_refused() -> None:
    with pytest.raises(ShapeError, match="multiples of the stride 8"):
        list(tiles(10, 10, tile=20, halo=0, stride=8))
    with pytest.raises(ShapeError, match="more than two halos"):
        list(tiles(10, 10, tile=16, halo=8, stride=8))
