"""Agreement with a recording of McQuic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from recordings import Recording, assert_close, load_parts
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import CheckpointError
from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.mcquic import McQuic, McQuicLevel
from tessella.tokenizers.quantizers.code_frequencies import without_dead_codes
from tessella.tokens import Tokens

pytestmark = pytest.mark.parity
TOLERANCE = 2e-5
DEAD = 1e-6  # the recorded threshold, absolute


class Case(NamedTuple):
    model: McQuic
    io: Recording
    state: Recording
    levels: list[McQuicLevel]  # the finest first, as recorded
    codes: list[Tensor]  # recorded, channel-last

    @property
    def padded(self) -> Tensor:
        """The picture as the original pads it: to multiples of 128, half on each side."""
        height, width = self.io["x"].shape[-2:]
        below, right = -height % 128, -width % 128
        sides = (right // 2, right - right // 2, below // 2, below - below // 2)
        return F.pad(self.io["x"], sides, mode="reflect")


@pytest.fixture
def case(parity_dir: Path) -> Case:
    folder = parity_dir / "mcquic" / "tiny_m2"
    state = load_parts(folder, "state_dict.safetensors")
    model = convert("mcquic", {"model": state, "config": {}, "version": "0.1.40"})
    assert isinstance(model, McQuic)
    io = load_parts(folder, "tensors.safetensors")
    codes = [io[f"level{i}.code"].permute(0, 2, 3, 1) for i in range(model.depth)]
    return Case(model, io, state, model.stages(), codes)


def test_sizes_are_read_from_the_tensors(case: Case) -> None:
    config = case.model.config
    assert (config.channels, config.groups, config.codebook_sizes) == (8, 2, (48, 24, 12))


@torch.inference_mode()
def test_latents_and_codes_of_every_level(case: Case) -> None:
    model, io = case.model, case.io
    assert_close(model.encoder(case.padded), io["y"], TOLERANCE)
    for i, step in enumerate(model.descend(case.padded)):
        assert_close(step.reduced, io[f"level{i}.z"], TOLERANCE)
        assert_close(step.vectors, io[f"level{i}.q_head"], TOLERANCE)
        assert torch.equal(step.found.indices, case.codes[i])
        if step.rest is not None:
            assert_close(step.rest, io[f"level{i}.residual"], TOLERANCE)
        else:
            assert f"level{i}.residual" not in io


@torch.inference_mode()
def test_restored_latents_and_the_picture(case: Case) -> None:
    model, io = case.model, case.io
    restored = None
    for i in reversed(range(model.depth)):
        codes = case.levels[i].quantizer.indices_to_codes(case.codes[i])
        restored = case.levels[i].restored(codes, restored)
        assert_close(restored, io[f"level{i}.restored"], TOLERANCE)
    tokens = model.encode(case.padded)
    assert tokens == Tokens(reversed(case.codes), model.layout(*case.padded.shape[-2:]))
    images = model.decode(tokens)
    height, width = io["x"].shape[-2:]
    top = (images.shape[-2] - height) // 2
    left = (images.shape[-1] - width) // 2
    cropped = images[..., top : top + height, left : left + width]
    if "x_hat" in io:
        assert_close(cropped, io["x_hat"].clamp(-1, 1), TOLERANCE)
    pixels = ((cropped[0] + 1) / 2 * 255.999).clamp(0, 255).to(torch.uint8)
    assert torch.equal(pixels, io["x_hat_uint8"])


def test_a_sample_of_training_and_its_gradients(case: Case) -> None:
    io, quantizer = case.io, case.levels[0].quantizer
    vectors = io["level0.q_head"].clone().requires_grad_()
    rows = vectors.permute(0, 2, 3, 1).reshape(-1, quantizer.dim)
    drawn = []
    for g, part in enumerate(rows.chunk(quantizer.groups, dim=-1)):
        uniforms = io["gumbel.uniform"][0, g].flatten(0, 1)
        drawn.append(quantizer.draw(g, part, _rows_of(uniforms)))
        assert torch.equal(drawn[g][1], io["gumbel.index"][0, g].flatten())
    quantized = torch.cat([codes for codes, _ in drawn], dim=-1)
    assert_close(quantized, _as_rows(io["gumbel.quantized"]), TOLERANCE)
    (quantized * _as_rows(io["gumbel.grad_out"])).sum().backward()
    close = {"atol": TOLERANCE, "rtol": 1e-4}
    torch.testing.assert_close(vectors.grad, io["gumbel.grad_q"], **close)
    torch.testing.assert_close(quantizer.codebook.grad, io["gumbel.grad_codebook"], **close)
    theirs = io["gumbel.grad_temperature"].flatten()
    torch.testing.assert_close(quantizer.temperature.grad, theirs, **close)


def _rows_of(uniforms: Tensor) -> Callable[[int, int], Tensor]:
    return lambda start, stop: uniforms[start:stop]


def _as_rows(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def test_averages_of_code_frequencies(case: Case) -> None:
    for i, level in enumerate(case.levels):
        level.quantizer.count(case.codes[i])
        assert_close(level.quantizer.frequencies, case.io[f"ema.after.{i}"], 1e-7)


def test_dead_codes_become_copies_of_others(case: Case) -> None:
    io = case.io
    orders = iter([io["reassign.perm.0"], io["reassign.perm.1"]])
    before, after = io["reassign.codebook_before"], io["reassign.codebook_after"]
    for table, frequencies, theirs in zip(before, io["reassign.freq"], after, strict=True):
        ours = without_dead_codes(table, frequencies, DEAD, lambda n: _checked(next(orders), n))
        assert torch.equal(ours, theirs)
    moved = (before != after).any(dim=-1).flatten()
    assert torch.equal(moved, io["reassign.changed"].bool())


def _checked(order: Tensor, count: int) -> Tensor:
    assert len(order) == count
    return order


def test_codebooks_that_differ_are_refused(case: Case) -> None:
    name = "_quantizer._decoders.1._dequantizer._codebook"
    with pytest.raises(CheckpointError, match="another codebook of level 1"):
        convert("mcquic", case.state | {name: case.state[name] + 1})
