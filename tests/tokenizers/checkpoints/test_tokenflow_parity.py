"""Agreement with recordings of TokenFlow; its teacher is replaced by the features it returned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts

from tessella.errors import ConfigError
from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.layers.semantic import normalised_pixels
from tessella.tokenizers.tokenflow import TokenFlow
from tessella.tokens import Tokens

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4

Case = tuple[TokenFlow, Recording, Any]


@pytest.fixture
def case(parity_dir: Path) -> Case:
    folder = parity_dir / "tokenflow"
    config = load_config(folder)
    model = convert("tokenflow", load_parts(folder, "*state_dict*.safetensors"), config)
    assert isinstance(model, TokenFlow)
    return model, load_parts(folder, "io*.safetensors"), config


def _levels(model: TokenFlow, io: Recording) -> tuple[torch.Tensor, ...]:
    grids = model.grids(*io["image"].shape[-2:])
    flat = torch.split(io["indices_all_scales"], [h * w for h, w in grids], dim=1)
    return tuple(level.view(-1, *grid, 1) for level, grid in zip(flat, grids, strict=True))


def _taught(model: TokenFlow, io: Recording) -> torch.Tensor:
    return io["teacher_features"].unflatten(1, model.grids(*io["image"].shape[-2:])[-1])


def test_sizes_are_read_from_the_tensors(case: Case) -> None:
    model, _, config = case
    ours = model.config
    assert list(ours.sides[0]) == config["scales"]
    assert (ours.codebook_size, ours.semantic_dim, ours.pixel_dim) == (
        config["codebook_size"],
        config["semantic_code_dim"],
        config["pixel_code_dim"],
    )
    assert (ours.channels, list(ours.multipliers)) == (config["pixel_ch"], config["ch_mult"])
    assert ours.semantic_depth == config["semantic_decoder"]["depth"]
    assert ours.feature_width == config["decoder_out_dim"]


@torch.inference_mode()
def test_latents_indices_and_residuals(case: Case) -> None:
    model, io, _ = case
    image, grids = io["image"], model.grids(*io["image"].shape[-2:])
    teacher = model.config.teacher
    assert_close(
        normalised_pixels(image, teacher.mean, teacher.std), io["teacher_input"], TOLERANCE
    )
    features = model._features(image, _taught(model, io))
    halves = torch.cat([io["semantic_map"], io["pixel_map"]], dim=1)
    assert_close(features, halves, TOLERANCE)
    found = model.quantizer(features, grids)
    for name, recorded in io.items():
        if name.startswith("residual_after_scale"):
            scale = int(name.removeprefix("residual_after_scale"))
            assert_close(features - found.sums[scale], recorded, TOLERANCE)
    assert_close(found.z_q, io["quantized_sum"], TOLERANCE)
    tokens = model.encode_features(image, _taught(model, io))
    assert torch.equal(tokens.flatten(), io["indices_all_scales"])


def test_decoding(case: Case) -> None:
    model, io, _ = case
    tokens = Tokens(_levels(model, io), model.layout(*io["image"].shape[-2:]))
    grids = model.grids(*io["image"].shape[-2:])
    with torch.inference_mode():
        total = model.levels_to_features(tokens.levels, grids)
        assert_close(total, io["quantized_sum"], TOLERANCE)
        assert_close(model.features_to_images(total), io["decoded_pixels"], TOLERANCE)
        part = model.levels_to_features(tokens.levels[:-1], grids)
        without_last = io["decoded_pixels_without_last_scale"]
        assert_close(model.features_to_images(part), without_last, TOLERANCE)
    assert_close(model.decode_features(tokens).flatten(1, 2), io["decoded_semantic"], TOLERANCE)
    assert_close(model.decode(tokens), io["decoded_pixels"].clamp(-1, 1), TOLERANCE)
    shorter = model.decode(tokens.truncate(levels=len(tokens.levels) - 1))
    assert_close(shorter, without_last.clamp(-1, 1), TOLERANCE)


def test_training_losses_of_one_scale(case: Case) -> None:
    model, io, _ = case
    model.train()
    z = io["train.z"].requires_grad_()
    found = model.quantizer(z, [(z.shape[2], z.shape[3])])
    assert torch.equal(found.indices[0].flatten(), io["train.indices"])
    assert_close(found.z_q.detach(), io["train.z_q"], TOLERANCE)
    for ours, theirs in (("codebook", "vq"), ("commitment", "commit"), ("entropy", "entropy")):
        assert_close(found.losses[ours].detach(), io[f"train.{theirs}_loss"], TOLERANCE)


def test_pictures_without_a_teacher_are_refused(case: Case) -> None:
    model, io, _ = case
    with pytest.raises(ConfigError, match="without a teacher"):
        model.encode(io["image"])
