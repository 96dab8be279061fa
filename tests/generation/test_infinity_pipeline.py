"""Infinity's pipeline: texts and features, sizes, seeds, saving, and what it has in common."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recordings import load_config, load_parts
from safetensors.torch import save_file
from torch import Tensor

import tessella
from tessella.errors import CheckpointError, ConfigError, MissingDependencyError, ShapeError
from tessella.eval.generation_bench import BenchSettings, bench_generation
from tessella.generation import Known, Prompts
from tessella.generation.checkpoints.files import convert_pipeline
from tessella.generation.infinity import InfinityGenerator
from tessella.generation.pipelines import InfinityPipeline, VARPipeline, load_pipeline
from tessella.generation.text_encoder import TextEncoder
from tessella.tokenizers.checkpoints.files import convert_file
from tessella.tokenizers.multiscale_bsq import MultiScaleBSQConfig, MultiScaleBSQTokenizer

RECORDING = Path(__file__).parents[1] / "fixtures" / "parity" / "infinity_transformer" / "a"


def encode(texts: Sequence[str]) -> list[Tensor]:
    """Stand in for a text encoder: features of letters."""
    found = []
    for text in texts:
        letters = torch.tensor([ord(letter) for letter in f"{text}."[:12]]).float()
        found.append(torch.sin(letters.unsqueeze(1) * torch.arange(1, 9)))
    return found


@pytest.fixture(scope="module")
def pipe() -> InfinityPipeline:
    pipe = InfinityPipeline.from_preset("infinity-tiny")
    pipe.text_encoder = encode
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _of_many_sizes() -> InfinityPipeline:
    """Return a pipeline that writes Infinity's schedules."""
    preset = InfinityPipeline.from_preset("infinity-tiny").generator.config
    config = replace(preset, depth=1, level_blocks=(0,), schedule=(), resolution="0.06M")
    torch.manual_seed(0)
    sizes = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "norm_groups": 4}
    tokenizer = MultiScaleBSQTokenizer(MultiScaleBSQConfig(code_dim=8, **sizes))
    pipe = InfinityPipeline(InfinityGenerator(config), tokenizer, encode)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# ---- prompts -----------------------------------------------------------------------------------


def test_texts_and_their_features_give_the_same(pipe: InfinityPipeline) -> None:
    texts = ["a red bus", "two cats"]
    output = pipe(texts, seed=3)
    assert [image.size for image in output.images] == [(32, 32), (32, 32)]
    assert len(output.scales) == 5
    assert pipe(encode(texts), seed=3).tokens == output.tokens
    assert pipe("two cats", seed=4).tokens == output.tokens[1]
    assert pipe("a blue bus", seed=3).tokens != output.tokens[0]


def test_texts_are_encoded_once_and_alone(pipe: InfinityPipeline) -> None:
    calls: list[list[str]] = []

    def watched(texts: Sequence[str]) -> list[Tensor]:
        calls.append(list(texts))
        return encode(texts)

    other = InfinityPipeline(pipe.generator, pipe.tokenizer, watched)
    features = other.encode_texts(["a", "b", "a"])
    assert calls == [["a"], ["b"]]
    assert features[0] is features[2]


def test_negative_prompts(pipe: InfinityPipeline) -> None:
    plain = pipe(["a bus", "a cat"], seed=0).tokens
    one = pipe(["a bus", "a cat"], negative_prompt="blur", seed=0).tokens
    assert one != plain
    assert pipe(["a bus", "a cat"], negative_prompt=encode(["blur", "blur"]), seed=0).tokens == one
    assert pipe("a cat", negative_prompt=["blur"], seed=1).tokens == one[1]
    options = {"guidance_scale": 1.0, "seed": 0}
    assert pipe("a", negative_prompt="b", **options).tokens == pipe("a", **options).tokens


def test_guidance_and_drawing(pipe: InfinityPipeline) -> None:
    greedy = pipe("a bus", greedy=True).tokens
    assert pipe("a bus", temperature=[1e-6] * 5, seed=9).tokens == greedy
    assert pipe("a bus", guidance_scale=[4.0] * 5, greedy=True).tokens == greedy
    assert pipe("a bus", guidance_layers=(-1,), greedy=True).tokens != greedy
    direct = pipe.generator.generate(
        Prompts(encode(["a bus"]), guidance_layers=(-1,)),
        tokenizer=pipe.tokenizer,
        guidance_scale=4.0,
        sampling=replace(pipe.sampling, greedy=True),
    )
    assert pipe("a bus", guidance_layers=(-1,), greedy=True).tokens == direct
    with pytest.raises(ConfigError, match="expected 5"):
        pipe("a bus", temperature=[1.0, 0.5])


# ---- what it shares with other pipelines -------------------------------------------------------


def test_events_caches_and_known_tokens(pipe: InfinityPipeline) -> None:
    seen: list[int] = []
    whole = pipe("a", seed=2, callback_on_scale_end=lambda p, k, event: seen.append(k)).tokens
    assert seen == [0, 1, 2, 3, 4]
    assert pipe("a", seed=2, scales=3).tokens == whole.truncate(levels=3)
    assert pipe("a", seed=2, kv_cache="streaming:0.5").tokens.layout == whole.layout
    rest = pipe("a", seed=5, known=Known(whole.truncate(levels=3), scales=3)).tokens
    assert rest.truncate(levels=3) == whole.truncate(levels=3)
    assert rest != whole


def test_pictures_are_rgb_as_the_decoder_makes_them(pipe: InfinityPipeline) -> None:
    output = pipe("a", seed=2)
    decoded = pipe.tokenizer.decode(output.tokens)[0].add(1).mul(127.5).permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(output.images[0]).astype(float) - decoded).max() <= 1
    assert output.images[0].mode == "RGB"


def test_the_bench_takes_its_conditions(pipe: InfinityPipeline) -> None:
    conditions = pipe.random_conditions(2, seed=1)
    assert [tuple(row.shape) for row in conditions] == [(12, 8), (12, 8)]
    assert torch.equal(conditions[1], pipe.random_conditions(2, seed=1)[1])
    records = bench_generation(pipe, ["scale:0.3"], BenchSettings(conditions, 2, repeats=1))
    assert [record.policy for record in records] == ["full", "scale"]
    assert records[0].token_agreement == 1
    assert records[1].kv_bytes_peak < records[0].kv_bytes_peak
    labels = VARPipeline.from_preset("var-tiny").random_conditions(3)
    assert len(labels) == 3
    assert set(labels) <= set(range(10))


# ---- sizes -------------------------------------------------------------------------------------


def test_sizes_by_aspect_ratio() -> None:
    pipe = _of_many_sizes()
    assert pipe.nearest_size(1) == (32, 32)
    assert pipe.nearest_size(1.5) == (28, 42)
    assert pipe.nearest_size(2 / 3) == (42, 28)
    assert pipe.nearest_size(100) == pipe.nearest_size(3) == (18, 54)
    for options in ({"aspect_ratio": 2.9}, {"image_size": (18, 54)}):
        output = pipe("a", greedy=True, scales=4, **options)
        assert output.images[0].size == (54, 18)
    with pytest.raises(ShapeError, match=r"\(32, 32\) is the nearest"):
        pipe("a", image_size=(33, 32))
    with pytest.raises(ConfigError, match="expected one of them"):
        pipe("a", image_size=(32, 32), aspect_ratio=1.0)
    with pytest.raises(ConfigError, match="more than 0"):
        pipe("a", aspect_ratio=-1.0)


def test_a_model_of_one_size_has_no_aspect_ratio(pipe: InfinityPipeline) -> None:
    with pytest.raises(ConfigError, match="one size"):
        pipe("a", aspect_ratio=1.0)
    assert pipe("a", image_size=(32, 32), seed=0).images[0].size == (32, 32)


# ---- saving, loading, errors -------------------------------------------------------------------


def test_saving_and_loading(pipe: InfinityPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "plain")
    again = InfinityPipeline.from_pretrained(tmp_path / "plain", text_encoder=encode)
    assert again("a bus", seed=1).tokens == pipe("a bus", seed=1).tokens
    assert load_pipeline(tmp_path / "plain").text_encoder is None
    named = InfinityPipeline(pipe.generator, pipe.tokenizer, Path("some/encoder"))
    named.save_pretrained(tmp_path / "named")
    record = json.loads((tmp_path / "named" / "pipeline.json").read_text())
    assert record == {"format": 1, "pipeline": "infinity", "text_encoder": "some/encoder"}
    loaded = tessella.load_pipeline(tmp_path / "named")
    assert isinstance(loaded, tessella.InfinityPipeline)
    assert loaded.text_encoder == "some/encoder"
    with pytest.raises(CheckpointError, match="VARPipeline expects 'var'"):
        VARPipeline.from_pretrained(tmp_path / "named")


def test_presets_have_random_weights_that_are_always_the_same() -> None:
    pipes = [load_pipeline("infinity-tiny") for _ in range(2)]
    tokens = [pipe(pipe.random_conditions(1), seed=0).tokens for pipe in pipes]
    assert tokens[0] == tokens[1]


def test_a_converted_pipeline_writes_the_pictures_of_the_original(tmp_path: Path) -> None:
    config = load_config(RECORDING)
    state = load_parts(RECORDING, "state*.safetensors")
    for part in ("gpt", "vae"):
        tensors = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(part)}
        save_file(tensors, tmp_path / f"{part}.safetensors")
    convert_file("infinity_bsq", tmp_path / "vae.safetensors", tmp_path / "vae", config=config)
    files = (tmp_path / "gpt.safetensors", tmp_path / "vae", tmp_path / "whole")
    convert_pipeline("infinity", *files, config=config)
    pipe = InfinityPipeline.from_pretrained(tmp_path / "whole")
    assert pipe.text_encoder == "google/flan-t5-xl"
    pipe.set_progress_bar_config(disable=True)
    run = config["runs"]["greedy"]
    features = load_parts(RECORDING, "io_train.safetensors")["input.text_features"]
    output = pipe(
        list(features.split(config["text_lens"])),
        guidance_scale=run["cfg"],
        guidance_layers=tuple(run["cfg_insertion_layer"]),
        greedy=True,
    )
    # theirs are BGR, for the library that writes their files
    recorded = load_parts(RECORDING, "io_gen_greedy.safetensors")["image_uint8_bgr"].flip(-1)
    ours = np.stack([np.asarray(image) for image in output.images])
    assert np.abs(ours.astype(int) - recorded.numpy()).max() <= 1
    assert np.abs(ours.astype(int) - recorded.flip(-1).numpy()).max() > 10


def test_errors(pipe: InfinityPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = InfinityPipeline(pipe.generator, pipe.tokenizer)
    with pytest.raises(ConfigError, match="no text encoder"):
        bare("a bus")
    with pytest.raises(ShapeError, match="at least one"):
        pipe([])
    with pytest.raises(ShapeError, match="features"):
        pipe([3])
    with pytest.raises(ShapeError, match="expected texts, or features"):
        pipe(["a", torch.zeros(2, 8)])
    with pytest.raises(ShapeError, match="use the text encoder"):
        pipe([torch.zeros(2, 9)])
    with pytest.raises(ShapeError, match="2 generators given for 1"):
        pipe("a", generator=[torch.Generator(), torch.Generator()])
    with pytest.raises(ShapeError, match="tokenizer"):
        InfinityPipeline(pipe.generator, VARPipeline.from_preset("var-tiny").tokenizer)
    monkeypatch.setattr("tessella.generation.text_encoder._PACKAGES", ("no_such_package",))
    bare.text_encoder = "some/encoder"
    with pytest.raises(MissingDependencyError, match=r"tessella\[prompts\]"):
        bare("a bus")


def test_the_text_encoder_is_made_when_it_is_needed_and_moves_along(
    pipe: InfinityPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tessella.generation.text_encoder._PACKAGES", ())
    monkeypatch.setattr(TextEncoder, "__call__", lambda self, texts: encode(texts))
    named = InfinityPipeline(pipe.generator, pipe.tokenizer, "some/encoder")
    assert named.encode_texts("a")[0].shape == (2, 8)
    made = named.text_encoder
    assert isinstance(made, TextEncoder)
    assert (made.source, made.longest, made.device.type) == ("some/encoder", 12, "cpu")
    named.to("cpu")
    assert named.text_encoder is made
    made.to("meta")
    assert made.device.type == "meta"
