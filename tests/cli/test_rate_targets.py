"""``tessella encode --target-bytes``, ``--target-bpp`` and ``--target-psnr``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Run
from skimage.metrics import peak_signal_noise_ratio

from tessella.images import decode_rgb

PIXELS = 158 * 113


def encoded(run: Run, *options: object) -> tuple[str, bytes]:
    """Return what was said and the file."""
    result = run("encode", "photo.png", "-m", "tiny", "--overwrite", *options)
    assert (result.code, result.stderr) == (0, "")
    return result.stdout, Path("photo.tsl").read_bytes()


def decoded(run: Run) -> np.ndarray:
    assert run("decode", "photo.tsl", "-o", "back.png", "--overwrite").code == 0
    return decode_rgb("back.png")


@pytest.mark.parametrize("way", ["--adaptive", "--uniform"])
def test_sizes_are_met(run: Run, picture: Path, way: str) -> None:
    _, least = encoded(run, "-q", 1)
    _, most = encoded(run)
    limit = (len(least) + len(most)) // 2
    said, data = encoded(run, "--target-bytes", limit, way)
    assert len(least) <= len(data) <= limit
    assert f"  {len(data)} B  {8 * len(data) / PIXELS:.2f} bpp\n" in said
    bpp = 8 * limit / PIXELS + 1e-9
    assert encoded(run, "--target-bpp", bpp, way)[1] == data
    if way == "--uniform":
        assert data == encoded(run, "-q", 2)[1] or len(data) == len(least)
    else:
        assert len(data) > 0.97 * limit  # between what whole groups allow


def test_tokens_are_counted_and_told(run: Run, picture: Path) -> None:
    _, least = encoded(run, "-q", 1)
    _, most = encoded(run)
    said, _ = encoded(run, "--target-bytes", (len(least) + len(most)) // 2)
    count = int(re.search(r"113  (\d+) tokens", said)[1])  # type: ignore[index]
    assert 300 < count < 900
    assert f"{count} tokens" in run("decode", "photo.tsl", "-o", "a.png").stdout
    assert "  kept   " in run("info", "photo.tsl").stdout
    found = json.loads(run("info", "photo.tsl", "--json").stdout)[0]
    assert found["version"] == "1.1"
    assert found["chunks"][0][0] == "kept"


@pytest.mark.parametrize("way", ["--adaptive", "--uniform"])
def test_a_psnr_is_met_by_the_file(run: Run, picture: Path, way: str) -> None:
    original = decode_rgb(picture)
    encoded(run, "-q", 2)
    target = float(peak_signal_noise_ratio(original, decoded(run))) - 0.01
    said, data = encoded(run, "--target-psnr", target, way)
    reached = peak_signal_noise_ratio(original, decoded(run))
    assert reached >= target
    assert said.endswith(f"bpp  {reached:.2f} dB\n")
    if way == "--uniform":
        assert data == encoded(run, "-q", 2)[1]


def test_impossible_targets_are_told_with_the_nearest(run: Run, picture: Path, work: Path) -> None:
    _, least = encoded(run, "-q", 1)
    (work / "photo.tsl").unlink()
    for way in ("--adaptive", "--uniform"):
        result = run("encode", "photo.png", "-m", "tiny", "--target-bytes", 20, way)
        assert result.code == 1
        assert f"has {len(least)} bytes; 20 asked for" in result.stderr
        result = run("encode", "photo.png", "-m", "tiny", "--target-psnr", 80, way)
        assert result.code == 1
        assert re.search(r"reaches \d\d\.\d\d dB of this picture at most", result.stderr)
    assert not (work / "photo.tsl").exists()


def test_standard_streams_and_limits(run: Run, picture: Path) -> None:
    _, data = encoded(run, "--target-bpp", 0.6)
    result = run("encode", "-", "-m", "tiny", "--target-bpp", 0.6, stdin=picture.read_bytes())
    assert result.data == data
    result = run(
        "encode", "photo.png", "-m", "tiny", "-o", "b.tsl", "--target-bpp", 0.6, "--max-pixels", 99
    )
    assert result.code == 1
    assert "the limit is 99" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-q", "2", "--target-bpp", "1"], "exclude each other"),
        (["--target-psnr", "30", "--target-bpp", "1"], "exclude each other"),
        (["--target-bytes", "0"], "--target-bytes"),
        (["--target-bpp", "0"], "expected more than 0"),
        (["--target-bpp", "nan"], "expected more than 0"),
        (["--target-psnr", "inf"], "expected decibels"),
        (["--adaptive"], "need a target"),
        (["--uniform", "-q", "2"], "need a target"),
    ],
)
def test_wrong_use_is_told(run: Run, picture: Path, options: list[str], message: str) -> None:
    result = run("encode", "photo.png", "-m", "tiny", *options)
    assert result.code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
