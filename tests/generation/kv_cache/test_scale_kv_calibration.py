"""How ScaleKV's drafters are found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from kv_tools import make_geometry, strong_generator

from tessella.errors import ConfigError
from tessella.generation.kv_cache import make_cache
from tessella.generation.kv_cache.calibrating import calibrate, make_calibrator
from tessella.generation.kv_cache.evicting import EvictingCache
from tessella.generation.kv_cache.scale_kv import ScaleKV
from tessella.generation.kv_cache.scale_kv_calibration import (
    ScaleKVCalibration,
    ScaleKVCalibrator,
    load_calibration,
)

GEOMETRY = make_geometry((1, 2, 3, 4))


def _maps(seed: int) -> dict[tuple[int, int], torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return {
        (layer, scale): (torch.randn(2, 2, new, end, generator=noise) * (1 + layer)).softmax(-1)
        for layer in range(GEOMETRY.layers)
        for scale, (new, end) in enumerate(zip(GEOMETRY.sizes, GEOMETRY.ends, strict=True))
    }


def _calibrated(pieces: int, runs: int = 2) -> ScaleKVCalibration:
    calibrator = ScaleKVCalibrator(top=3, first_scale=1, drafters=4)
    for seed in range(runs):
        for (layer, scale), probabilities in _maps(seed).items():
            for piece in probabilities.split(pieces, dim=2):
                calibrator.add(layer, scale, piece, GEOMETRY)
        calibrator.end_run()
    return calibrator.finish()


def test_selectivity_and_drafters_are_those_of_plain_loops() -> None:
    found = _calibrated(pieces=100)
    assert found.pictures == 4
    expected = np.zeros((3, 4))
    for seed in range(2):
        for (layer, scale), probabilities in _maps(seed).items():
            new = GEOMETRY.sizes[scale]
            for row in probabilities.double().numpy():
                own = [q[-new:].sum() for head in row for q in head]
                past = [sum(sorted(q[:-new])[-3:]) for head in row for q in head]
                expected[layer, scale] += np.mean(own) * np.mean(past) / 4
    np.testing.assert_allclose(np.array(found.selectivity), expected, atol=1e-7)
    z = (expected - expected.mean(axis=0)) / (expected.std(axis=0) + 1e-8)
    pairs = sorted((z[layer, scale], layer, scale) for layer in range(3) for scale in (1, 2, 3))
    assert found.drafters == tuple((layer, scale) for _, layer, scale in pairs[:4])


def test_queries_may_come_in_pieces() -> None:
    whole, pieces = _calibrated(pieces=100), _calibrated(pieces=3)
    assert pieces.drafters == whole.drafters
    np.testing.assert_allclose(pieces.selectivity, whole.selectivity, atol=1e-12)


def test_calibration_of_a_generator_serves_its_cache(tmp_path: Path) -> None:
    generator, tokenizer = strong_generator(0)
    [found] = calibrate(generator, tokenizer, [[1, 2], [3]], [make_calibrator("scale")])
    assert isinstance(found, ScaleKVCalibration)
    assert (found.layers, found.scales, found.pictures) == (4, 4, 3)
    path = tmp_path / "calibration.json"
    found.save(path)
    assert ScaleKVCalibration.load(path) == found
    cache = make_cache(f"scale:0.5:{path}")
    assert isinstance(cache, EvictingCache)
    assert isinstance(cache.policy, ScaleKV)
    assert cache.policy.calibration == found
    generator.generate([1], tokenizer=tokenizer, kv_cache=cache)
    assert 0 < cache.use.peak_bytes <= 0.5 * cache.geometry.full_bytes


def test_published_models_can_be_named() -> None:
    assert load_calibration("infinity-8b").layers == 40
    found = ScaleKVCalibration(2, 2, ())
    assert load_calibration(found) is found
    with pytest.raises(ConfigError, match="did you mean 'infinity-2b'"):
        load_calibration("infinity-2")


@pytest.mark.parametrize(
    "change",
    [
        {"drafters": [[3, 0]]},
        {"drafters": [[0, -1]]},
        {"drafters": [[0]]},
        {"layers": "3"},
        {"selectivity": [[0.0]]},
        {"more": 1},
    ],
)
def test_damaged_files_are_refused(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    ScaleKVCalibration(3, 2, ((0, 1),)).save(path)
    content = json.loads(path.read_text())
    content["scale"] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError):
        ScaleKVCalibration.load(path)


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match="no picture"):
        ScaleKVCalibrator().finish()
    with pytest.raises(ConfigError, match="top=0"):
        ScaleKVCalibrator(top=0)
