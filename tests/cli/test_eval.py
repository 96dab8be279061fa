"""``tessella eval``: files, sets of all kinds, killed runs, errors."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Run
from PIL import Image
from tiny_model import photograph

from tessella.eval.results import Results


@pytest.fixture
def photos(work: Path) -> Path:
    """Four photographs."""
    folder = work / "photos"
    folder.mkdir()
    for i in range(4):
        part = photograph()[i * 40 : i * 40 + 192, i * 60 : i * 60 + 256]
        Image.fromarray(np.ascontiguousarray(part)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def faces(work: Path) -> Path:
    """A face of a portrait in the public domain (NASA), marked by hand."""
    folder = work / "faces"
    folder.mkdir()
    Image.fromarray(photograph()).save(folder / "astronaut.png")
    record = {
        "file": "astronaut.png",
        "identity": "astronaut",
        "width": 512,
        "height": 512,
        "face_box": [175, 76, 265, 166],
    }
    (folder / "index.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    return folder


def test_records_summary_and_page(run: Run, photos: Path, work: Path) -> None:
    outputs = ("--json", "e.json", "--csv", "e.csv", "--html", "e.html")
    result = run("eval", "tiny:2", "tiny", "jpeg:20", "--peers", "jpeg,webp", "--images", photos,
                 "--metrics", "psnr,ssim", *outputs)  # fmt: skip
    assert result.code == 0, result.stderr
    results = Results.load("e.json")
    labels = ["tiny:2", "tiny", "jpeg@tiny:2", "webp@tiny:2", "jpeg@tiny", "webp@tiny", "jpeg:20"]
    assert [subject.label for subject in results.subjects] == labels
    with Path("e.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["subject"] for row in rows] == labels
    mean = np.mean([r.scores["psnr"] for r in results.pictures if r.subject == "tiny"])
    column = next(name for name in rows[0] if "psnr" in name.lower())
    assert float(rows[1][column]) == pytest.approx(mean, rel=1e-3)
    page = Path("e.html").read_text("utf-8")
    assert all(label in page for label in labels)
    assert all(label in result.stdout for label in labels)
    assert not list(work.glob("*.work"))  # finished pieces are gone


def test_words_and_faces(run: Run, photos: Path, faces: Path) -> None:
    made = run(
        "eval", "--make-text-set", "words", "--images", photos, "--heights", "12,20", "--count", 9
    )
    assert made.code == 0, made.stderr
    words = sum(len(p["annotations"]) for p in json.loads(_annotation("words").read_text("utf-8")))
    assert f"{words} words" in made.stdout
    result = run("eval", "jpeg:5", "jpeg:60", "--text", "words", "--faces", faces,
                 "--face-engine", "hog", "--limit", 1, "--limit-marked", 0,
                 "--canvas", "0,256", "--json", "e.json")  # fmt: skip
    assert result.code == 0, result.stderr
    results = Results.load("e.json")
    assert [(s.name, s.canvas) for s in results.sets] == [
        ("words", 0),
        ("words@256", 256),
        ("faces", 0),
        ("faces@256", 256),
    ]
    similar = {(f.subject, f.dataset): f.similarity for f in results.faces}
    assert similar["jpeg:5", "faces"] < similar["jpeg:60", "faces"] < 1
    assert similar["jpeg:60", "faces@256"] < similar["resize", "faces@256"] < 1
    if "text" in results.missing:
        assert "tessella[text]" in results.missing["text"]
        return
    read = {}
    for word in results.words:
        read.setdefault((word.subject, word.dataset), []).append(word.text == word.read)
    assert {len(values) for values in read.values()} == {words}
    share = {key: np.mean(values) for key, values in read.items()}
    assert share["jpeg:5", "words"] < share["jpeg:60", "words"] <= share["original", "words"]
    assert share["original", "words"] > 0.7


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_numbers(run: Run, photos: Path, work: Path) -> None:
    command = [
        "eval",
        "jpeg:20",
        "webp:30",
        "avif:30",
        "-j",
        "2",
        "--images",
        str(photos),
        "--json",
    ]
    arguments = [sys.executable, "-m", "tessella.cli", *command, "killed.json"]
    pieces = work / "killed.json.work"
    with subprocess.Popen(arguments, env=os.environ | {"PYTHONPATH": _root()}) as process:
        while process.poll() is None and len(list(pieces.glob("*.json"))) < 6:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    _wait_for_workers(pieces)
    done = len(list(pieces.glob("*.json")))
    if process.returncode == 0:
        pytest.skip("it was finished before it could be killed")
    assert 6 <= done < 16
    stamps = {path: path.stat().st_mtime_ns for path in pieces.glob("*.json")}
    resumed = run(*command, "killed.json", "--work", pieces)
    assert resumed.code == 0, resumed.stderr
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps  # nothing was done again
    assert run(*command, "whole.json").code == 0
    killed, whole = (Results.load(name) for name in ("killed.json", "whole.json"))
    assert _figures(killed) == _figures(whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jpeg:20"], "no pictures given"),
        (["jpeg:20", "--images", "nowhere"], "nowhere"),
        (["jpeg:20", "--images", "photos", "--metrics", "psnrr"], "psnrr"),
        (["jpeg:20", "--images", "photos", "--protocol", "admm"], "admm"),
        (["jpeg:20", "--images", "photos", "--weights", "inception"], "NAME=FILE"),
        (["jpeg:20", "--images", "photos", "--canvas", "256,256"], "different numbers"),
        (["jpeg:20", "--images", "photos", "--json", "none/e.json"], "no folder none"),
        (["jpeg:20", "--images", "photos", "--lpips", "resnet"], "vgg, alex, squeeze"),
        (["jpeg:20", "--images", "photos", "--save-as", "gif"], "png or same"),
        (["jpeg:20", "--images", "photos", "--reference", "none.npz"], "none.npz"),
        (["jpeg:20", "--text", "photos"], "photos"),
        (["--make-text-set", "words"], "--images"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_nothing(
    run: Run, photos: Path, work: Path, arguments: list[str], message: str
) -> None:
    result = run("eval", *arguments)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert [path.name for path in work.iterdir()] == [photos.name]


def _wait_for_workers(pieces: Path) -> None:
    """Wait until nothing is written any more: processes end with the one that started them."""
    count = -1
    while count != (count := len(list(pieces.iterdir()))):
        time.sleep(1)


def _annotation(folder: str) -> Path:
    (found,) = Path(folder).rglob("*.json")
    return found


def _figures(results: Results) -> list[tuple[object, ...]]:
    return [(r.subject, r.picture, r.num_bytes, r.scores) for r in results.pictures]


def _root() -> str:
    return str(Path(__file__).parent.parent.parent)
