"""``tessella info``, ``models``, ``compare``, ``train`` and the help."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runner import Run
from PIL import Image
from tiny_model import photograph

import tessella
from tessella.cli.progress import ProgressBar
from tessella.codecs.entropy.prior import PRIOR_FILE, Prior
from tessella.codecs.shard_tokens import TokenShardWriter
from tessella.codecs.token_space import TokenSpace
from tessella.generation.pipelines import InfinityPipeline, VARPipeline
from tessella.images import decode_rgb

ROOT = Path(__file__).parent.parent.parent
VERBS = ("encode", "decode", "info", "compare", "convert", "models", "train")


@pytest.fixture
def token_file(run: Run, work: Path) -> Path:
    Image.fromarray(np.ascontiguousarray(photograph()[:256, :256])).save(work / "photo.png")
    run("encode", "photo.png", "-m", "tiny")
    return work / "photo.tsl"


def test_info_adds_up(run: Run, token_file: Path) -> None:
    result = run("info", token_file, "--json")
    assert (result.code, result.stderr) == (0, "")
    (record,) = json.loads(result.stdout)
    size = token_file.stat().st_size
    assert record["size"] == size
    assert record["header_size"] + sum(s["size"] for s in record["segments"]) == size
    assert (record["width"], record["height"]) == (256, 256)
    assert record["tokens"] == 32 * 32 * 3
    assert record["raw_bits"] == 32 * 32 * 3 * 4
    assert [s["holds"] for s in record["segments"]] == ["group 1", "group 2", "group 3"]
    assert record["segments"][-1]["bpp"] == pytest.approx(8 * size / 256**2)
    assert tessella.load("tiny").space_id.startswith(record["space_id"])


def test_info_is_readable_and_goes_on_after_errors(run: Run, token_file: Path) -> None:
    data = token_file.read_bytes()
    Path("cut.tsl").write_bytes(data[:-10])
    Path("bad.tsl").write_bytes(data[:3])
    result = run("info", "bad.tsl", "cut.tsl", token_file)
    assert result.code == 1
    assert result.stderr.startswith("tessella: bad.tsl: the data ends at byte 3")
    assert "ends early" in result.stdout
    assert re.search(r"segment 2  group 3, .* missing", result.stdout)
    assert re.search(r"level 0 +grid 32 x 32, 3 group\(s\) of 16, ordered groups", result.stdout)
    assert "whole, checksums verified" in result.stdout


def test_info_of_a_small_file_that_leaves_its_layout_to_the_model(run: Run, work: Path) -> None:
    Image.new("RGB", (9, 9), (90, 120, 30)).save(work / "a.png")
    run("encode", "a.png", "-m", "tiny")
    result = run("info", "a.tsl")
    assert result.code == 0
    assert "9x9 sRGB" in result.stdout
    assert len((work / "a.tsl").read_bytes()) <= 28 + 2 * 2 * 3


def test_info_of_a_shard(run: Run, work: Path, model_root: Path) -> None:
    model = tessella.load("tiny")
    prior = Prior.load(model_root / "tiny" / PRIOR_FILE)
    space = TokenSpace(model.space_id, model.layout, prior)
    coded = 0
    with TokenShardWriter(work / "a.tsl", model.layout(16, 24), space) as writer:
        for i in range(5):
            coded += writer.add(f"{i}", model.encode(torch.full((1, 3, 16, 24), i / 5)))
    (record,) = json.loads(run("info", "a.tsl", "--json").stdout)
    assert (record["kind"], record["pictures"]) == ("shard", 5)
    assert record["pixels"] == 5 * 16 * 24
    assert record["size"] == (work / "a.tsl").stat().st_size
    assert 0 < record["coded_size"] < coded < record["size"]
    assert "5 pictures, 1 920 pixels" in run("info", "a.tsl").stdout


def test_info_and_help_need_no_torch(token_file: Path) -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from tessella.cli import app\n"
        "for arguments in (['--help'], ['encode', '--help'], ['info', sys.argv[1]]):\n"
        "    result = CliRunner().invoke(app, arguments)\n"
        "    assert result.exit_code == 0, result.output\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(token_file)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    loaded = set(re.findall(r"'(\w+)'", done.stdout))
    assert not loaded & {"torch", "numpy", "PIL", "huggingface_hub", "safetensors", "rich"}


def test_program_exits_with_its_code(work: Path) -> None:
    for arguments, code, output in (
        (["--version"], 0, f"tessella {tessella.__version__}\n"),
        (["info", str(work / "none.tsl")], 1, "none.tsl: there is no such file\n"),
        (["info"], 2, "Missing argument"),
    ):
        command = [sys.executable, "-m", "tessella.cli", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == code
        assert output in done.stdout + done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_two_examples(run: Run, verb: str) -> None:
    result = run(verb, "--help")
    assert result.code == 0
    assert len(re.findall(rf"^ +.*tessella {verb}\b", result.stdout, re.MULTILINE)) >= 2
    assert result.stdout.count("--") > 1


def test_help_lists_the_verbs_and_version(run: Run) -> None:
    result = run("--help")
    for verb in VERBS:
        (line,) = re.findall(rf"^  {verb} +(.+)$", result.stdout, re.MULTILINE)
        assert not line.endswith("...")
    assert run("--version").stdout == f"tessella {tessella.__version__}\n"


def test_models_are_listed(run: Run, work: Path, model_root: Path) -> None:
    result = run("models")
    assert re.search(r"^tiny +progressive_gq +0\.\d\d M +\d+\.\d kB", result.stdout, re.MULTILINE)
    records = {record["name"]: record for record in json.loads(run("models", "--json").stdout)}
    assert records["tiny"]["folder"] == str(model_root / "tiny")
    assert records["tiny"]["is_shipped"] is False
    assert records["tiny"]["kind"] == "local"
    assert records["vqgan"]["kind"] == "convertible"
    assert records["vqgan"]["licence"] == "MIT"
    assert re.search(r"^vqgan +https://github.com/CompVis/\S+ .*MIT", result.stdout, re.MULTILINE)


def test_pipelines_and_generators_are_listed(
    run: Run, work: Path, model_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "pipelines that" not in run("models").stdout
    VARPipeline.from_preset("var-tiny").save_pretrained(work / "models" / "classes")
    InfinityPipeline.from_preset("infinity-tiny").save_pretrained(work / "models" / "texts")
    (work / "models" / "broken").mkdir()
    (work / "models" / "broken" / "pipeline.json").write_text("{")
    roots = os.pathsep.join(map(str, (model_root, work / "models")))
    monkeypatch.setenv("TESSELLA_MODELS", roots)
    result = run("models")
    assert re.search(r"^tiny +progressive_gq ", result.stdout, re.MULTILINE)
    assert re.search(r"^classes +var +0\.\d\d M +\d+\.\d kB", result.stdout, re.MULTILINE)
    assert re.search(r"^broken +damaged +0\.00 M +0 B", result.stdout, re.MULTILINE)
    assert re.search(r"^infinity +https://\S+ .*  MIT; text to image", result.stdout, re.MULTILINE)
    listed = json.loads(run("models", "--json").stdout)
    records = {record["name"]: record for record in listed}
    assert len(records) == len(listed)
    pipe = InfinityPipeline.from_pretrained(work / "models" / "texts")
    parameters = [p for m in (pipe.generator, pipe.tokenizer) for p in m.state_dict().values()]
    assert records["texts"]["parameters"] == sum(p.numel() for p in parameters)
    kinds = {name: (r["kind"], r["holds"]) for name, r in records.items()}
    assert kinds["texts"] == ("local", "pipeline")
    assert kinds["tiny"] == ("local", "tokenizer")
    assert kinds["progressive-gq-f8"] == ("shipped", "tokenizer")
    assert kinds["vqgan"] == ("convertible", "tokenizer")
    assert kinds["var"] == kinds["infinity"] == ("convertible", "generator")
    assert records["var"]["licence"] == "MIT"


def test_compare_draws_three_panels_a_row(run: Run, token_file: Path, work: Path) -> None:
    result = run("compare", "photo.png", "-m", "tiny", "-q", 1, "-q", 3, "-o", "sheet.png")
    assert (result.code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    sheet = decode_rgb("sheet.png")
    assert sheet.shape[1] >= 3 * 256
    assert sheet.shape[0] >= 2 * 256
    for jpeg, ours in (lines[:2], lines[2:4]):
        theirs, mine = (re.search(r"(\d+) bytes .* (\d+\.\d\d) dB", x) for x in (jpeg, ours))
        assert theirs is not None
        assert mine is not None
        assert int(theirs[1]) <= int(mine[1]) or "JPEG" in jpeg
    assert int(re.search(r"(\d+) bytes", lines[3])[1]) == token_file.stat().st_size
    original = decode_rgb("photo.png")
    run("decode", "photo.tsl", "-o", "back.png")
    error = np.mean((decode_rgb("back.png").astype(float) - original) ** 2)
    assert f"{10 * np.log10(255**2 / error):.2f} dB" in lines[3]
    # the panels themselves are on the sheet, pixel for pixel
    assert np.array_equal(find_panel(sheet, original), original)


def find_panel(sheet: np.ndarray, panel: np.ndarray) -> np.ndarray:
    height, width = panel.shape[:2]
    row = panel[0].tobytes()
    for top in range(sheet.shape[0] - height + 1):
        for left in range(12):
            if sheet[top, left : left + width].tobytes() == row:
                return sheet[top : top + height, left : left + width]
    raise AssertionError("the panel is not on the sheet")


def test_compare_refuses_before_it_works(run: Run, token_file: Path, work: Path) -> None:
    (work / "sheet.png").write_bytes(b"mine")
    result = run("compare", "photo.png", "-m", "tiny", "-o", "sheet.png")
    assert (result.code, result.stdout) == (1, "")
    assert "sheet.png exists; give --overwrite" in result.stderr
    result = run("compare", "photo.png", "-m", "tiny", "-o", "-")
    assert "a sheet cannot go to standard output" in result.stderr


def test_train_reports_a_wrong_key(run: Run, work: Path) -> None:
    result = run("train", "progressive_gq_tiny", "trainer.stepz=5")
    assert result.code == 2
    assert "trainer.steps" in result.stderr
    assert "Traceback" not in result.stderr
    assert run("train", "no_such_config").code == 2


def test_progress_is_drawn_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, is_drawn in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with ProgressBar(2, "encoding") as bar:
            bar.tile_done(1, 4)
            bar.file_done()
            bar.file_done()
        assert ("encoding" in stream.getvalue()) == is_drawn
