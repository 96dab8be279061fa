"""Agreement with recordings of MingTok."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts

from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.mingtok import MingTok

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4

Case = tuple[MingTok, Recording, Any]


@pytest.fixture
def case(parity_dir: Path) -> Case:
    folder = parity_dir / "mingtok"
    config = load_config(folder)
    model = convert("mingtok", load_parts(folder, "state_dict*.safetensors"), config)
    assert isinstance(model, MingTok)
    return model, load_parts(folder, "io*.safetensors"), config["config"]


def test_sizes_are_read_from_the_tensors(case: Case) -> None:
    model, _, config = case
    encoder, semantic = config["low_level_encoder"], config["semantic_decoder"]
    pixel, ours = config["pixel_decoder"], model.config
    assert (ours.image_size, ours.patch) == (encoder["img_size"], encoder["patch_size"])
    assert (ours.encoder_depth, ours.encoder_width) == (encoder["depth"], encoder["embed_dim"])
    assert ours.latent_channels == encoder["out_dim"] == semantic["in_dim"]
    assert ours.semantic_width == semantic["embed_dim"]
    assert ours.semantic_depth == semantic["decoder_depth"]
    assert (ours.pixel_width, ours.pixel_depth) == (pixel["embed_dim"], pixel["decoder_depth"])
    assert ours.pixel_patch == pixel["patch_size"]


@torch.inference_mode()
def test_latents(case: Case) -> None:
    model, io, _ = case
    encoder = model.low_level_encoder
    assert_close(encoder.embed(io["image"]), io["encoder_input_tokens"], TOLERANCE)
    assert_close(encoder(io["image"]), io["latent_raw_with_cls_last"], TOLERANCE)
    values = torch.cat([level.flatten(1, -2) for level in model.encode(io["image"]).levels], dim=1)
    assert_close(values, io["latent_normalised"], TOLERANCE)
    assert_close(encoder(io["image_larger"]), io["latent_larger"], TOLERANCE)


def test_semantic_features_whole_and_step_by_step(case: Case) -> None:
    model, io, _ = case
    tokens = model.encode(io["image"])
    features = model.decode_features(tokens)
    assert_close(features, io["semantic_all_tokens_norm"], TOLERANCE)
    patches = model.decode_features(tokens.truncate(levels=1))
    assert_close(patches, io["semantic_tokens"], TOLERANCE)
    steps = io["cached_steps"].shape[1]
    pieces = io["latent_normalised"][:, :steps].split(1, dim=1)
    assert_close(
        torch.cat(list(model.semantic_steps(pieces)), dim=1), io["cached_steps"], TOLERANCE
    )


def test_pictures(case: Case) -> None:
    model, io, _ = case
    with torch.inference_mode():
        widened = model.pixel_decoder.widen(io["semantic_tokens"])
    assert_close(widened, io["sem_to_pix"], TOLERANCE)
    tokens = model.encode(io["image"])
    assert_close(model.decode(tokens), io["reconstruction"], TOLERANCE)
    assert torch.equal(model.decode(tokens), model.decode(tokens.truncate(levels=1)))
