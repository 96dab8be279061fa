"""What every registered tokenizer must do, at its tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tessella
import tessella.tokenizers
from tessella.errors import CheckpointError, ShapeError
from tessella.tokenizers import Tokenizer, families
from tessella.tokenizers.registry import Family

assert tessella.tokenizers  # importing it fills the registry


def _tiny(family: Family) -> Tokenizer:
    config = next(p.config for p in family.presets if p.name.endswith("tiny"))
    torch.manual_seed(0)
    model = family.model_class(config)
    model.initialize(_images(8, 32, 32))
    return model


def _images(batch: int, height: int, width: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, height // 4 + 2, width // 4 + 2, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(-1, 1)


@pytest.fixture(params=list(families().values()), ids=lambda f: f.name)
def model(request: pytest.FixtureRequest) -> Tokenizer:
    return _tiny(request.param)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (33, 47)])
def test_layout_agrees_with_encode_and_sizes_come_back(
    model: Tokenizer, size: tuple[int, int]
) -> None:
    images = torch.zeros(2, 3, *size)
    tokens = model.encode(images)
    assert tokens.layout == model.layout(*size)
    tokens.check_range()
    back = model.decode(tokens)
    assert back.shape == images.shape
    assert float(back.abs().max()) <= 1


def test_encode_and_decode_are_deterministic_and_leave_the_mode(model: Tokenizer) -> None:
    images = _images(2, 32, 40)
    model.train()
    first, second = model.encode(images), model.encode(images)
    assert first == second
    assert torch.equal(model.decode(first), model.decode(second))
    assert model.training


def test_deterministic_encoding_does_not_depend_on_the_batch(model: Tokenizer) -> None:
    images = _images(3, 32, 32)
    whole = model.encode(images, deterministic=True)
    assert all(model.encode(images[i : i + 1], deterministic=True) == whole[i] for i in range(3))


def test_truncated_tokens_decode_or_are_refused(model: Tokenizer) -> None:
    tokens = model.encode(_images(1, 32, 32))
    first = tokens.layout.levels[0]
    axes = {
        "levels": len(tokens.layout.levels),
        "groups": first.groups if first.ordered == "groups" else 1,
        "length": first.grid[0] if first.ordered == "length" else 1,
    }
    for axis, most in axes.items():
        for count in range(1, most):
            assert model.decode(tokens.truncate(**{axis: count})).shape == (1, 3, 32, 32)
    for axis in ("groups", "length"):
        if first.ordered != axis:
            with pytest.raises(ShapeError):
                tokens.truncate(**{axis: 1})


def test_pictures_of_different_sizes_are_encoded_together(model: Tokenizer) -> None:
    pictures = [_images(1, 16, 24, 1), _images(1, 40, 17, 2), _images(1, 16, 24, 3)]
    together = model.encode(pictures)
    assert [tokens.layout.image_size for tokens in together] == [(16, 24), (40, 17), (16, 24)]
    alone = [model.encode(picture) for picture in pictures]
    assert [tokens.layout for tokens in together] == [tokens.layout for tokens in alone]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_finite_pictures(model: Tokenizer, dtype: torch.dtype) -> None:
    model.to(dtype)
    tokens = model.encode(_images(1, 24, 32))
    assert tokens.layout == model.layout(24, 32)
    tokens.check_range()
    assert bool(torch.isfinite(model.decode(tokens)).all())


def test_tokens_come_back_from_a_file(model: Tokenizer, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    tokens = model.encode(_images(1, 24, 32))
    tessella.write(tmp_path / "a.tsl", tokens, model=tmp_path / "model")
    back = tessella.read(tmp_path / "a.tsl", model=tmp_path / "model")
    assert back.layout == tokens.layout
    for ours, theirs, level in zip(back.levels, tokens.levels, back.layout.levels, strict=True):
        if level.is_continuous:
            scale = float(theirs.abs().max())
            assert float((ours - theirs).abs().max()) <= max(0.05 * scale, 2**-8)
        else:
            assert torch.equal(ours, theirs)
    assert model.decode(back).shape == (1, 3, 24, 32)


def test_saved_models_come_back(model: Tokenizer, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    images = _images(1, 32, 32)
    assert again.encode(images) == model.encode(images)
    assert again.space_id == model.space_id
    assert again.config == model.config


def test_foreign_or_damaged_weights_are_refused(model: Tokenizer, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a whole safetensors"):
        type(model).from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        type(model).from_pretrained(tmp_path)


def test_tokens_of_another_space_are_refused(model: Tokenizer) -> None:
    other = _tiny(families()[model.family])
    with torch.no_grad():
        for tensor in other.space_tensors().values():
            tensor.add_(1)
    with pytest.raises(ShapeError, match="token space"):
        model.decode(other.encode(_images(1, 16, 16)))


def test_gradients_reach_every_parameter(model: Tokenizer) -> None:
    model.train()
    # leave the identity start, at which some gradients are zero by construction
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    seen: set[str] = set()
    for seed in range(12):
        model.zero_grad(set_to_none=False)
        images = _images(6, 32, 32, seed)
        out = model(images, generator=torch.Generator().manual_seed(seed))
        loss = (out.images - images).square().mean()
        for term in out.losses.values():
            loss = loss + term
        loss.backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and bool((parameter.grad != 0).any()):
                seen.add(name)
    assert {name for name, _ in model.named_parameters()} == seen


def test_a_few_steps_lower_the_loss(model: Tokenizer) -> None:
    model.train()
    images = _images(4, 32, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        out = model(images, generator=torch.Generator().manual_seed(0))
        loss = (out.images - images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    "images",
    [torch.zeros(3, 8, 8), torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.int64)],
)
def test_other_tensors_are_refused(model: Tokenizer, images: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"expected floats \(B, 3, H, W\)"):
        model.encode(images)
