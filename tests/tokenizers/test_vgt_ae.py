"""What is special about VGT-AE: merged patches, normalised and noisy latents, InternViT's names."""

from __future__ import annotations

import re

import pytest
import torch

from tessella.errors import ShapeError
from tessella.tokenizers.checkpoints.vgt_ae import vgt_ae
from tessella.tokenizers.registry import all_presets
from tessella.tokenizers.vgt_ae import VGTAE, VGTAEConfig, merged_patches


def _tiny() -> VGTAE:
    torch.manual_seed(0)
    return VGTAE(all_presets()["vgt-ae-tiny"][1].config)


def test_full_size_and_the_grid_of_448_pixels() -> None:
    with torch.device("meta"):
        model = VGTAE(VGTAEConfig())
        latents = model.images_to_latents(torch.zeros(1, 3, 448, 448))
        assert latents.shape == (1, 16, 16, 32)
        assert model.latents_to_images(latents).shape == (1, 3, 448, 448)
    assert model.teacher is not None
    tower = sum(p.numel() for p in model.teacher.parameters())
    assert 303e6 < tower < 305e6


def test_patches_merge_in_the_order_of_two_axis_swaps() -> None:
    x = torch.randn(2, 4, 6, 3)
    batch, width, height, channels = x.shape
    y = x.reshape(batch, width, height // 2, 2 * channels).transpose(1, 2)
    y = y.reshape(batch, height // 2, width // 2, 4 * channels).transpose(1, 2)
    assert torch.equal(merged_patches(x), y)


def test_latents_have_no_mean_and_unit_variance() -> None:
    (values,) = _tiny().encode(torch.rand(1, 3, 32, 32) * 2 - 1).levels
    assert float(values.mean(dim=-1).abs().max()) < 1e-5
    assert float((values.var(dim=-1, unbiased=False) - 1).abs().max()) < 1e-2


def test_noise_follows_the_generator_and_training_only() -> None:
    model, images = _tiny(), torch.rand(2, 3, 32, 32) * 2 - 1

    def run(seed: int) -> torch.Tensor:
        return model(images, generator=torch.Generator().manual_seed(seed)).images

    model.train()
    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    model.eval()
    assert torch.equal(run(0), run(1))


def test_features_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match="expected"):
        _tiny().encode_features(torch.zeros(1, 3, 4, 24))


def test_towers_under_the_names_of_internvit_fit() -> None:
    with torch.device("meta"):
        model = VGTAE(VGTAEConfig())
    state = model.state_dict()
    theirs = {}
    for name, tensor in state.items():
        name = name.replace("teacher.model.cls_token", "encoder.embeddings.class_embedding")
        name = name.replace("teacher.model.pos_embed", "encoder.embeddings.position_embedding")
        name = name.replace("teacher.model.patch_embed.proj", "encoder.embeddings.patch_embedding")
        name = name.replace("teacher.model.blocks.", "encoder.encoder.layers.")
        theirs[re.sub(r"\.(ls[12])\.gamma$", r".\1", name)] = tensor
    config, named = vgt_ae(theirs, {})
    assert config == VGTAEConfig()
    assert {k: v.shape for k, v in named.items()} == {k: v.shape for k, v in state.items()}
