"""Agreement with recordings of VAR's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts

from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.layers.phi import phi_of_scale
from tessella.tokenizers.layers.resampling import Grid
from tessella.tokenizers.multiscale_vq import MultiScaleVQTokenizer
from tessella.tokens import Tokens

pytestmark = pytest.mark.parity
TOLERANCE = 2e-5


class Case(NamedTuple):
    model: MultiScaleVQTokenizer
    io: Recording
    config: dict[str, Any]
    grids: tuple[Grid, ...]
    indices: list[torch.Tensor]  # recorded, (B, h, w, 1)


@pytest.fixture(params=["a", "b_ten_scales"])
def case(request: pytest.FixtureRequest, parity_dir: Path) -> Case:
    folder = parity_dir / "var_vqvae" / request.param
    config = load_config(folder)
    model = convert("var_vqvae", load_parts(folder, "state*.safetensors"), config)
    assert isinstance(model, MultiScaleVQTokenizer)
    io = load_parts(folder, "io*.safetensors")
    grids = model.grids(*io["input.image"].shape[-2:])
    assert grids == tuple((side, side) for side in config["v_patch_nums"])
    return Case(model, io, config, grids, _maps(io, "out.idx", grids))


def _maps(io: Recording, name: str, grids: tuple[Grid, ...]) -> list[torch.Tensor]:
    return [io[f"{name}.{k}"].view(-1, h, w, 1) for k, (h, w) in enumerate(grids)]


def test_phis_of_scales(case: Case) -> None:
    scales = len(case.grids)
    count = case.config["share_quant_resi"] or scales
    assert [phi_of_scale(k, scales, count) for k in range(scales)] == case.config[
        "phi_index_per_scale"
    ]


@torch.inference_mode()
def test_features_indices_and_running_sums(case: Case) -> None:
    model, io, grids = case.model, case.io, case.grids
    assert_close(model.encoder(io["input.image"]), io["out.encoder"], TOLERANCE)
    features = model.images_to_features(io["input.image"])
    assert_close(features, io["out.f"], TOLERANCE)
    found = model.quantizer(features, grids)
    for k, (ours, theirs) in enumerate(zip(found.indices, case.indices, strict=True)):
        assert torch.equal(ours, theirs)
        assert_close(found.sums[k], io[f"out.fhat_cum.{k}"], TOLERANCE)
    total = model.levels_to_features(case.indices, grids)
    assert_close(total, io["out.embed_to_fhat_last"], TOLERANCE)


def test_pictures_of_all_and_of_the_first_scales(case: Case) -> None:
    model, io = case.model, case.io
    tokens = model.encode(io["input.image"])
    given = Tokens(case.indices, tokens.layout)
    assert tokens == given
    assert_close(model.decode(tokens), io["out.img_to_reconstructed_img"], TOLERANCE)
    assert_close(model.decode(given), io["out.fhat_to_img"], TOLERANCE)
    for k, theirs in enumerate(io["out.rec_per_scale"]):
        assert_close(model.decode(given.truncate(levels=k + 1)), theirs, TOLERANCE)


@torch.inference_mode()
def test_rectangular_maps(case: Case) -> None:
    model, io = case.model, case.io
    grids = tuple((h, w) for h, w in case.config["rect_patch_hw"])
    features = model.images_to_features(io["input.image_rect"])
    levels = model.features_to_levels(features, grids)
    for ours, theirs in zip(levels, _maps(io, "out.idx_rect", grids), strict=True):
        assert torch.equal(ours, theirs)
    images = model.features_to_images(model.levels_to_features(levels, grids))
    assert_close(images.clamp(-1, 1), io["out.rec_rect"], TOLERANCE)


@torch.inference_mode()
def test_what_a_generator_reads(case: Case) -> None:
    model, io, grids = case.model, case.io, case.grids
    assert_close(model.scale_inputs(case.indices, grids), io["out.var_input"], TOLERANCE)
    total = model.empty_total(len(case.indices[0]), grids)
    for k, level in enumerate(case.indices):
        total, inputs = model.next_scale(total, level, k, grids)
        if k < len(grids) - 1:
            assert_close(inputs.permute(0, 3, 1, 2), io[f"out.ar_next.{k}"], TOLERANCE)
    assert_close(total, io["out.ar_fhat"], TOLERANCE)


def test_training_loss_and_gradients(case: Case) -> None:
    quantizer, io = case.model.quantizer.train(), case.io
    features = io["out.f"].clone().requires_grad_()
    found = quantizer(features, case.grids)
    assert_close(found.z_q, io["train.f_out"], TOLERANCE)
    loss = torch.stack(list(found.losses.values())).sum()
    assert float(loss.detach()) == pytest.approx(float(io["train.vq_loss"]), rel=1e-5)
    ((found.z_q * io["train.loss_weighting"]).sum() + 7 * loss).backward()
    phi = "train.grad_quant_resi.qresi_ls."
    theirs = {"codebook": io["train.grad_codebook"]} | {
        f"phi.convolutions.{name.removeprefix(phi)}": grad
        for name, grad in io.items()
        if name.startswith(phi)
    }
    ours = {name: parameter.grad for name, parameter in quantizer.named_parameters()}
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=1e-4)
    torch.testing.assert_close(features.grad, io["train.grad_f"], atol=TOLERANCE, rtol=1e-4)


def test_usage_and_averages_of_hits(case: Case) -> None:
    quantizer, io = case.model.quantizer.train(), case.io
    averages = quantizer.averages
    shape = io["out.f"].shape
    usage = averages.usage(shape[0] * shape[2] * shape[3])
    assert_close(100 * usage, io["train.usages_percent"], 1e-4)
    averages.hits.zero_()
    quantizer(io["out.f"], case.grids)
    assert_close(averages.hits, io["train.ema_hits_after_1_call"], TOLERANCE)
    quantizer(io["input.ema_f_call2"], case.grids)
    assert_close(averages.hits, io["train.ema_hits_after_2_calls"], TOLERANCE)
