"""Classical codecs: what they write, what they read back, and what they refuse."""

from __future__ import annotations

import io
import itertools
import random
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin, features
from skimage import data

from tessella.codecs.base import Codec
from tessella.codecs.classical import Avif, Jpeg, Jpeg2000, Png, WebP, classical_codecs
from tessella.codecs.jpeg_xl import JpegXL, codestream_size
from tessella.errors import ConfigError, MissingDependencyError, PictureError, ShapeError
from tessella.images import Pixels

ALL = classical_codecs()
PHOTOGRAPHS = {
    "astronaut": data.astronaut()[40:168, 150:310],
    "coffee": data.coffee()[120:248, 200:360],
}


@pytest.fixture(params=ALL)
def codec(request: pytest.FixtureRequest) -> Codec:
    codec = ALL[request.param]
    if codec.missing:
        pytest.skip(codec.missing)
    return codec


@pytest.fixture
def photograph() -> Pixels:
    return np.ascontiguousarray(PHOTOGRAPHS["coffee"])


def psnr(a: Pixels, b: Pixels) -> float:
    error = np.mean((a.astype(float) - b) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def test_names_are_those_of_the_registry() -> None:
    assert all(name == codec.name for name, codec in ALL.items())
    assert {"jpeg", "jpeg-444", "webp", "avif", "jp2", "jxl", "png"} <= ALL.keys()
    assert len({codec.title for codec in ALL.values()}) == len(ALL)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_fidelity_and_size_rise_with_quality(codec: Codec, name: str) -> None:
    pixels = np.ascontiguousarray(PHOTOGRAPHS[name])
    qualities = {
        "jp2": (20, 100, 300, 800),
        "png": (100,),
    }.get(codec.name, (5, 40, 75, 95))
    files = [codec.compress(pixels, quality) for quality in qualities]
    decoded = [codec.decompress(file) for file in files]
    for picture in decoded:
        assert picture.dtype == np.uint8
        assert picture.shape == pixels.shape
    sizes = list(map(len, files))
    fidelities = [psnr(picture, pixels) for picture in decoded]
    assert sizes == sorted(sizes)
    assert fidelities == sorted(fidelities)
    assert fidelities[-1] > 32
    assert (fidelities[0] == np.inf) == codec.is_lossless
    assert codec.compress(pixels, qualities[0]) == files[0]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (33, 47), (1, 300)])
def test_any_size(codec: Codec, photograph: Pixels, size: tuple[int, int]) -> None:
    pixels = np.ascontiguousarray(np.tile(photograph, (1, 2, 1))[: size[0], : size[1]])
    for quality in (codec.qualities.lowest, codec.qualities.highest):
        back = codec.decompress(codec.compress(pixels, quality))
        assert back.shape == pixels.shape
    assert np.abs(back.astype(int) - pixels).mean() < 8


def test_default_quality_is_one_of_them(codec: Codec, photograph: Pixels) -> None:
    qualities = codec.qualities
    assert qualities.lowest <= qualities.default <= qualities.highest
    assert codec.compress(photograph) == codec.compress(photograph, qualities.default)
    for quality in (qualities.lowest - 1, qualities.highest + 1):
        expected = f"no quality {quality}; expected {qualities.lowest} to {qualities.highest}"
        with pytest.raises(ConfigError, match=expected):
            codec.compress(photograph, quality)


def test_settings_are_what_is_written(photograph: Pixels) -> None:
    image = Image.fromarray(photograph)
    for codec, quality, name, options in (
        (Jpeg(), 30, "JPEG", {"quality": 30, "optimize": True, "subsampling": "4:2:0"}),
        (WebP(), 30, "WEBP", {"quality": 30, "method": 6}),
        (Avif(), 30, "AVIF", {"quality": 30, "speed": 6, "max_threads": 1, "codec": "aom"}),
        (Jpeg2000(), 50, "JPEG2000", {"quality_layers": [48], "irreversible": True, "mct": 1}),
        (Png(), 100, "PNG", {"optimize": True}),
    ):
        stream = io.BytesIO()
        image.save(stream, format=name, **options)
        assert codec.compress(photograph, quality) == stream.getvalue()
        for key, value in options.items():
            if key not in ("quality", "quality_layers"):
                assert f"{key}={value}" in codec.settings
    assert f"libwebp {features.version('webp')} by Pillow" in WebP().settings
    assert "quality=QUALITY" in WebP().settings
    assert "quality_layers=[2400/QUALITY]" in Jpeg2000().settings
    assert "progressive=True, subsampling=4:4:4" in ALL["jpeg-444-progressive"].settings


def test_settings_are_documented() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "codecs.md").read_text(encoding="utf-8")
    for name, codec in ALL.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        _, _, options = codec.settings.partition(": ")
        fixed = [option for option in options.split(", ") if "QUALITY" not in option]
        assert f"`{', '.join(fixed)}`" in row
        qualities = codec.qualities
        assert f"| {qualities.lowest} to {qualities.highest}" in row or name == "png"


def test_variants_of_jpeg(photograph: Pixels) -> None:
    for name, sampling, is_progressive in (
        ("jpeg", 2, False),
        ("jpeg-444", 0, False),
        ("jpeg-progressive", 2, True),
        ("jpeg-444-progressive", 0, True),
    ):
        read = Image.open(io.BytesIO(ALL[name].compress(photograph, 75)))
        assert JpegImagePlugin.get_sampling(read) == sampling
        assert ("progressive" in read.info) == is_progressive
    plain = io.BytesIO()
    Image.fromarray(photograph).save(plain, "JPEG", quality=75)
    assert len(ALL["jpeg"].compress(photograph, 75)) < len(plain.getvalue())
    # scans change the order of the coefficients only
    pictures = [ALL[n].decompress(ALL[n].compress(photograph, 50)) for n in list(ALL)[:4]]
    assert np.array_equal(pictures[0], pictures[2])
    assert np.array_equal(pictures[1], pictures[3])


def test_rate_of_jpeg_2000_is_its_quality() -> None:
    pixels = np.ascontiguousarray(data.coffee()[:256, :256])
    for quality in (25, 100, 400):
        bits = 8 * len(Jpeg2000().compress(pixels, quality)) / 256**2
        assert bits == pytest.approx(quality / 100, rel=0.02)


def test_metadata_are_not_written(codec: Codec, photograph: Pixels) -> None:
    stream = io.BytesIO()
    image = Image.fromarray(photograph)
    image.save(stream, "PNG", dpi=(300, 300), exif=Image.Exif(), icc_profile=None)
    marked = Image.open(stream)
    marked.info |= {"comment": b"c" * 500, "xmp": b"x" * 500}
    assert codec.compress(marked) == codec.compress(photograph) == codec.compress(image)


def test_pictures_are_upright() -> None:
    pixels = np.ascontiguousarray(PHOTOGRAPHS["coffee"][:40, :60])
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(stream, "PNG", exif=exif)
    assert np.array_equal(Png().decompress(Png().compress(stream.getvalue())), pixels)


def test_wrong_arrays_are_refused(codec: Codec) -> None:
    for array in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ShapeError, match=r"expected a picture, uint8 \(H, W, 3\)"):
            codec.compress(array)
    with pytest.raises(PictureError, match="not a picture of a known kind"):
        codec.compress(b"no picture at all")


def test_sides_that_a_format_cannot_hold() -> None:
    wide = np.zeros((1, 16_384, 3), np.uint8)
    with pytest.raises(PictureError, match="WebP cannot hold 16384x1 pixels"):
        WebP().compress(wide)


def test_damaged_files_are_refused(codec: Codec, photograph: Pixels) -> None:
    """Cut files raise; others raise or give a picture of limited size."""
    pixels = np.ascontiguousarray(photograph[:48, :64])
    whole = codec.compress(pixels)
    for length in (0, 1, 7, 20, len(whole) // 2):
        with pytest.raises(PictureError, match=f"the {codec.title} file"):
            codec.decompress(whole[:length])
    rng = random.Random(0)
    outcomes = []
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(min(80, len(damaged)))] = rng.randrange(256)
        try:
            height, width = codec.decompress(bytes(damaged), max_pixels=2**16).shape[:2]
            assert height * width <= 2**16
            outcomes.append(True)
        except PictureError:
            outcomes.append(False)
    assert not all(outcomes)


def test_files_of_other_formats_are_refused(photograph: Pixels) -> None:
    here = [codec for codec in ALL.values() if not codec.missing]
    files = {codec.title[:6]: (codec, codec.compress(photograph[:16, :16])) for codec in here}
    for (reader, _), (writer, file) in itertools.permutations(files.values(), 2):
        if isinstance(reader, Jpeg) and isinstance(writer, Jpeg):
            continue
        with pytest.raises(PictureError, match=f"expected a .*|the {reader.title} file"):
            reader.decompress(file)


def test_large_pictures_are_refused_before_they_are_decoded(
    codec: Codec, photograph: Pixels
) -> None:
    file = codec.compress(photograph)
    height, width = photograph.shape[:2]
    assert codec.decompress(file, max_pixels=height * width).shape == photograph.shape
    assert codec.decompress(file, max_pixels=None).shape == photograph.shape
    with pytest.raises(
        PictureError, match=f"{width}x{height} = {height * width} pixels; the limit"
    ):
        codec.decompress(file, max_pixels=height * width - 1)


def test_a_bomb_is_refused_at_once() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        sum_ = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + sum_

    size = (100_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0"))
    with pytest.raises(PictureError, match="100000x100000"):
        Png().decompress(bomb)
    # JPEG XL: height in 30 bits, and the ratio 2:1
    header = 3 << 1 | (99_999 << 3) | (7 << 33)
    assert codestream_size(b"\xff\x0a" + header.to_bytes(6, "little")) == (200_000, 100_000)


@pytest.mark.parametrize(
    ("begin", "size"),
    [
        ("ff0a0090014016880600a400a959", (1, 1)),
        ("ff0a00015c0c4016880600c400a9", (47, 33)),
        ("ff0a4f064016880600c400a95917", (64, 64)),
        ("ff0a78cc0140168806003c81060c", (600, 400)),
        ("ff0a7f064016880600ec00a95917", (256, 256)),
        ("ff0a05cc4016880600b800a95917", (56, 24)),
        ("ff0a02101f40168806009401080c", (1026, 513)),
        ("ff0ada15f064840140168806005c", (9000, 700)),
        ("ff0afa17e0ff4016880600440103", (512, 768)),
    ],
)
def test_size_of_a_codestream(begin: str, size: tuple[int, int]) -> None:
    assert codestream_size(bytes.fromhex(begin)) == size


def test_jpeg_xl_without_its_package(monkeypatch: pytest.MonkeyPatch, photograph: Pixels) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    codec = JpegXL()
    assert "jxl" in classical_codecs()
    for action in (
        codec.check_installed,
        lambda: codec.compress(photograph),
        lambda: codec.decompress(b"\xff\x0a"),
    ):
        with pytest.raises(MissingDependencyError, match=r"pip install 'tessella\[jxl\]'"):
            action()
    assert "effort=7" in codec.settings


def test_pillow_without_a_library(monkeypatch: pytest.MonkeyPatch, photograph: Pixels) -> None:
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    with pytest.raises(MissingDependencyError, match="avif needs libavif, which this Pillow"):
        Avif().compress(photograph)
    assert WebP().missing == ""
