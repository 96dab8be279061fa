"""Entropy priors: made from tokens, stored as integers, refused when they are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tessella.codecs.container_errors import UnknownModelError
from tessella.codecs.entropy.bit_training import BitTraining
from tessella.codecs.entropy.calibrate import Calibration, calibrate
from tessella.codecs.entropy.prior import Prior
from tessella.errors import CheckpointError, ShapeError
from tessella.tokens import LevelLayout, TokenLayout, Tokens


def tokens_of(levels: list[torch.Tensor], *sizes: tuple[int, ...]) -> Tokens:
    layouts = []
    for x, size in zip(levels, sizes, strict=True):
        grid = tuple(x.shape[1:-1])
        is_continuous = x.is_floating_point()
        layouts.append(LevelLayout(grid, size, x.shape[-1] if is_continuous else 0))
    return Tokens(levels, TokenLayout(tuple(layouts), (64, 64), "ab" * 32))


def test_histograms_are_counts_and_a_half() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [
        tokens_of([torch.randint(0, 5, (2, 6, 4, 2), generator=generator)], (5, 9))
        for _ in range(3)
    ]
    prior = calibrate(batches, Calibration(has_bit_model=False))
    for g, size in enumerate((5, 9)):
        values = torch.cat([batch.levels[0][..., g].flatten() for batch in batches]).tolist()
        expected = [2 * values.count(k) + 1 for k in range(size)]
        assert prior.histogram(0, g, size).tolist() == expected


def test_continuous_histograms_cover_nearly_all_values() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 100, 200, 3, generator=generator)
    values[0, 0, 0, 0] = 1000.0
    prior = calibrate([tokens_of([values], ())], Calibration(exponent=4))
    bits = prior.range_bits(0, 3)
    assert bits is not None
    steps = (values * 16).round()
    assert ((steps >= -(2**bits)) & (steps < 2**bits)).double().mean() >= 0.9999
    assert steps[steps < 1000].max() >= 2 ** (bits - 1)
    counts = prior.histogram(0, 0, (2 << bits) + 1)
    assert counts[-1] == 3  # the far one is escaped
    assert counts[2**bits] == 2 * int((steps[..., 0] == 0).sum()) + 1


def test_calibration_needs_tokens_of_one_kind() -> None:
    small = torch.zeros(1, 2, 2, 1, dtype=torch.int64)
    with pytest.raises(ShapeError, match="no tokens"):
        calibrate([])
    with pytest.raises(ShapeError, match="unlike"):
        calibrate([tokens_of([small], (4,)), tokens_of([small], (5,))])
    with pytest.raises(ShapeError, match="tables go up to"):
        calibrate([tokens_of([small], (2**21,))])


def test_context_models_are_for_bitwise_maps() -> None:
    generator = torch.Generator().manual_seed(0)
    quick = Calibration(hidden=2, training=BitTraining(steps=2, batch_size=8))
    for shape, sizes, expected in (
        ((1, 6, 6, 2), (4, 4), True),
        ((1, 6, 6, 1), (5,), False),
        ((1, 36, 1), (4,), False),
        ((1, 6, 6, 1), (2**13,), False),
    ):
        values = torch.randint(0, 4, shape, generator=generator)
        prior = calibrate([tokens_of([values], sizes)], quick)
        assert (prior.bit_model is not None) == expected


def test_identity_depends_on_every_integer() -> None:
    counts = np.array([3, 4, 5])
    identities = {
        Prior({(0, 0): counts}).identity,
        Prior({(0, 0): counts[::-1]}).identity,
        Prior({(0, 1): counts}).identity,
        Prior({(1, 0): counts}).identity,
        Prior({(0, 0): counts, (0, 1): counts}).identity,
    }
    assert len(identities) == 5
    assert Prior({(0, 0): counts.astype(np.int16)}).identity in identities


def test_bad_priors_are_refused(tmp_path: Path) -> None:
    for counts in ([0.5, 1.0], [[1, 2]], [1], [-1, 2], [2**31, 1]):
        with pytest.raises(CheckpointError, match="histogram"):
            Prior({(0, 0): np.array(counts)})
    path = tmp_path / "prior.safetensors"
    with pytest.raises(CheckpointError, match="not a readable prior"):
        Prior.load(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError, match="not a readable prior"):
        Prior.load(path)
    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="format None"):
        Prior.load(path)
    save_file({"a": np.zeros(1)}, path, {"prior": json.dumps({"format": 2})})
    with pytest.raises(CheckpointError, match="format 2"):
        Prior.load(path)
    spec = {"group_bits": [2], "earlier_radius": 1, "causal_radius": 1, "hidden": 2}
    config = {"format": 1, "bit_model": {**spec, "shifts": [3], "rates": [[1, 1]]}}
    save_file({"a": np.zeros(1)}, path, {"prior": json.dumps(config)})
    with pytest.raises(CheckpointError, match="incomplete context model"):
        Prior.load(path)


def test_stored_priors_hold_integers_only(tmp_path: Path) -> None:
    values = torch.randint(0, 4, (1, 6, 6, 2), generator=torch.Generator().manual_seed(0))
    quick = Calibration(hidden=2, training=BitTraining(steps=2, batch_size=8))
    prior = calibrate([tokens_of([values], (4, 4))], quick)
    prior.save(tmp_path / "prior.safetensors")
    arrays = load_file(tmp_path / "prior.safetensors")
    assert {array.dtype.kind for array in arrays.values()} <= set("iu")
    assert Prior.load(tmp_path / "prior.safetensors").identity == prior.identity


def test_missing_histograms_are_named() -> None:
    prior = Prior({(0, 0): np.array([1, 2])})
    with pytest.raises(UnknownModelError, match="no histogram for level 1"):
        prior.histogram(1, 0, 2)
    with pytest.raises(UnknownModelError, match="a histogram of 2 symbols"):
        prior.histogram(0, 0, 3)
    assert prior.range_bits(0, 1) is None
