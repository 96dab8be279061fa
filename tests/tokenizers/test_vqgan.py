"""What is special about VQGAN and its descendants: published sizes, and three ways to a code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tessella.errors import ConfigError
from tessella.tokenizers.quantizers import IBQ, VQ
from tessella.tokenizers.registry import all_presets
from tessella.tokenizers.vqgan import VQGAN, Assignment, VQGANConfig
from tessella.tokens import Tokens

TINY: VQGANConfig = all_presets()["vqgan-tiny"][1].config


def _model(assignment: Assignment = "nearest") -> VQGAN:
    torch.manual_seed(0)
    return VQGAN(replace(TINY, assignment=assignment)).eval()


def _images() -> torch.Tensor:
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("preset", "encoder", "decoder", "codebook", "bits"),
    [
        ("vqgan-f16-1024", 29.3, 42.4, (1024, 256), 2560),
        ("vqgan-f16-16384", 29.3, 42.4, (16384, 256), 3584),
        ("vqgan-f8-16384", 27.4, 40.3, (16384, 4), 14336),
        ("llamagen-vq-f16", 29.3, 42.4, (16384, 8), 3584),
        ("llamagen-vq-f8", 28.6, 41.4, (16384, 8), 14336),
        ("ibq-f16-1024", 46.8, 59.9, (1024, 256), 2560),
        ("ibq-f16-8192", 46.8, 59.9, (8192, 256), 3328),
        ("ibq-f16-16384", 46.8, 59.9, (16384, 256), 3584),
        ("ibq-f16-262144", 46.8, 59.9, (262144, 256), 4608),
    ],
)
def test_published_sizes(
    preset: str, encoder: float, decoder: float, codebook: tuple[int, int], bits: int
) -> None:
    with torch.device("meta"):
        model = VQGAN(all_presets()[preset][1].config)
    for part, millions in ((model.encoder, encoder), (model.decoder, decoder)):
        assert round(_millions(part), 1) == millions
    assert tuple(model.quantizer.state_dict()["codebook"].shape) == codebook
    grid = 256 // model.stride
    assert grid * grid * model.quantizer.bits_per_token == bits
    whole = {"llamagen-vq-f16": 71.9, "llamagen-vq-f8": 70.1}.get(preset)
    assert whole is None or round(_millions(model), 1) == whole


def _millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


@torch.inference_mode()
@pytest.mark.parametrize("assignment", ["nearest", "cosine", "aligned"])
def test_codes_are_chosen_as_the_family_says(assignment: Assignment) -> None:
    model = _model(assignment)
    torch.nn.init.normal_(model.quantizer.codebook)  # lengths differ, so the three rules do too
    images = _images()
    vectors = model.images_to_latents(images).double().numpy()
    table = model.quantizer.codebook.double().numpy()
    if assignment == "nearest":
        scores = -((vectors[..., None, :] - table) ** 2).sum(axis=-1)
    elif assignment == "cosine":
        unit = [a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (vectors, table)]
        scores = unit[0] @ unit[1].T
    else:
        scores = vectors @ table.T
    found = model.encode(images).levels[0][..., 0].numpy()
    np.testing.assert_array_equal(found, scores.argmax(axis=-1))


def test_only_cosine_codes_have_unit_length() -> None:
    for assignment, is_unit in (("nearest", False), ("cosine", True), ("aligned", False)):
        model = _model(assignment)
        codes = model.quantizer.indices_to_codes(torch.arange(32)[:, None])
        lengths = codes.norm(dim=-1)
        assert torch.allclose(lengths, torch.ones(32), atol=1e-6) == is_unit


def test_published_weights_of_the_quantization_terms() -> None:
    taming, unit, aligned = (_model(a).quantizer for a in ("nearest", "cosine", "aligned"))
    assert isinstance(taming, VQ)
    assert (taming.codebook_weight, taming.commitment_weight) == (0.25, 1.0)  # the legacy sides
    assert isinstance(unit, VQ)
    assert (unit.codebook_weight, unit.commitment_weight) == (1.0, 0.25)
    assert isinstance(aligned, IBQ)
    assert aligned.entropy is not None
    assert aligned.entropy.weight == 0.05


def test_a_step_reaches_every_code_of_an_aligned_codebook_alone() -> None:
    for assignment in ("nearest", "aligned"):
        model = _model(assignment).train()
        out = model(_images())
        loss = out.images.square().mean() + sum(out.losses.values())
        loss.backward()
        grad = model.quantizer.codebook.grad
        assert grad is not None
        reached = bool((grad != 0).any(dim=1).all())
        assert reached == (assignment == "aligned")


def test_fine_tuning_the_decoder_keeps_the_token_space() -> None:
    model = _model()
    tokens, before = model.encode(_images()), model.space_id
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.1)
    assert model.space_id == before
    assert isinstance(tokens, Tokens)
    assert model.decode(tokens).shape == (2, 3, 16, 24)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"multipliers": (2, 4)}, "expected the first to be 1"),
        ({"multipliers": ()}, "expected the first to be 1"),
        ({"attention_levels": (2,)}, "expected levels from 0 to 1"),
        ({"channels": 10}, "multiple of the groups"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)
