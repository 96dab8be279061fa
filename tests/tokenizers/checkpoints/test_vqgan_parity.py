"""Agreement with recordings of taming-transformers' and LlamaGen's tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts

from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.vqgan import VQGAN
from tessella.tokens import Tokens

pytestmark = pytest.mark.parity
TOLERANCE = 2e-5

CASES = {"taming_vqgan": "vqgan", "llamagen_vq": "llamagen_vq"}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest, parity_dir: Path) -> tuple[VQGAN, Recording, Any]:
    folder = parity_dir / request.param
    config = load_config(folder)
    state = load_parts(folder, "encoder*.safetensors", "decoder*.safetensors", "quant*.safetensors")
    model = convert(CASES[request.param], state)
    assert isinstance(model, VQGAN)
    return model, load_parts(folder, "io*.safetensors"), config


def test_sizes_are_read_from_the_tensors(case: tuple[VQGAN, Recording, Any]) -> None:
    model, _, config = case
    sizes = config.get("ddconfig", config)
    assert model.config.channels == sizes["ch"]
    assert list(model.config.multipliers) == sizes["ch_mult"]
    assert model.config.blocks == sizes["num_res_blocks"]
    assert model.config.latent_channels == sizes["z_channels"]


@torch.inference_mode()
def test_latents_indices_and_pictures(case: tuple[VQGAN, Recording, Any]) -> None:
    model, io, _ = case
    latents = model.images_to_latents(io["input"])
    assert_close(latents.permute(0, 3, 1, 2), io["pre_quant"], TOLERANCE)
    tokens = model.encode(io["input"])
    assert torch.equal(tokens.levels[0][..., 0], io["indices"])
    codes = model.quantizer.indices_to_codes(io["indices"].unsqueeze(-1))
    assert_close(codes.permute(0, 3, 1, 2), io["codes"], TOLERANCE)
    images = model.latents_to_images(codes)
    assert_close(images, io["recon_from_indices"], TOLERANCE)
    given = Tokens((io["indices"].unsqueeze(-1),), tokens.layout)
    assert_close(model.decode(given), io["recon_from_indices"].clamp(-1, 1), TOLERANCE)


def test_training_loss_is_the_legacy_one(case: tuple[VQGAN, Recording, Any]) -> None:
    model, io, _ = case
    if "vq_loss_legacy" not in io:
        pytest.skip("recorded without losses")
    model.train()
    found = model.quantizer(model.images_to_latents(io["input"]))
    assert float(found.loss.detach()) == pytest.approx(float(io["vq_loss_legacy"]), rel=1e-5)
