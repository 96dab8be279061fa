"""Agreement with a recording of MaskGIT's VQGAN in its PyTorch port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts

from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.layers.maskgit_network import MaskGITBlock
from tessella.tokenizers.maskgit_vqgan import MaskGITVQGAN
from tessella.tokens import Tokens

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4

Case = tuple[MaskGITVQGAN, Recording, Any]


@pytest.fixture(scope="module")
def case(parity_dir: Path) -> Case:
    folder = parity_dir / "maskgit_vqgan"
    config = load_config(folder)
    model = convert("maskgit_vqgan", load_parts(folder, "*state_dict.safetensors"))
    assert isinstance(model, MaskGITVQGAN)
    return model, load_parts(folder, "io.safetensors"), config


def test_sizes_are_read_from_the_tensors(case: Case) -> None:
    model, _, config = case
    sizes, ours = config["arch"], model.config
    assert ours.channels == sizes["hidden_channels"]
    assert list(ours.multipliers) == sizes["channel_mult"]
    assert ours.blocks == sizes["num_res_blocks"]
    assert ours.latent_channels == sizes["z_channels"]
    assert ours.codebook_size == config["num_embeddings"]


@torch.inference_mode()
def test_encoder_and_indices(case: Case) -> None:
    model, io, _ = case
    assert_close(model.encoder.conv_in(io["image"]), io["enc.conv_in"], TOLERANCE)
    latents = model.images_to_latents(io["image"] * 2 - 1)
    assert_close(latents.permute(0, 3, 1, 2), io["enc.out"], TOLERANCE)
    found = model.quantizer(latents)
    assert torch.equal(found.indices.flatten(1), io["quant.indices"])
    assert_close(found.z_q.permute(0, 3, 1, 2), io["quant.z_q"], TOLERANCE)
    soft = model.code_probabilities(latents).flatten(1, 2)
    assert_close(soft, io["quant.soft_code_temp1"], TOLERANCE)


@torch.inference_mode()
def test_decoder(case: Case) -> None:
    model, io, _ = case
    images = io["image"] * 2 - 1
    layout = model.layout(*images.shape[-2:])
    grid = layout.levels[0].grid
    indices = io["quant.indices"].unflatten(1, grid).unsqueeze(-1)
    codes = model.quantizer.indices_to_codes(indices)
    assert_close(codes.permute(0, 3, 1, 2), io["codebook_entry"], TOLERANCE)
    drawn = model.latents_to_images(codes)
    assert_close((drawn + 1) / 2, io["dec.out"], TOLERANCE)
    assert model.encode(images) == Tokens((indices,), layout)
    decoded = model.decode(model.encode(images))
    assert_close((decoded + 1) / 2, io["dec.out_clamped"], TOLERANCE)


def test_training_loss(case: Case) -> None:
    model, io, _ = case
    quantizer = model.quantizer.train()
    loss = quantizer(io["enc.out"].permute(0, 2, 3, 1)).loss
    quantizer.eval()
    assert_close(loss, io["quant.loss"], TOLERANCE)


@torch.inference_mode()
def test_a_block_that_changes_its_width(case: Case) -> None:
    _, io, _ = case
    state = {k.removeprefix("res.sd."): v for k, v in io.items() if k.startswith("res.sd.")}
    outputs, inputs = state["conv1.weight"].shape[:2]
    block = MaskGITBlock(inputs, outputs)
    block.load_state_dict(state)
    assert_close(block(io["res.in"]), io["res.out"], TOLERANCE)


@torch.inference_mode()
def test_even_padding_is_that_of_the_original_convolution(case: Case) -> None:
    _, io, _ = case
    weight = io["same.weight"]
    stride = -(-io["same.in"].shape[-1] // io["same.out"].shape[-1])
    ours = torch.nn.functional.conv2d(
        io["same.in"], weight, io["same.bias"], stride=stride, padding=weight.shape[-1] // 2
    )
    assert_close(ours, io["same.out"], TOLERANCE)
