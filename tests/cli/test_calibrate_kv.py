"""``tessella calibrate-kv``: a file that the caches of ``tessella generate`` read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_runner import Run
from safetensors.torch import save_file

from tessella.generation import GENERATORS


def test_calibrates_and_generates(run: Run, work: Path) -> None:
    result = run("calibrate-kv", "var-tiny", "-n", "2", "--seed", "3", "-o", "found.json")
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout == "found.json  scale, head, heat  2 pictures\n"
    content = json.loads((work / "found.json").read_text())
    assert set(content) == {"format", "version", "scale", "head", "heat"}
    assert content["head"]["pictures"] == 2
    options = ("--class", "1", "--kv-cache", "head:0.5:found.json", "-o", "pictures")
    assert run("generate", "var-tiny", *options).code == 0


def test_classes_are_taken_in_turn(run: Run, work: Path) -> None:
    files = []
    for classes in ("1,2", "1,2,1"):
        files.append(f"{classes}.json")
        options = ("--class", classes, "-n", "3", "--method", "heat", "-o", files[-1])
        assert run("calibrate-kv", "var-tiny", *options).code == 0
    assert (work / files[0]).read_bytes() == (work / files[1]).read_bytes()


def test_texts_are_measured_from_their_features(run: Run, work: Path) -> None:
    width = GENERATORS.presets()["infinity-tiny"][1].config.text_channels
    save_file({"a": torch.ones(3, width), "b": torch.zeros(2, width)}, "texts.safetensors")
    options = ("--text-features", "texts.safetensors", "-n", "3", "-o", "found.json")
    result = run("calibrate-kv", "infinity-tiny", *options)
    assert (result.code, result.stderr) == (0, "")
    assert json.loads((work / "found.json").read_text())["heat"]["pictures"] == 3


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (("--class", "cat"), "expected class numbers"),
        (("--method", "heats"), "did you mean 'heat'"),
        (("--prompt", "a cat"), "writes pictures of classes"),
        (("-o", "there.json"), "--overwrite"),
    ],
)
def test_wrong_use(run: Run, work: Path, options: tuple[str, ...], hint: str) -> None:
    (work / "there.json").write_text("")
    result = run("calibrate-kv", "var-tiny", "-n", "1", *options)
    assert result.code == 2
    assert hint in result.stderr
    assert not (work / "calibration.json").exists()
