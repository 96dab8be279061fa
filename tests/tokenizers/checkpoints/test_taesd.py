"""The TAESD project's files: the network of its description, and the recording of TAEF2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recordings import assert_close
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import CheckpointError
from tessella.tokenizers.autoencoder_tiny import AutoencoderTiny, AutoencoderTinyConfig
from tessella.tokenizers.checkpoints import convert, read_checkpoint

State = dict[str, Tensor]

# what each number of the sequence is: (c)onvolution, (s)trided one, (b)lock, (p)ooled block,
# (t)anh, (r)elu, (u)psampling
ENCODER = "cbsbbbsbbbspppc"
DECODER = "tcrpppucbbbucbbbucbc"


def _block(x: Tensor, state: State, i: int, *, pooled: bool) -> Tensor:
    if pooled:
        h = F.conv2d(x, state[f"{i}.pool.0.weight"])
        h = F.group_norm(h, 4, state[f"{i}.pool.1.weight"], state[f"{i}.pool.1.bias"])
        x = x + F.conv2d(F.relu(h), state[f"{i}.pool.3.weight"])
    h = x
    for j in (0, 2, 4):
        h = F.relu(h) if j else h
        h = F.conv2d(h, state[f"{i}.conv.{j}.weight"], state[f"{i}.conv.{j}.bias"], padding=1)
    return F.relu(h + x)


def _run(x: Tensor, state: State, plan: str) -> Tensor:
    """The description, layer by layer."""
    for i, kind in enumerate(plan):
        if kind in "cs":
            weight, bias = state[f"{i}.weight"], state.get(f"{i}.bias")
            x = F.conv2d(x, weight, bias, stride=2 if kind == "s" else 1, padding=1)
        elif kind in "bp":
            x = _block(x, state, i, pooled=kind == "p")
        elif kind == "t":
            x = 3 * torch.tanh(x / 3)
        elif kind == "r":
            x = F.relu(x)
        else:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
    return x


def _random(plan: str, first: int, last: int, seed: int, width: int = 8) -> State:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    state: State = {}
    convs = [i for i, kind in enumerate(plan) if kind in "cs"]
    for i, kind in enumerate(plan):
        if kind in "cs":
            given = first if i == convs[0] else width
            made = last if i == convs[-1] else width
            state[f"{i}.weight"] = normal(made, given, 3, 3)
            if i in (convs[0], convs[-1]):
                state[f"{i}.bias"] = normal(made)
        elif kind in "bp":
            for j in (0, 2, 4):
                state[f"{i}.conv.{j}.weight"] = normal(width, width, 3, 3)
                state[f"{i}.conv.{j}.bias"] = normal(width)
            if kind == "p":
                state[f"{i}.pool.0.weight"] = normal(4 * width, width, 1, 1)
                state[f"{i}.pool.1.weight"] = 1 + normal(4 * width)
                state[f"{i}.pool.1.bias"] = normal(4 * width)
                state[f"{i}.pool.3.weight"] = normal(width, 4 * width, 1, 1)
    return state


@pytest.fixture(params=[True, False], ids=["pooled", "plain"])
def pair(request: pytest.FixtureRequest) -> tuple[State, State, str, str]:
    encoder, decoder = ENCODER, DECODER
    if not request.param:
        encoder, decoder = encoder.replace("p", "b"), decoder.replace("p", "b")
    return _random(encoder, 3, 5, 0), _random(decoder, 5, 3, 1), encoder, decoder


@torch.inference_mode()
def test_a_folder_with_the_pair_gives_the_network_of_the_description(
    pair: tuple[State, State, str, str], tmp_path: Path, generator: torch.Generator
) -> None:
    encoder, decoder, encoder_plan, decoder_plan = pair
    for name, state in (("encoder", encoder), ("decoder", decoder), ("io", {"x": torch.ones(1)})):
        save_file(state, tmp_path / f"any_{name}.safetensors")
    model = convert("taesd", read_checkpoint(tmp_path))
    assert isinstance(model, AutoencoderTiny)
    assert model.config == AutoencoderTinyConfig(
        channels=8, latent_channels=5, has_pool="p" in encoder_plan
    )
    images = torch.rand(2, 3, 32, 48, generator=generator)
    latents = _run(images, encoder, encoder_plan)
    assert_close(model.images_to_latents(2 * images - 1).permute(0, 3, 1, 2), latents, 1e-5)
    found = model.latents_to_images(latents.permute(0, 2, 3, 1))
    assert_close((found + 1) / 2, _run(latents, decoder, decoder_plan), 1e-5)


def test_half_a_pair_is_refused(pair: tuple[State, State, str, str], tmp_path: Path) -> None:
    save_file(pair[0], tmp_path / "any_encoder.safetensors")
    with pytest.raises(CheckpointError, match="missing from the checkpoint"):
        convert("taesd", read_checkpoint(tmp_path))


@pytest.fixture
def taef2(parity_dir: Path) -> tuple[AutoencoderTiny, State]:
    for folder in (parity_dir / "taesd", parity_dir.parent / "data" / "taesd"):
        if (folder / "taef2_encoder.safetensors").is_file():
            model = convert("taesd", read_checkpoint(folder))
            assert isinstance(model, AutoencoderTiny)
            return model, load_file(folder / "taef2_io.safetensors")
    pytest.skip("no weights of TAEF2")


@pytest.mark.parity
@torch.inference_mode()
def test_taef2_is_as_recorded(taef2: tuple[AutoencoderTiny, State]) -> None:
    model, io = taef2
    latents = model.images_to_latents(2 * io["x"] - 1).permute(0, 3, 1, 2)
    assert_close(latents, io["z"], 1e-4)
    images = model.latents_to_images(io["z"].permute(0, 2, 3, 1))
    assert_close((images + 1) / 2, io["y"], 1e-4)
