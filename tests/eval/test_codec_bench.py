"""The bench of codecs from end to end on small pictures, and its figures done by hand."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from tiny_model import save_tiny_model

from tessella.codecs.base import Qualities
from tessella.codecs.classical import WebP, classical_codecs
from tessella.codecs.named import codec_named
from tessella.errors import ConfigError
from tessella.eval.bd import bd_metric, bd_rate
from tessella.eval.codec_bench import (
    CodecBench,
    bench_codecs,
    bench_records,
    delta_rows,
    delta_text,
    plot,
    rate_point_rows,
    write_bench_page,
    write_deltas,
    write_points,
    write_records,
)
from tessella.eval.codec_bench.equal_bytes import equal_bytes_crops, most_detailed, nearest_files
from tessella.eval.codec_bench.memory import peak_memory
from tessella.eval.evaluation import EvalOptions, image_set
from tessella.eval.rate_points import default_points, expand
from tessella.eval.results import PictureRecord, Results, SetInfo, Subject

JPEG, WEBP = (10, 30, 60, 85), (5, 25, 55, 80)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs of unlike sizes."""
    folder = tmp_path_factory.mktemp("photos")
    for name, picture in {"a": data.coffee(), "b": data.rocket(), "c": data.chelsea()}.items():
        part = Image.fromarray(picture[100:270, 150 : 330 + ord(name) % 7])
        part.save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer with a prior."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def bench(pictures: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> CodecBench:
    """JPEG and WebP at four qualities, the tokenizer at all, on three photographs."""
    names = [*(f"jpeg:{q}" for q in JPEG), *(f"webp:{q}" for q in WEBP), str(model), "png"]
    work = tmp_path_factory.mktemp("work")
    return bench_codecs(names, [image_set(pictures)], work=work)


def test_records_are_those_of_the_files(bench: CodecBench, pictures: Path, model: Path) -> None:
    records = bench_records(bench.results)
    groups = codec_named(str(model)).qualities.highest
    assert len(records) == 3 * (len(JPEG) + len(WEBP) + groups + 1)
    for record in records:
        codec = codec_named(str(model) if record["codec"] == "tiny" else record["codec"])
        path = pictures / record["image"]
        file = codec.compress(path, record["quality"])
        original = np.array(Image.open(path))
        assert record["bytes"] == len(file)
        assert record["bpp"] == 8 * len(file) / original[..., 0].size
        assert record["settings"] == codec.settings
        assert record["encode_seconds"] > 0 < record["decode_seconds"]
        assert {"ms_ssim", "ssimulacra2"} < record.keys()
        if record["codec"] == "png":
            assert record["psnr"] == 100  # what identical pictures count
            assert record["ssimulacra2"] == 100
        else:
            expected = peak_signal_noise_ratio(original, codec.decompress(file))
            assert record["psnr"] == pytest.approx(expected, abs=1e-9)


def test_means_and_intervals(bench: CodecBench) -> None:
    records = bench_records(bench.results)
    for row in rate_point_rows(bench.results):
        ours = [r for r in records if (r["codec"], r["quality"]) == (row.codec, row.quality)]
        assert row.pictures == len(ours) == 3
        for name in ("bpp", "psnr", "ms_ssim", "ssimulacra2"):
            values = [r[name] for r in ours]
            assert row.values[name] == pytest.approx(np.mean(values))
            low, high = row.intervals[name]
            assert min(values) - 1e-9 <= low <= np.mean(values) <= high <= max(values) + 1e-9
        pooled = 8 * sum(r["bytes"] for r in ours) / sum(r["width"] * r["height"] for r in ours)
        assert row.pooled_bpp == pytest.approx(pooled)


def test_deltas_are_of_the_means(bench: CodecBench) -> None:
    records = bench_records(bench.results)

    def mean(codec: str, quality: int, name: str) -> float:
        return float(
            np.mean([r[name] for r in records if (r["codec"], r["quality"]) == (codec, quality)])
        )

    def curve(codec: str, qualities: tuple[int, ...], name: str) -> list[tuple[float, float]]:
        values = [mean(codec, quality, name) for quality in qualities]
        if name == "ms_ssim":
            values = [-10 * math.log10(1 - value) for value in values]
        return list(zip([mean(codec, q, "bpp") for q in qualities], values, strict=True))

    assert bench.anchor == "jpeg"
    assert {row.codec for row in bench.deltas} == {"webp", "tiny", "png"}
    for name in ("psnr", "ms_ssim", "ssimulacra2"):
        (row,) = (r for r in bench.deltas if (r.codec, r.metric) == ("webp", name))
        pair = curve("jpeg", JPEG, name), curve("webp", WEBP, name)
        rate, gain = (delta(*pair, warn_below=0) for delta in (bd_rate, bd_metric))
        assert row.rate == pytest.approx(rate.value)
        assert row.rate_overlap == pytest.approx(rate.overlap)
        assert row.gain == pytest.approx(gain.value)
        assert row.gain_overlap == pytest.approx(gain.overlap)
        assert row.rate < 0 < row.gain
        (row,) = (r for r in bench.deltas if (r.codec, r.metric) == ("png", name))
        assert row.rate is row.gain is None
        assert "at least 2" in row.note
    text = delta_text(bench.deltas)
    assert "against jpeg" in text
    assert "MS-SSIM (dB)" in text


def test_another_anchor_turns_the_sign(bench: CodecBench) -> None:
    (row,) = (r for r in bench.deltas if (r.codec, r.metric) == ("webp", "psnr"))
    turned = delta_rows(bench.results, "webp")
    (back,) = (r for r in turned if (r.codec, r.metric) == ("jpeg", "psnr"))
    assert (1 + row.rate / 100) * (1 + back.rate / 100) == pytest.approx(1)
    assert back.gain == pytest.approx(-row.gain)


def test_files(bench: CodecBench, tmp_path: Path) -> None:
    write_records(bench.results, tmp_path / "rd.json")
    assert json.loads((tmp_path / "rd.json").read_text("utf-8")) == bench_records(bench.results)
    write_points(bench.results, tmp_path / "rd.csv")
    write_deltas(bench.deltas, tmp_path / "bd.csv")
    points, deltas = (
        list(csv.DictReader(io.StringIO((tmp_path / name).read_text("utf-8"), newline="")))
        for name in ("rd.csv", "bd.csv")
    )
    rows = rate_point_rows(bench.results)
    assert [row["codec"] for row in points] == [row.codec for row in rows]
    assert float(points[0]["psnr"]) == rows[0].values["psnr"]
    assert float(points[0]["psnr_low"]) == rows[0].intervals["psnr"][0]
    assert [row["rate"] for row in deltas] == [
        "" if row.rate is None else str(row.rate) for row in bench.deltas
    ]
    plot(bench.results, tmp_path / "rd.png")
    with Image.open(tmp_path / "rd.png") as image:
        assert image.width > 2.5 * image.height  # three panels
        pixels = np.asarray(image.convert("RGB")).astype(int)
    is_coloured = (pixels.max(axis=2) - pixels.min(axis=2)) > 60
    assert is_coloured.any()  # the tokenizer; classical codecs are grey
    with pytest.raises(ConfigError, match=r"\.png, \.svg"):
        plot(bench.results, tmp_path / "rd.gif")


def test_the_page_shows_everything(bench: CodecBench, tmp_path: Path) -> None:
    crops = equal_bytes_crops(bench.setup, bench.results, count=2, side=64)
    write_bench_page(bench, crops, tmp_path / "rd.html")
    page = (tmp_path / "rd.html").read_text("utf-8")
    for part in ('id="rate"', 'id="deltas"', 'id="equal-bytes"', 'id="summary"', 'id="time"'):
        assert part in page
    assert page.count('<figure class="slide"') == len(crops) == 2 * 4


def test_crops_are_of_the_nearest_files(bench: CodecBench, pictures: Path) -> None:
    records = bench_records(bench.results)
    for crop in equal_bytes_crops(bench.setup, bench.results, count=1, side=64):
        ours = [r for r in records if (r["codec"], r["image"]) == (crop.codec, crop.picture)]
        nearest = min(ours, key=lambda r: abs(math.log(r["bytes"] / crop.target)))
        assert (crop.num_bytes, crop.quality) == (nearest["bytes"], nearest["quality"])
        original = np.array(Image.open(pictures / crop.picture))
        top, left = most_detailed(original, 64)
        part = np.array(Image.open(io.BytesIO(crop.original)).convert("RGB"))
        assert np.array_equal(part, original[top : top + 64, left : left + 64])
        back = np.array(Image.open(io.BytesIO(crop.reconstruction)).convert("RGB"))
        assert np.array_equal(back, part) == (crop.codec == "png")


def test_the_common_size_is_where_codecs_come_nearest() -> None:
    sizes = {"a": (100, 205, 400), "b": (90, 200, 900), "c": (198, 5000)}
    subjects = [Subject(f"{c}:{i}", c, i, "") for c, s in sizes.items() for i in range(len(s))]
    records = [
        PictureRecord(s.label, "x", "p", 8, 8, sizes[s.codec][s.quality or 0], 1.0, 1.0, {})
        for s in subjects
    ]
    info = SetInfo("x", "images", 1, "")
    results = Results(tuple(subjects), (info,), {}, {}, tuple(records))
    target, found = nearest_files(results, "x", "p")
    assert target == 200
    assert [record.num_bytes for record in found] == [205, 200, 198]


def test_the_most_detailed_part() -> None:
    pixels = np.full((120, 200, 3), 90, np.uint8)
    pixels[40:72, 128:160] = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    top, left = most_detailed(pixels, 64)
    assert top <= 40 and top + 64 >= 72
    assert left <= 128 and left + 64 >= 160
    assert most_detailed(pixels, 500) == (0, 0)


def test_ladders_are_qualities_of_their_codecs() -> None:
    for name, codec in classical_codecs().items():
        points = default_points(codec)
        assert all(point in codec.qualities for point in points)
        assert list(points) == sorted(set(points))
        assert (6 <= len(points) <= 8) != (name == "png")


def test_points_of_tokenizers(model: Path) -> None:
    codec = codec_named(str(model))
    assert default_points(codec) == tuple(range(1, codec.qualities.highest + 1))
    (entry,), missing = expand([str(model), f"{model}:2"])
    assert (entry.name, missing) == ("tiny", {})
    assert entry.labels == tuple(f"{model}:{point}" for point in default_points(codec))


def test_many_qualities_are_spread_in_equal_ratios() -> None:
    class Long(WebP):
        name = "long"
        qualities = Qualities(1, 256, 256, "how many of 256 positions are kept")

    points = default_points(Long())
    assert (len(points), points[0], points[-1]) == (8, 1, 256)
    ratios = [after / before for before, after in itertools.pairwise(points[2:])]
    assert max(ratios) < 1.1 * min(ratios)


def test_codecs_that_are_not_here_are_named(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tessella.codecs.jpeg_xl import JpegXL

    monkeypatch.setattr(JpegXL, "missing", "jxl needs the package pillow-jxl-plugin")
    options = EvalOptions(metrics=("psnr",))
    sets = [image_set(pictures, limit=1)]
    names = ["jpeg:20", "jpeg:60", "jxl"]
    found = bench_codecs(names, sets, options, work=tmp_path)
    assert found.results.missing == {"jxl": "jxl needs the package pillow-jxl-plugin"}
    assert {r["codec"] for r in bench_records(found.results)} == {"jpeg"}
    with pytest.raises(ConfigError, match="pillow-jxl-plugin"):
        bench_codecs(["jxl"], sets, options, work=tmp_path)
    with pytest.raises(ConfigError, match="anchor 'jxl'"):
        bench_codecs(names, sets, options, work=tmp_path, anchor="jxl")


def test_peak_memory_is_at_least_the_picture(bench: CodecBench, tmp_path: Path) -> None:
    side = 2048
    picture = np.tile(data.astronaut(), (4, 4, 1))
    Image.fromarray(picture).save(tmp_path / "large.png")
    large = image_set(tmp_path)
    record = replace(bench.results.pictures[0], dataset=large.info.name, picture="large.png",
                     width=side, height=side)  # fmt: skip
    jpeg = bench.setup.contenders[0]
    setup = replace(bench.setup, contenders=(jpeg,), sets=(large,))
    found = peak_memory(setup, replace(bench.results, pictures=(record,)))
    if not found:
        pytest.skip("this system does not say")
    assert 3 * side**2 < found[jpeg.name] < 30 * side**2
    write_points(bench.results, tmp_path / "rd.csv", memory=found)
    assert f",{found['jpeg']}," in (tmp_path / "rd.csv").read_text("utf-8")


@pytest.mark.slow
def test_jpeg_on_kodak_is_where_it_was_measured_before(data_dir: Path, tmp_path: Path) -> None:
    if not (data_dir / "kodak").is_dir():
        pytest.skip("Kodak's pictures are not here")
    published = {10: (0.2555, 26.672, 0.89424), 50: (0.8692, 32.174, 0.97688)}
    options = EvalOptions(metrics=("psnr",))
    names = [f"jpeg:{quality}" for quality in published]
    bench = bench_codecs(names, [image_set(data_dir / "kodak")], options, work=tmp_path)
    for row in rate_point_rows(bench.results):
        bpp, psnr, ms_ssim = published[row.quality or 0]
        assert row.pictures == 24
        assert row.pooled_bpp == pytest.approx(row.values["bpp"])  # all are of one size
        assert row.pooled_bpp == pytest.approx(bpp, rel=5e-3)
        assert row.values["psnr"] == pytest.approx(psnr, abs=0.1)
        assert row.values["ms_ssim"] == pytest.approx(ms_ssim, abs=1e-3)
