"""``tessella generate``, and ``convert`` for generators."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runner import Run
from PIL import Image
from safetensors.torch import load_file, save_file

import tessella
from tessella.generation.checkpoints import convert_generator
from tessella.generation.pipelines import InfinityPipeline, VARPipeline
from tessella.generation.text_encoder import TextEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline."""
    folder = tmp_path_factory.mktemp("pipelines") / "var"
    VARPipeline.from_preset("var-tiny").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline that writes pictures of texts."""
    folder = tmp_path_factory.mktemp("pipelines") / "infinity"
    InfinityPipeline.from_preset("infinity-tiny").save_pretrained(folder)
    return folder


@pytest.fixture
def folders(folder: Path, text_folder: Path) -> dict[str, Path]:
    return {"class": folder, "text": text_folder}


@pytest.fixture
def features(work: Path) -> Path:
    """Features of twelve texts of unlike lengths; 2 comes before 10."""
    noise = torch.Generator().manual_seed(0)
    rows = {f"text{i}": torch.randn(1 + i, 8, generator=noise) for i in range(12)}
    save_file(rows, work / "features.safetensors")
    return work / "features.safetensors"


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


def test_token_files_are_decoded_by_the_pipeline_on_the_search_path(
    run: Run, folder: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("generate", folder, "--class", 2, "-o", "out").code == 0
    token_file = work / "out" / "class2-seed0.tsl"
    assert "is not here" in run("decode", token_file, "-o", "again.png").stderr
    monkeypatch.setenv("TESSELLA_MODELS", str(folder.parent))
    result = run("decode", token_file, "-o", "again.png")
    assert (result.code, result.stderr) == (0, "")
    again, first = Image.open(work / "again.png"), Image.open(work / "out" / "class2-seed0.png")
    assert np.abs(np.asarray(again).astype(int) - np.asarray(first)).max() <= 1


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


def test_pictures_of_features(run: Run, text_folder: Path, features: Path, work: Path) -> None:
    options = ("--text-features", features, "--seed", 3, "--trace", "--batch", 5, "-o", "out")
    result = run("generate", text_folder, *options)
    assert (result.code, result.stderr) == (0, "")
    assert {path.stem for path in work.glob("out/*.tsl")} == {
        f"prompt{i}-seed{3 + i}" for i in range(12)
    }
    batches = json.loads((work / "out" / "trace.json").read_text())["batches"]
    assert [len(batch[4]["tokens"]) for batch in batches] == [5, 5, 2]
    rows = load_file(features)
    pipe = InfinityPipeline.from_pretrained(text_folder)
    for i in (2, 10):
        tokens = tessella.read(
            work / "out" / f"prompt{i}-seed{3 + i}.tsl", model=text_folder / "tokenizer"
        )
        assert tokens == pipe([rows[f"text{i}"]], seed=3 + i).tokens
    assert run("generate", text_folder, *options[:-3], 1, "-o", "alone").code == 0
    for path in work.glob("out/*.tsl"):
        assert path.read_bytes() == (work / "alone" / path.name).read_bytes()


def test_texts_go_through_the_encoder(
    run: Run, text_folder: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, list[str]]] = []

    def encode(self: TextEncoder, texts: list[str]) -> list[torch.Tensor]:
        made.append((self.source, texts))
        return [torch.full((2, 8), float(len(text))) for text in texts]

    monkeypatch.setattr("tessella.generation.text_encoder._PACKAGES", ())
    monkeypatch.setattr(TextEncoder, "__call__", encode)
    options = ("--prompt", "a bus", "--prompt", "cats", "-n", 2, "--text-encoder", "t5")
    assert run("generate", text_folder, *options, "-o", "plain").code == 0
    assert made == [("t5", ["a bus"]), ("t5", ["cats"])]
    names = ["prompt0-seed0", "prompt0-seed1", "prompt1-seed2", "prompt1-seed3"]
    assert sorted(path.stem for path in work.glob("plain/*.tsl")) == names
    more = ("--negative", "blur", "--size", "32x32", "--cfg", 3, "-o", "negative")
    assert run("generate", text_folder, *options, *more).code == 0
    assert made[-1] == ("t5", ["blur"])
    first = [(work / name / "prompt0-seed0.tsl").read_bytes() for name in ("plain", "negative")]
    assert first[0] != first[1]


@pytest.mark.parametrize(
    ("kind", "options", "code", "message"),
    [
        ("class", (), 2, "of classes; expected --class"),
        ("text", (), 2, "of texts; expected --prompt TEXT or --text-features"),
        ("class", ("--prompt", "a bus"), 2, "--prompt given, but"),
        ("class", ("--class", 1, "--negative", "a bus"), 2, "--negative given, but"),
        ("class", ("--class", 1, "--aspect", 1.5), 2, "--aspect given, but"),
        ("class", ("--class", 1, "--size", "64x64"), 1, "pictures of (32, 32) alone"),
        ("text", ("--class", 1), 2, "--class given, but"),
        ("text", ("--prompt", "a"), 2, "no text encoder"),
        ("text", ("--prompt", "a", "--text-features", "f"), 2, "expected one of them"),
        ("text", ("--text-features", "f", "--size", "8x8", "--aspect", 1), 2, "one of them"),
        ("text", ("--text-features", "none.safetensors"), 1, "none.safetensors"),
        ("text", ("--text-features", "bad.safetensors"), 2, "expected a safetensors file"),
        ("text", ("--text-features", "features.safetensors", "--size", "8"), 2, "WIDTHxHEIGHT"),
        ("text", ("--text-features", "features.safetensors", "--aspect", 2), 2, "one size"),
        ("text", ("--text-features", "features.safetensors", "--smooth"), 2, "no smooth mixtures"),
        ("text", ("--text-features", "wide.safetensors"), 1, "use the text encoder"),
    ],
)
def test_options_that_do_not_fit_the_model(
    run: Run,
    folders: dict[str, Path],
    features: Path,
    work: Path,
    kind: str,
    options: tuple[object, ...],
    code: int,
    message: str,
) -> None:
    (work / "bad.safetensors").write_bytes(b"nothing")
    save_file({"a": torch.zeros(3, 9)}, work / "wide.safetensors")
    result = run("generate", folders[kind], *options, "-o", "out")
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
