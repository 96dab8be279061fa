"""What is special about One-D-Piece: any first tokens decode, and training drops the others."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tessella.errors import ShapeError
from tessella.tokenizers.one_d_piece import OneDPiece
from tessella.tokenizers.registry import all_presets
from tessella.tokenizers.titok import TiTok, TiTokConfig
from tessella.training import load_config
from tessella.training.config_file import tokenizer_config


def _model() -> OneDPiece:
    torch.manual_seed(0)
    return OneDPiece(all_presets()["one-d-piece-tiny"][1].config)


def _pictures(batch: int, height: int = 32, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, height, width, generator=generator) * 2 - 1


@pytest.mark.parametrize(
    ("size", "encoder", "decoder", "whole", "keys"),
    [
        ("s", 25.88, 27.07, 83.87, 308),
        ("b", 86.05, 88.22, 205.26, 404),
        ("l", 303.64, 307.05, 641.74, 692),
    ],
)
def test_full_sizes(size: str, encoder: float, decoder: float, whole: float, keys: int) -> None:
    with torch.device("meta"):
        model = OneDPiece(all_presets()[f"one-d-piece-{size}-256"][1].config)

    def millions(module: torch.nn.Module | None) -> float:
        assert module is not None
        return sum(p.numel() for p in module.parameters()) / 1e6

    # published code keeps the latent tokens beside the encoder
    latents = model.encoder.latent_tokens.numel() / 1e6
    assert round(millions(model.encoder) - latents, 2) == encoder
    assert round(millions(model.decoder), 2) == decoder
    assert round(millions(model.pixel_decoder), 2) == 30.48
    assert round(model.pixel_codebook.numel() / 1e6, 3) == 0.262
    assert round(millions(model.quantizer), 3) == 0.049
    assert round(millions(model), 2) == whole
    assert len(model.state_dict()) == keys


@pytest.mark.parametrize(("length", "size"), [(1, 2), (8, 12), (96, 144), (256, 384)])
def test_bytes_of_published_lengths(length: int, size: int) -> None:
    with torch.device("meta"):
        quantizer = OneDPiece(all_presets()["one-d-piece-s-256"][1].config).quantizer
    assert -(-length * quantizer.bits_per_token // 8) == size


@torch.inference_mode()
def test_first_tokens_decode_alike_however_they_come() -> None:
    model = _model().eval()
    images = _pictures(2)
    whole = model.encode(images)
    codes = model.quantizer.indices_to_codes(whole.levels[0])  # type: ignore[operator]
    pictures = []
    for length in range(1, 9):
        tokens = model.encode(images, length=length)
        assert tokens == whole.truncate(length=length)
        assert tokens.bits == 5 * length
        pictures.append(model.decode(tokens))
        drawn = model.latents_to_images(codes[:, :length]).clamp(-1, 1)
        torch.testing.assert_close(pictures[-1], drawn, atol=1e-5, rtol=0)
    assert all(not torch.equal(a, b) for a, b in pairwise(pictures))
    assert torch.equal(pictures[-1], model.decode(whole))


@pytest.mark.parametrize("length", [0, 9, -1])
def test_lengths_out_of_range_are_refused(length: int) -> None:
    with pytest.raises(ShapeError, match="expected 1 to 8"):
        _model().encode(_pictures(1), length=length)


def test_tokens_that_are_not_there_do_not_count() -> None:
    model = _model().eval()
    codes = torch.randn(1, 8, 4)
    changed = codes.clone()
    changed[:, 3:] += 1
    with torch.inference_mode():
        first = model.latents_to_images(codes[:, :3])
        assert torch.equal(first, model.latents_to_images(changed[:, :3]))
        # every token that is there counts, wherever it stands: nothing is causal
        changed = codes.clone()
        changed[:, 2] += 1
        assert not torch.allclose(first, model.latents_to_images(changed[:, :3]), atol=1e-6)


def test_all_tokens_of_a_picture_depend_on_all_of_it() -> None:
    model = _model().eval()
    images = _pictures(1)
    with torch.inference_mode():
        latents = model.images_to_latents(images)
        images[..., -1, -1] *= -1
        moved = (model.images_to_latents(images) - latents).abs().amax(dim=-1)
    assert float(moved.min()) > 0


def test_training_draws_every_length_alike() -> None:
    model = _model().train()
    generator = torch.Generator().manual_seed(3)
    draws = 4000
    drawn = torch.tensor([model._kept_length(generator) for _ in range(draws)])
    counts = torch.bincount(drawn, minlength=9)
    assert int(counts[0]) == 0 and len(counts) == 9
    expected = draws / 8
    chi_squared = float(((counts[1:] - expected) ** 2 / expected).sum())
    assert chi_squared < 24.3  # 7 degrees of freedom: one run of a thousand is above


def test_training_follows_the_generator_and_evaluation_keeps_all() -> None:
    model = _model().train()
    images = _pictures(2)
    lengths = []
    for seed in range(6):
        outs = [model(images, generator=torch.Generator().manual_seed(seed)) for _ in range(2)]
        assert outs[0].tokens == outs[1].tokens
        assert torch.equal(outs[0].images, outs[1].images)
        lengths.append(outs[0].tokens.layout.levels[0].grid[0])
        whole = model.encode(images)
        assert outs[0].tokens == whole.truncate(length=lengths[-1])
    assert len(set(lengths)) > 2
    assert model.eval()(images).tokens.layout.levels[0].grid == (8,)


def test_losses_of_the_codes_are_over_all_tokens() -> None:
    model = _model().train()
    images = _pictures(2)
    outs = [model(images, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert len({out.tokens.layout.levels[0].grid for out in outs}) > 1
    assert all(torch.equal(out.losses["codebook"], outs[0].losses["codebook"]) for out in outs[1:])


def test_the_first_stage_of_training_is_a_few_overrides() -> None:
    first = ["model.config.proxy_parts=whole", "optimizer.lr_multipliers={}", "loss.lpips=0"]
    settings = load_config("one_d_piece_s_256", first)
    assert settings.optimizer.lr_multipliers == {}
    with torch.device("meta"):
        model = OneDPiece(tokenizer_config(settings))
    assert model.vqgan is not None and model.pixel_decoder is None
    assert not any(p.requires_grad for p in model.vqgan.parameters())


def test_weights_are_titoks() -> None:
    model = _model().eval()
    config = model.config
    fields = {name: getattr(config, name) for name in TiTokConfig.__dataclass_fields__}
    other = TiTok(TiTokConfig(**fields)).eval()
    other.load_state_dict(model.state_dict())
    images = _pictures(1)
    tokens, theirs = model.encode(images), other.encode(images)
    assert torch.equal(tokens.levels[0], theirs.levels[0])
    assert torch.equal(model.decode(tokens), other.decode(theirs))


def test_first_tokens_of_tiled_pictures_are_those_of_all_squares() -> None:
    model = OneDPiece(replace(_model().config, other_sizes="tile")).eval()
    images = _pictures(1, 64, 32)
    tokens = model.encode(images, length=2)
    assert tokens.layout.levels[0].grid == (4,)
    halves = [model.encode(half.contiguous(), length=2) for half in images.split(32, dim=2)]
    whole = model.decode(tokens)
    for half, rows in zip(halves, whole.split(32, dim=2), strict=True):
        torch.testing.assert_close(rows, model.decode(half), atol=1e-5, rtol=0)
    odd = model.encode(images).truncate(length=5)
    assert torch.equal(model.decode(odd), whole)
    with pytest.raises(ShapeError, match="one token a square"):
        model.decode(tokens.truncate(length=1))
