"""Calibration: what calibrators see, and what files of it hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kv_tools import make_geometry, run, strong_generator
from torch import Tensor

from tessella.errors import ConfigError
from tessella.generation import Prompts
from tessella.generation.kv_cache import CacheGeometry, make_cache
from tessella.generation.kv_cache.calibrating import (
    CALIBRATORS,
    RecordingCache,
    calibrate,
    make_calibrator,
)
from tessella.generation.kv_cache.calibration import (
    Calibration,
    Calibrator,
    read_sections,
    save_calibrations,
)
from tessella.generation.kv_cache.hack_calibration import HeadCalibration
from tessella.generation.kv_cache.heat_kv_calibration import HeatCalibration
from tessella.generation.saved import random_pipeline

METHODS = sorted(CALIBRATORS)
SIDES = (1, 2, 3, 5)


class Listener(Calibrator):
    """Puts the pieces of every layer and scale together again."""

    def __init__(self) -> None:
        self.pieces: dict[tuple[int, int], list[Tensor]] = {}

    def add(self, layer: int, scale: int, probabilities: Tensor, geometry: CacheGeometry) -> None:
        self.pieces.setdefault((layer, scale), []).append(probabilities)

    def end_run(self) -> None:
        pass

    def finish(self) -> Calibration:
        return Calibration()


@pytest.mark.parametrize("is_guided", [False, True])
@pytest.mark.parametrize("at_once", [1, 500, 2**26])
def test_calibrators_see_attention_in_the_order_of_generation(
    is_guided: bool, at_once: int
) -> None:
    geometry = make_geometry(SIDES, rows=4, attention_scale=0.7, is_guided=is_guided)
    listener = Listener()
    pictures = 2 if is_guided else 4
    steps = 0
    for step in run(RecordingCache([listener], at_once=at_once), geometry):
        pieces = listener.pieces[step.layer, step.scale]
        seen = torch.cat(pieces, dim=2)
        expected = (step.queries @ step.keys.mT * 0.7).softmax(dim=-1)[:pictures]
        torch.testing.assert_close(seen, expected)
        assert all(piece.shape[2] == 1 or piece.numel() <= at_once for piece in pieces)
        steps += 1
    assert steps == geometry.layers * len(SIDES) == len(listener.pieces)


def _runs(at_once: int) -> tuple[dict[str, Any], list[Listener]]:
    """Two batches of two pictures: what calibrators found, and what they saw."""
    calibrators = {method: make_calibrator(method) for method in METHODS}
    listeners = []
    for seed in range(2):
        listeners.append(Listener())
        cache = RecordingCache([*calibrators.values(), listeners[-1]], at_once=at_once)
        for _ in run(cache, make_geometry(SIDES, attention_scale=2.0), seed):
            pass
        for calibrator in calibrators.values():
            calibrator.end_run()
    return {method: found.finish() for method, found in calibrators.items()}, listeners


def test_pieces_make_no_difference() -> None:
    whole, pieces = _runs(2**26)[0], _runs(300)[0]
    for method in METHODS:
        ours, theirs = (_numbers(found[method].to_dict()) for found in (pieces, whole))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for part in value for number in _numbers(part)]
    return [float(value)]


def test_what_is_found_follows_the_formulas() -> None:
    geometry = make_geometry(SIDES)
    found, listeners = _runs(400)
    bounds = (0, *geometry.ends)
    last = len(SIDES) - 1
    seen = [
        {key: torch.cat(pieces, dim=2).double().numpy() for key, pieces in heard.pieces.items()}
        for heard in listeners
    ]
    assert found["head"].pictures == found["heat"].pictures == 4
    for layer in range(geometry.layers):
        for head in range(geometry.heads):
            variance = np.mean(
                [maps[layer, last][p, head].var(axis=0).sum() for maps in seen for p in range(2)]
            )
            assert found["head"].variances[layer][head] == pytest.approx(variance, rel=1e-6)
            for source in range(last):
                looks = [
                    maps[layer, scale][p, head, :, bounds[source] : bounds[source + 1]]
                    .sum(axis=1)
                    .mean()
                    for maps in seen
                    for p in range(2)
                    for scale in range(source + 1, last + 1)
                ]
                score = sum(looks) / (4 * (last - source))
                assert found["heat"].scores[source][layer][head] == pytest.approx(score, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_measured_is_refused(method: str) -> None:
    with pytest.raises(ConfigError, match="no picture"):
        make_calibrator(method).finish()


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'heat'"):
        make_calibrator("heats")


def test_from_a_generator_to_a_calibrated_cache(tmp_path: Path) -> None:
    generator, tokenizer = strong_generator(0)
    path = tmp_path / "calibration.json"
    found = calibrate(
        generator, tokenizer, [[1], [2, 3]], [make_calibrator(method) for method in METHODS],
        guidance_scale=2.0, seed=5,
    )  # fmt: skip
    assert [part.pictures for part in found] == [3] * len(METHODS)  # type: ignore[attr-defined]
    save_calibrations(path, found)
    assert HeadCalibration.load(path) == found[METHODS.index("head")]
    assert HeatCalibration.load(path) == found[METHODS.index("heat")]
    for method in METHODS:
        cache = make_cache(f"{method}:0.5:{path}")
        tokens = generator.generate([1], tokenizer=tokenizer, kv_cache=cache)
        assert len(tokens.levels) == 4
        full = cache.geometry.full_bytes
        assert 0.3 * full < cache.use.peak_bytes <= 0.5 * full


def test_a_generator_of_texts_is_calibrated_too(tmp_path: Path, generator: torch.Generator) -> None:
    model, tokenizer = random_pipeline("infinity-tiny", 0)
    width = model.config.text_channels
    prompts = [
        Prompts([torch.randn(n, width, generator=generator) for n in (5, 3)]) for _ in range(2)
    ]
    found = calibrate(
        model, tokenizer, prompts, [make_calibrator(method) for method in METHODS],
        guidance_scale=3.0,
    )  # fmt: skip
    save_calibrations(tmp_path / "found.json", found)
    for method in METHODS:
        cache = make_cache(f"{method}:0.5:{tmp_path / 'found.json'}")
        model.generate(prompts[0], tokenizer=tokenizer, kv_cache=cache, guidance_scale=3.0)
        assert cache.use.peak_bytes <= 0.5 * cache.geometry.full_bytes


def test_calibrating_again_gives_the_same() -> None:
    generator, tokenizer = strong_generator(0)
    runs = [
        calibrate(generator, tokenizer, [[1], [4]], [make_calibrator("heat")], seed=seed)
        for seed in (3, 3, 4)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_a_calibration_of_its_own_file(tmp_path: Path) -> None:
    found = HeadCalibration(((0.1, 0.25), (1.0, 0.0)), 3)
    found.save(tmp_path / "head.json")
    assert HeadCalibration.load(tmp_path / "head.json") == found
    assert HeadCalibration.from_dict(found.to_dict()) == found
    assert list(read_sections(tmp_path / "head.json")) == ["head"]
    with pytest.raises(ConfigError, match=r"no calibration for 'heat' \(found: head\)"):
        HeatCalibration.load(tmp_path / "head.json")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{", "not JSON"),
        ("[]", "is no calibration"),
        ('{"format": "other"}', "is no calibration"),
        ('{"format": "tessella-kv-calibration", "version": 2}', "version 2"),
        ('{"pictures": NaN}', "NaN is no number"),
        ({"variances": [[1.0]], "pictures": 1, "extra": 0}, "extra: unknown key"),
        ({"variances": [[1.0]]}, "pictures is missing"),
        ({"variances": [["a"]], "pictures": 1}, r"head\.variances\.0\.0"),
        ({"variances": [[1.0], [1.0, 2.0]], "pictures": 1}, "as many heads"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: Any, hint: str) -> None:
    path = tmp_path / "damaged.json"
    if isinstance(text, dict):
        content = {"format": "tessella-kv-calibration", "version": 1, "head": text}
        text = json.dumps(content)
    path.write_text(text)
    with pytest.raises(ConfigError, match=hint) as error:
        HeadCalibration.load(path)
    assert str(path) in str(error.value)


def test_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        make_cache(f"head:0.5:{tmp_path / 'none.json'}")
