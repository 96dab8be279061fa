"""What is special about McQuic: missing levels, its normalization, its entropy model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tessella.codecs.entropy.code_frequencies import (
    prior_of_frequencies,
    write_prior_of_frequencies,
)
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.errors import ConfigError
from tessella.tokenizers.layers.gated_residual import ReflectedConv2d
from tessella.tokenizers.layers.gdn import GDN
from tessella.tokenizers.mcquic import McQuic, McQuicConfig
from tessella.tokenizers.registry import all_presets

TINY: McQuicConfig = all_presets()["mcquic-tiny"][1].config


def _model(**changes: object) -> McQuic:
    torch.manual_seed(0)
    return McQuic(replace(TINY, **changes)).eval()


def _images(height: int = 64, width: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, height, width, generator=generator) * 2 - 1


@pytest.mark.parametrize(
    ("preset", "parameters", "rate"),
    # published: 50.58 M and 112.8 M with 10 752 frequencies a codebook, which are buffers here
    [
        ("mcquic-m2", 50_580_242 - 2 * 10_752, 0.1274),
        ("mcquic-m12", 112_806_576 - 12 * 10_752, 0.7646),
    ],
)
def test_published_sizes_and_rates(preset: str, parameters: int, rate: float) -> None:
    with torch.device("meta"):
        model = McQuic(all_presets()[preset][1].config)
    assert sum(p.numel() for p in model.parameters()) == parameters
    bits = 0.0
    for i, size in enumerate(model.config.codebook_sizes):
        bits += model.config.groups * np.log2(size) / (16 * 2**i) ** 2
    assert bits == pytest.approx(rate, abs=1e-4)


def test_bits_of_a_picture_are_those_of_its_levels() -> None:
    model = _model(codebook_sizes=(64, 32, 16))
    layout = model.layout(512, 768)
    assert [level.grid for level in layout.levels] == [(8, 12), (16, 24), (32, 48)]
    assert [level.vocab_sizes for level in layout.levels] == [(16,) * 2, (32,) * 2, (64,) * 2]
    assert layout.bits == 2 * (4 * 96 + 5 * 384 + 6 * 1536)


def test_missing_fine_levels_are_replaced_by_mean_codes() -> None:
    model = _model(codebook_sizes=(12, 8, 6))
    tokens = model.encode(_images(128, 64))
    finest, middle, coarsest = model.stages()
    finest.quantizer.count(torch.zeros(9, 2, dtype=torch.int64))
    with torch.inference_mode():
        codes = [
            finest.quantizer.mean_code().expand(2, 8, 4, 8),
            middle.quantizer.indices_to_codes(tokens.levels[1]),
            coarsest.quantizer.indices_to_codes(tokens.levels[0]),
        ]
        expected = model.codes_to_images(codes).clamp(-1, 1)
    assert torch.equal(model.decode(tokens.truncate(levels=2)), expected)


def test_a_model_in_half_precision_has_the_same_token_space() -> None:
    model = _model()
    whole = model.space_id
    assert model.bfloat16().space_id == whole
    assert model.dtype == torch.bfloat16


def test_a_picture_of_one_coarse_cell_is_no_special_case() -> None:
    model = _model()
    images = _images(32, 32)
    tokens = model.encode(images)
    assert [level.positions for level in tokens.layout.levels] == [1, 4]
    assert model.decode(tokens).shape == images.shape


def test_maps_are_reflected_and_single_rows_repeated(generator: torch.Generator) -> None:
    conv = ReflectedConv2d(2, 3)
    x = torch.randn(1, 2, 4, 5, generator=generator)
    padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect"))
    torch.testing.assert_close(conv(x), F.conv2d(padded, conv.weight, conv.bias))
    row = torch.from_numpy(np.pad(x[..., :1, :].numpy(), ((0, 0), (0, 0), (1, 1), (0, 0)), "edge"))
    row = torch.from_numpy(np.pad(row.numpy(), ((0, 0), (0, 0), (0, 0), (1, 1)), "reflect"))
    torch.testing.assert_close(conv(x[..., :1, :]), F.conv2d(row, conv.weight, conv.bias))


def test_normalization_divides_by_energy_and_its_inverse_multiplies() -> None:
    x = torch.tensor([3.0, -2.0, 0.5]).view(1, 3, 1, 1)
    root = (1 + 0.1 * x.square()).sqrt()  # at its start: beta 1, gamma 0.1 on the diagonal
    torch.testing.assert_close(GDN(3)(x), x / root)
    torch.testing.assert_close(GDN(3, is_inverse=True)(x), x * root)


def test_frequencies_of_training_make_the_entropy_model(tmp_path: Path) -> None:
    model = _model(codebook_sizes=(64, 32))
    images = _images(96, 96)
    tokens = model.encode(images)
    for level, indices in zip(model.stages(), reversed(tokens.levels), strict=True):
        level.quantizer.frequencies.zero_()
        level.quantizer.count(indices)
    model.save_pretrained(tmp_path)
    write_prior_of_frequencies(model, tmp_path)
    codec = TokenizerCodec.from_model(tmp_path)
    raw = TokenizerCodec(model)
    data = codec.pack(tokens[0])
    assert codec.unpack(data).tokens == tokens[0]
    assert len(data) < len(raw.pack(tokens[0]))


def test_codes_that_never_came_keep_a_place() -> None:
    counts = prior_of_frequencies([torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.25, 0.25]])])
    assert counts.histogram(0, 0, 3).tolist() == [2**24, 256, 256]
    assert counts.histogram(0, 1, 3).tolist() == [2**23, 2**22, 2**22]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook_sizes": ()}, "one size a level"),
        ({"groups": 3}, "multiple of groups"),
        ({"frequency_decay": 1.0}, "0 to below 1"),
        ({"renew_every": -1}, "0 .never. or more"),
    ],
)
def test_wrong_sizes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)
