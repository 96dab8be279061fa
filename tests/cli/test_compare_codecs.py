"""``tessella compare --codecs``: several codecs at the same bytes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Run
from PIL import Image
from tiny_model import photograph

from tessella.images import decode_rgb


@pytest.fixture
def picture(work: Path) -> Path:
    """A photograph of 256x256 pixels, large enough for JPEG's tables."""
    path = work / "photo.png"
    Image.fromarray(np.ascontiguousarray(photograph()[:256, :256])).save(path)
    return path


def captions(output: str) -> list[tuple[str, int, float]]:
    line = r"^(.+?)   (\d+) bytes   [\d.]+ bpp   ([\d.]+|inf) dB$"
    found = re.findall(line, output, re.MULTILINE)
    return [(label, int(size), float(quality)) for label, size, quality in found]


def test_a_column_a_codec(run: Run, picture: Path) -> None:
    result = run(
        "compare", picture, "-m", "tiny", "--codecs", "jpeg,webp, png,tiny", "-q", 2, "-q", 3
    )
    assert (result.code, result.stderr) == (0, "")
    rows = captions(result.stdout)
    columns = [label.removesuffix(", smallest file") for label, _, _ in rows]
    assert columns[:5] == ["JPEG", "WebP", "PNG", "tiny", "tessella, 2 kept"]
    assert columns[5:] == ["JPEG", "WebP", "PNG", "tiny", "tessella, 3 kept"]
    assert rows[2][0] == "PNG, smallest file"
    for row in (rows[:5], rows[5:]):
        *peers, (_, size, fidelity) = row
        for label, bytes_, _ in peers:
            assert (bytes_ <= size) == ("smallest" not in label)
        assert peers[3][1:] == (size, fidelity)  # the same codec at the same bytes
    sheet = decode_rgb("photo.compare.png")
    assert sheet.shape[1] >= 5 * 240


def test_jpeg_is_the_default(run: Run, picture: Path) -> None:
    run("compare", picture, "-m", "tiny", "-o", "a.png")
    result = run("compare", picture, "-m", "tiny", "--codecs", "jpeg", "-o", "b.png")
    assert [label for label, _, _ in captions(result.stdout)] == ["JPEG", "tessella"]
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_wrong_codecs_are_refused(run: Run, picture: Path) -> None:
    for codecs, message in (
        ("jpeg,wepb", "there is no codec 'wepb'; did you mean 'webp'?"),
        ("jpeg:20", "jpeg:20 gives a quality, but every column gets the same bytes"),
        (",", "names no codec"),
    ):
        result = run("compare", picture, "-m", "tiny", "--codecs", codecs)
        assert (result.code, result.stdout) == (2, "")
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert not Path("photo.compare.png").exists()
