"""``tessella generate``, and ``convert`` for generators."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runner import Run
from PIL import Image
from safetensors.torch import save_file

import tessella
from tessella.generation.checkpoints import convert_generator
from tessella.generation.pipelines import VARPipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline."""
    folder = tmp_path_factory.mktemp("pipelines") / "var"
    VARPipeline.from_preset("var-tiny").save_pretrained(folder)
    return folder


def test_pictures_tokens_sheet_and_trace(run: Run, folder: Path, work: Path) -> None:
    options = ("--class", "2,7", "-n", 2, "--seed", 5, "--trace", "-o", "out")
    result = run("generate", folder, *options)
    assert result.code == 0
    names = [f"class{label}-seed{seed}" for label, seed in ((2, 5), (2, 6), (7, 7), (7, 8))]
    for name in names:
        with Image.open(work / "out" / f"{name}.png") as image:
            assert image.size == (32, 32)
    with Image.open(work / "out" / "sheet.png") as sheet:
        assert min(sheet.size) >= 64
    batches = json.loads((work / "out" / "trace.json").read_text())["batches"]
    assert [event["grid"] for event in batches[0]] == [[1, 1], [2, 2], [4, 4], [8, 8]]
    assert batches[0][0]["kv_bytes"] == 0 < batches[0][3]["kv_bytes"]
    # the token file holds the picture
    pipe = VARPipeline.from_pretrained(folder)
    tokens = tessella.read(work / "out" / f"{names[2]}.tsl", model=folder / "tokenizer")
    assert tokens.levels[3].flatten().tolist() == batches[0][3]["tokens"][2]
    with Image.open(work / "out" / f"{names[2]}.png") as image:
        pixels = np.asarray(image).astype(int)
    decoded = pipe.tokenizer.decode(tokens)[0].permute(1, 2, 0).add(1).mul(127.5).numpy()
    assert np.abs(pixels - decoded).max() <= 1


def test_pictures_do_not_depend_on_the_batch(run: Run, folder: Path, work: Path) -> None:
    for batch in (1, 3):
        options = ("--class", "1,4,9", "--batch", batch, "-o", f"b{batch}")
        assert run("generate", folder, *options).code == 0
    for path in sorted((work / "b1").glob("*.tsl")):
        assert path.read_bytes() == (work / "b3" / path.name).read_bytes()


def test_the_rest_of_a_picture(run: Run, folder: Path, work: Path, picture: Path) -> None:
    mask = np.zeros((113, 158), np.uint8)
    mask[:, 79:] = 255
    Image.fromarray(mask).save(work / "mask.png")
    options = ("--from", picture, "--mask", "mask.png", "--trace", "-o", "edited")
    assert run("generate", folder, "--class", 3, *options).code == 0
    events = json.loads((work / "edited" / "trace.json").read_text())["batches"][0]
    written = torch.tensor(events[3]["tokens"]).view(8, 8)
    from tessella.generation.editing import known_of_files

    pipe = VARPipeline.from_pretrained(folder)
    known = known_of_files(pipe.tokenizer, pipe.generator.grids, picture, 0)
    original = known.tokens.levels[3].view(8, 8)
    assert torch.equal(written[:, :4], original[:, :4])
    assert not torch.equal(written[:, 4:], original[:, 4:])
    options = ("--from", picture, "--given-scales", 4, "-o", "given")
    assert run("generate", folder, "--class", 3, *options).code == 0
    tokens = tessella.read(work / "given" / "class3-seed0.tsl", model=folder / "tokenizer")
    assert all(torch.equal(a, b) for a, b in zip(tokens.levels, known.tokens.levels, strict=True))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--class", "12"), 1, "class 12 given; this model knows 0 to 9"),
        (("--class", "two"), 2, "expected class numbers"),
        (("--class", "1", "--kv-cache", "streeming:0.5"), 2, "did you mean 'streaming'"),
        (("--class", "1", "--kv-cache", "streaming:0.01"), 2, "budget of 0.01"),
        (("--class", "1", "--scales", "9"), 1, "expected 1 to 4"),
        (("--class", "1", "--given-scales", "2"), 2, "add --from"),
        (("--class", "1", "--top-p", "3"), 2, "expected 0 to 1"),
    ],
)
def test_errors(
    run: Run, folder: Path, work: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    result = run("generate", folder, *options, "-o", "out")
    assert (result.code, message in result.stderr) == (code, True), result.stderr
    assert not list(work.glob("out/*.png"))


def test_unknown_pipelines_and_full_folders(run: Run, folder: Path, work: Path) -> None:
    assert "did you mean 'var-tiny'" in run("generate", "var-tny", "--class", 1).stderr
    (work / "full").mkdir()
    (work / "full" / "a").touch()
    result = run("generate", folder, "--class", 1, "-o", "full")
    assert result.code == 2
    assert "not empty" in result.stderr


def test_converting_a_generator(run: Run, work: Path) -> None:
    pipe = VARPipeline.from_preset("var-tiny")
    theirs = _published_names(pipe.generator.state_dict(), pipe.generator.config.sides)
    save_file(theirs, work / "var.safetensors")
    pipe.tokenizer.save_pretrained(work / "tokenizer")
    (work / "config.json").write_text(json.dumps({"patch_nums": pipe.generator.config.sides}))
    arguments = ("convert", "var", "var.safetensors", "-o", "converted")
    assert "--tokenizer" in run(*arguments).stderr
    options = ("--tokenizer", "tokenizer", "--config", "config.json")
    result = run(*arguments, *options)
    assert result.code == 0, result.stderr
    again = VARPipeline.from_pretrained(work / "converted")
    assert again([3], seed=1).tokens == pipe([3], seed=1).tokens
    del theirs["word_embed.bias"]
    with pytest.raises(tessella.CheckpointError, match=r"missing \['word_embedding.bias'\]"):
        convert_generator("var", theirs, {"patch_nums": pipe.generator.config.sides})


def _published_names(
    state: dict[str, torch.Tensor], sides: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    """Spell our weights as VAR's own code does."""
    plain = {
        "class_embedding.weight": "class_emb.weight",
        "start_embedding": "pos_start",
        "position_embedding": "pos_1LC",
        "scale_embedding.weight": "lvl_embed.weight",
        "word_embedding.weight": "word_embed.weight",
        "word_embedding.bias": "word_embed.bias",
        "head.modulation.weight": "head_nm.ada_lin.1.weight",
        "head.modulation.bias": "head_nm.ada_lin.1.bias",
        "head.out.weight": "head.weight",
        "head.out.bias": "head.bias",
    }
    parts = {
        "attention.qkv": "attn.mat_qkv",
        "attention.log_temperature": "attn.scale_mul_1H11",
        "attention.": "attn.",
        "perceptron.": "ffn.",
        "modulation.": "ada_lin.1.",
    }
    theirs = {}
    for name, tensor in state.items():
        found = plain.get(name)
        if found is None:
            blocks, number, rest = name.split(".", 2)
            ours = next(part for part in parts if rest.startswith(part))
            found = f"{blocks}.{number}.{rest.replace(ours, parts[ours], 1)}"
        if found.endswith("scale_mul_1H11"):
            tensor = tensor.view(1, -1, 1, 1)
        theirs[found] = tensor.contiguous()
    tokens = sum(side * side for side in sides)
    theirs["lvl_1L"] = torch.zeros(1, tokens, dtype=torch.int64)
    theirs["attn_bias_for_masking"] = torch.zeros(1, 1, tokens, tokens)
    return theirs
