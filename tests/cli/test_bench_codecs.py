"""``tessella bench codecs``: files, a run that goes on, errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Run
from PIL import Image
from tiny_model import photograph


@pytest.fixture
def photos(work: Path) -> Path:
    """Two photographs."""
    folder = work / "photos"
    folder.mkdir()
    for i in range(2):
        part = photograph()[i * 40 : i * 40 + 168, i * 60 : i * 60 + 200]
        Image.fromarray(np.ascontiguousarray(part)).save(folder / f"{i}.png")
    return folder


def test_every_file_is_written(run: Run, photos: Path, work: Path) -> None:
    files = ("--json", "r.json", "--csv", "r.csv", "--bd", "d.csv", "--html", "r.html")
    command = ("bench", "codecs", "--images", photos, "--codecs", "jpeg,webp:20,webp:60,tiny")
    result = run(*command, *files, "--plot", "r.svg", "--shown", 1)
    assert result.code == 0, result.stderr
    records = json.loads(Path("r.json").read_text("utf-8"))
    points = list(dict.fromkeys((record["codec"], record["quality"]) for record in records))
    ladder = [("jpeg", quality) for quality in (5, 10, 20, 35, 50, 70, 85)]
    assert points[:9] == [*ladder, ("webp", 20), ("webp", 60)]
    assert {codec for codec, _ in points[9:]} == {"tiny"}
    keys = {"codec", "quality", "image", "bytes", "bpp", "psnr", "ms_ssim", "ssimulacra2"}
    assert all(keys | {"encode_seconds", "decode_seconds"} <= record.keys() for record in records)
    assert len(records) == 2 * len(points)
    with Path("r.csv").open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(points)
    with Path("d.csv").open(encoding="utf-8", newline="") as stream:
        deltas = list(csv.DictReader(stream))
    assert {row["codec"] for row in deltas} == {"webp", "tiny"}
    assert {row["metric"] for row in deltas} == {"psnr", "ms_ssim", "ssimulacra2"}
    assert "Side by side at equal bytes" in Path("r.html").read_text("utf-8")
    assert "<svg" in Path("r.svg").read_text("utf-8")
    assert "Bjontegaard deltas against jpeg" in result.stdout
    assert not list(work.glob("*.work"))  # finished pieces are gone


def test_kept_pieces_are_not_made_again(run: Run, photos: Path) -> None:
    command = ("bench", "codecs", "--images", photos, "--metrics", "psnr", "--work", "pieces")
    first = run(*command, "--codecs", "jpeg:20,jpeg:60", "--json", "a.json")
    assert first.code == 0, first.stderr
    stamps = {path: path.stat().st_mtime_ns for path in Path("pieces").iterdir()}
    second = run(*command, "--codecs", "jpeg:20,jpeg:60,webp:20,webp:60", "--anchor", "webp",
                 "--json", "b.json")  # fmt: skip
    assert second.code == 0, second.stderr
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    old, new = (json.loads(Path(name).read_text("utf-8")) for name in ("a.json", "b.json"))
    assert [record for record in new if record["codec"] == "jpeg"] == old  # with their times
    assert "Bjontegaard deltas against webp" in second.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codecs", "jpg"], "jpeg"),
        (["--codecs", "jpeg:101"], "1 to 100"),
        (["--codecs", ","], "expected names"),
        (["--codecs", "jpeg:20", "--anchor", "webp"], "not among the codecs"),
        (["--codecs", "jpeg:20", "--metrics", "ssimulacra"], "ssimulacra2"),
        (["--codecs", "jpeg:20", "--method", "spline"], "pchip, cubic, akima"),
        (["--codecs", "jpeg:20", "--plot", "rd.gif"], ".png, .svg"),
        (["--codecs", "jpeg:20", "--bd", "none/d.csv"], "no folder none"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_nothing(
    run: Run, photos: Path, work: Path, arguments: list[str], message: str
) -> None:
    result = run("bench", "codecs", "--images", photos, *arguments)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert [path.name for path in work.iterdir()] == [photos.name]
