"""Agreement with recordings of VGT-AE; its vision tower is replaced by what it returned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts

from tessella.errors import ConfigError
from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.vgt_ae import VGTAE, merged_patches, normalised_channels

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4

Case = tuple[VGTAE, Recording, Any]


@pytest.fixture
def case(parity_dir: Path) -> Case:
    folder = parity_dir / "vgt_ae"
    config = load_config(folder)
    model = convert("vgt_ae", load_parts(folder, "state_dict*.safetensors"), config)
    assert isinstance(model, VGTAE)
    return model, load_parts(folder, "io*.safetensors"), config


def _patches(io: Recording) -> torch.Tensor:
    patches = io["vit_tokens_with_cls"][:, 1:]
    side = round(patches.shape[1] ** 0.5)
    return patches.unflatten(1, (side, side))


def test_sizes_are_read_from_the_tensors(case: Case) -> None:
    model, _, config = case
    ours, decoder = model.config, config["dc_ae_decoder"]
    assert ours.teacher.width == config["vit_dim"]
    assert ours.feature_width == config["llm_hidden"]
    assert ours.latent_channels == config["embed_dim"]
    assert list(ours.widths) == decoder["decoder_block_out_channels"]
    assert list(ours.decoder_blocks) == decoder["decoder_layers_per_block"]
    scales = decoder["decoder_qkv_multiscales"]
    assert [list(ours.kernel_sizes)] * len(scales[ours.attention_from :]) == scales[
        ours.attention_from :
    ]
    assert model.stride == config["stride"]


@torch.inference_mode()
def test_features_and_latents(case: Case) -> None:
    model, io, _ = case
    patches = _patches(io)
    assert_close(merged_patches(patches).flatten(1, 2), io["pixel_shuffled"], TOLERANCE)
    features = model.semantic_features(patches)
    assert_close(features.flatten(1, 2), io["semantic_features"], TOLERANCE)
    (values,) = model.encode_features(patches).levels
    assert_close(values.permute(0, 3, 1, 2), io["latent"], TOLERANCE)
    normed = normalised_channels(io["ln2d.in"].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert_close(normed, io["ln2d.out"], TOLERANCE)


@torch.inference_mode()
def test_pictures(case: Case) -> None:
    model, io, _ = case
    assert_close(model.decoder(io["latent"]), io["decoder_raw"], TOLERANCE)
    images = model.latents_to_images(io["latent"].permute(0, 2, 3, 1))
    assert_close(images, io["reconstruction"], TOLERANCE)
    tokens = model.encode_features(_patches(io))
    assert_close(model.decode(tokens), io["reconstruction"].clamp(-1, 1), TOLERANCE)


def test_pictures_without_a_vision_tower_are_refused(case: Case) -> None:
    model, io, _ = case
    with pytest.raises(ConfigError, match="without a vision tower"):
        model.encode(io["reconstruction"].clamp(-1, 1))
