"""Agreement with recordings of WeTok's and Open-MAGVIT2's tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts
from torch import Tensor, nn

from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.wetok import WeTok
from tessella.tokens import Tokens

pytestmark = pytest.mark.parity
TOLERANCE = 2e-5


class Case(NamedTuple):
    model: WeTok
    io: Recording
    config: dict[str, Any]


def _load(folder: Path, *patterns: str) -> tuple[Recording, dict[str, Any]]:
    config = load_config(folder)
    if not list(folder.glob("encoder*.safetensors")):
        pytest.skip(f"{folder.name} is recorded without weights here")
    return load_parts(folder, "encoder*.safetensors", "decoder*.safetensors", *patterns), config


@pytest.fixture(
    params=[(kind, weights) for kind in ("plain", "generative") for weights in ("raw", "ema")],
    ids="-".join,
)
def case(request: pytest.FixtureRequest, parity_dir: Path) -> Case:
    kind, weights = request.param
    folder = parity_dir / "wetok" / kind
    averages = ("ema_*.safetensors",) if weights == "ema" else ()
    state, config = _load(folder, *averages)
    # what else such a file holds
    state |= {"model_ema.decay": torch.tensor(0.999), "loss.discriminator.x": torch.ones(1)}
    model = convert("wetok", {"state_dict": state}, config)
    assert isinstance(model, WeTok)
    recorded = load_parts(folder, "io*.safetensors")
    prefix = f"{weights}."
    own = {k.removeprefix(prefix): v for k, v in recorded.items() if k.startswith(prefix)}
    return Case(model, {"input": recorded["input"], **own}, config)


def _given(model: WeTok, indices: Tensor, images: Tensor) -> Tokens:
    return Tokens((indices,), model.layout(*images.shape[-2:]))


def test_sizes_are_those_of_the_recording(case: Case) -> None:
    sizes, ours = case.config["ddconfig"], case.model.config
    assert ours.channels == sizes["ch"]
    assert list(ours.multipliers) == sizes["ch_mult"]
    assert ours.blocks == sizes["num_res_blocks"]
    assert (ours.groups, ours.group_bits) == (case.config["groups"], case.config["dim_per_group"])
    assert ours.is_generative == case.config["generative_decoder"]
    if "n_params" in case.config:
        for name, number in case.config["n_params"].items():
            assert sum(p.numel() for p in getattr(case.model, name).parameters()) == number


@torch.inference_mode()
def test_latents_indices_and_codes(case: Case) -> None:
    model, io, _ = case
    latents = model.images_to_latents(io["input"])
    assert_close(latents.permute(0, 3, 1, 2), io["latent"], TOLERANCE)
    tokens = model.encode(io["input"])
    assert torch.equal(tokens.levels[0], io["indices"])
    codes = model.quantizer.indices_to_codes(io["indices"]).permute(0, 3, 1, 2)
    assert torch.equal(codes, io["codes"])
    if "quant" in io:
        assert_close(codes, io["quant"], TOLERANCE)


@torch.inference_mode()
def test_pictures(case: Case) -> None:
    model, io, _ = case
    codes = model.quantizer.indices_to_codes(io["indices"])
    noise = io.get("noise")
    assert_close(model.latents_to_images(codes, noise), io["recon"], TOLERANCE)
    tokens = _given(model, io["indices"], io["input"])
    expected = io["recon"].clamp(-1, 1)
    if noise is None:
        assert_close(model.decode(tokens), expected, TOLERANCE)
        return
    assert_close(model.decode(tokens, noise=noise), expected, TOLERANCE)
    silent = io["recon_zero_noise"]
    assert_close(model.latents_to_images(codes), silent, TOLERANCE)
    assert_close(model.decode(tokens), silent.clamp(-1, 1), TOLERANCE)


@torch.inference_mode()
def test_activations(case: Case) -> None:
    model, io, _ = case
    top = len(model.config.multipliers) - 1
    modules: dict[str, nn.Module] = {
        "enc.down.0.downsample": model.encoder.levels[0].down,
        "enc.mid": model.encoder.middle[-1],
        "dec.conv_in": model.decoder.conv_in,
        f"dec.adaptive.{top}": model.decoder.levels[0].norm,
        f"dec.up.{top}.upsample": model.decoder.levels[0].up,
    }
    if not modules.keys() <= io.keys():
        pytest.skip("recorded without activations")
    seen: dict[str, Tensor] = {}
    for name, module in modules.items():
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.clone()}))
    model.images_to_latents(io["input"])
    model.latents_to_images(model.quantizer.indices_to_codes(io["indices"]), io.get("noise"))
    for name in modules:
        assert_close(seen[name], io[name], TOLERANCE)


@torch.inference_mode()
def test_the_tokenizer_of_a_generator_keeps_its_raw_weights(parity_dir: Path) -> None:
    folder = parity_dir / "wetok" / "generative"
    state, config = _load(folder)
    averages = load_parts(folder, "ema_*.safetensors")
    inner = {f"first_stage_model.{name}": tensor for name, tensor in state.items()}
    model = convert("wetok", inner | averages | {"transformer.norm.weight": torch.ones(1)}, config)
    io = load_parts(folder, "io*.safetensors")
    tokens = _given(model, io["raw.indices"], io["input"])  # type: ignore[arg-type]
    assert_close(model.decode(tokens), io["raw.recon_zero_noise"].clamp(-1, 1), TOLERANCE)


@pytest.fixture
def magvit(parity_dir: Path) -> Case:
    folder = parity_dir / "open_magvit2"
    state, config = _load(folder)
    averages = [file.name for file in folder.glob("ema_*.safetensors")]
    state |= load_parts(folder, *averages)
    model = convert("open_magvit2", state)
    assert isinstance(model, WeTok)
    return Case(model, load_parts(folder, "io*.safetensors"), config)


@torch.inference_mode()
def test_open_magvit2(magvit: Case) -> None:
    model, io, config = magvit
    assert model.config.group_bits == config["dim"]
    assert list(model.config.multipliers) == config["ddconfig"]["ch_mult"]
    latents = model.images_to_latents(io["input"])
    assert_close(latents.permute(0, 3, 1, 2), io["latent"], TOLERANCE)
    indices = io["indices"].unsqueeze(-1)
    assert torch.equal(model.encode(io["input"]).levels[0], indices)
    codes = model.quantizer.indices_to_codes(indices)
    assert torch.equal(codes.permute(0, 3, 1, 2), io["codes"])
    parts = model.quantizer.factorize(indices, config["factorized_bits"])
    assert torch.equal(parts[0], io["indices_pre"])
    assert torch.equal(parts[1], io["indices_post"])
    assert torch.equal(model.quantizer.unfactorize(parts, config["factorized_bits"]), indices)
    assert_close(model.latents_to_images(codes), io["recon"], TOLERANCE)
    decoded = model.decode(_given(model, indices, io["input"]))
    assert_close(decoded, io["recon"].clamp(-1, 1), TOLERANCE)
