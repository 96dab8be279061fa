"""Agreement with recordings of Infinity's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts

from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.layers.resampling import Grid, area
from tessella.tokenizers.multiscale_bsq import MultiScaleBSQTokenizer
from tessella.tokens import Tokens

pytestmark = pytest.mark.parity
TOLERANCE = 2e-5


class Case(NamedTuple):
    model: MultiScaleBSQTokenizer
    io: Recording
    grids: tuple[Grid, ...]
    bits: list[torch.Tensor]  # recorded on the feature map's grids, (B, h, w, D)


@pytest.fixture(params=["a", "b_patchify"])
def case(request: pytest.FixtureRequest, parity_dir: Path) -> Case:
    folder = parity_dir / "infinity_bsq" / request.param
    config = load_config(folder)
    model = convert("infinity_bsq", load_parts(folder, "state*.safetensors"), config)
    assert isinstance(model, MultiScaleBSQTokenizer)
    io = load_parts(folder, "io*.safetensors")
    grids = model.grids(*io["input.image"].shape[-2:])
    assert [[1, *grid] for grid in grids] == config["scale_schedule"]
    assert [[1, *grid] for grid in model.fine(grids)] == config["vae_scale_schedule"]
    bits = [io[f"out.bits.{k}"].squeeze(1).long() for k in range(len(grids))]
    return Case(model, io, grids, bits)


@torch.inference_mode()
def test_features_bits_and_sums(case: Case) -> None:
    model, io, grids = case.model, case.io, case.grids
    features = model.images_to_features(io["input.image"])
    assert_close(features, io["out.features"], TOLERANCE)
    found = model.quantizer(features, model.fine(grids))
    for ours, theirs in zip(found.indices, case.bits, strict=True):
        assert torch.equal(ours, theirs)
    assert_close(found.z_q, io["out.quantized"], TOLERANCE)
    for k, grid in enumerate(model.fine(grids)[1:]):
        theirs = io[f"out.var_inputs_area.{k}"].squeeze(2)
        assert_close(area(found.sums[k], grid), theirs, TOLERANCE)


def test_pictures(case: Case) -> None:
    model, io = case.model, case.io
    tokens = model.encode(io["input.image"])
    levels = [model.merged(bits) for bits in case.bits]
    given = Tokens(levels, tokens.layout)
    assert tokens == given
    total = model.levels_to_features(levels, case.grids)
    assert_close(total, io["out.summed_codes"].squeeze(2), TOLERANCE)
    assert_close(model.decode(given), io["out.rec"], TOLERANCE)
    assert_close(model.decode(tokens), io["out.rec_direct"], TOLERANCE)


def _labels(io: Recording, kind: str, scales: int) -> list[torch.Tensor]:
    return [io[f"bsc.{kind}.bits.{k}"].long() for k in range(scales)]


@torch.inference_mode()
def test_what_a_generator_reads(case: Case) -> None:
    model, io, grids = case.model, case.io, case.grids
    levels = model.encode(io["input.image"]).levels
    labels = _labels(io, "clean", len(grids))
    for ours, theirs in zip(levels, labels, strict=True):
        assert torch.equal(ours.flatten(1, 2), theirs)
    inputs = io["bsc.clean.x_BLC_wo_prefix"]
    assert_close(model.scale_inputs(levels, grids), inputs, TOLERANCE)
    total, read = model.empty_total(len(levels[0]), grids), []
    for k, level in enumerate(levels):
        total, following = model.next_scale(total, level, k, grids)
        read.append(following.flatten(1, 2))
    assert_close(torch.cat(read[:-1], dim=1), inputs, TOLERANCE)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["clean", "noisy"])
def test_self_correction(case: Case, kind: str) -> None:
    model, io, grids = case.model, case.io, case.grids
    flips = []
    if kind == "noisy":
        count = len(io["bsc.noisy.strength"])
        flips = [io[f"bsc.noisy.flip_mask.{k}"].squeeze(1).bool() for k in range(count)]
    made = model.self_correction(io["out.features"], flips, grids)
    for ours, theirs in zip(made.levels, _labels(io, kind, len(grids)), strict=True):
        assert torch.equal(ours.flatten(1, 2), theirs)
    assert_close(made.inputs, io[f"bsc.{kind}.x_BLC_wo_prefix"], TOLERANCE)


def test_vectors_alone(case: Case) -> None:
    quantizer, io = case.model.quantizer, case.io
    codes = quantizer.indices_to_codes(io["bsq.bit_labels"].squeeze(1).long())
    assert_close(codes.permute(0, 3, 1, 2), io["bsq.codes_from_bits"].squeeze(2), TOLERANCE)
    bsq = quantizer.bsq.train()
    found = bsq(io["bsq.in"])
    assert_close(found.z_q, io["bsq.out"], TOLERANCE)
    assert torch.equal(found.indices, io["bsq.bits"].long())
    token, codebook = float(io["bsq.per_sample_entropy"]), float(io["bsq.codebook_entropy"])
    assert float(found.stats["token_entropy"]) == pytest.approx(token, rel=1e-5)
    assert float(found.stats["codebook_entropy"]) == pytest.approx(codebook, rel=1e-5)
