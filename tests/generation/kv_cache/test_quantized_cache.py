"""Kept keys and values in 8 bits."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from kv_tools import finish, make_geometry, run

from tessella.errors import ConfigError
from tessella.generation.kv_cache import make_cache
from tessella.generation.kv_cache.quantized import QuantizedStorage

Form = Literal["int8", "fp8"]
FORMS: list[Form] = ["int8", "fp8"]
LENGTHS = (5, 0, 9, 1)


def _kept(generator: torch.Generator, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    kept = torch.randn(2, sum(LENGTHS), 6, generator=generator)
    kept[..., 3] *= 50  # channels differ in range
    kept[:, :5, 2] = 0
    return kept.to(dtype)


def _heads(kept: torch.Tensor) -> list[np.ndarray]:
    return [part.double().numpy() for part in kept.split(list(LENGTHS), dim=1) if part.numel()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_int8_is_within_half_a_step_of_each_channel(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    kept = _kept(generator, dtype)
    storage = QuantizedStorage("int8")
    storage.put(kept, LENGTHS)
    got = storage.get()
    assert got.dtype == dtype
    rounding = torch.finfo(dtype).eps
    for before, after in zip(_heads(kept), _heads(got), strict=True):
        largest = np.abs(before).max(axis=1, keepdims=True)
        expected = np.round(before / np.where(largest > 0, largest, 1) * 127) * largest / 127
        np.testing.assert_allclose(after, expected, atol=1e-6, rtol=rounding)
        assert (np.abs(after - before) <= largest * (0.5 / 127 + rounding)).all()


def test_fp8_is_within_its_relative_precision(generator: torch.Generator) -> None:
    kept = _kept(generator)
    storage = QuantizedStorage("fp8")
    storage.put(kept, LENGTHS)
    for before, after in zip(_heads(kept), _heads(storage.get()), strict=True):
        largest = np.abs(before).max(axis=1, keepdims=True)
        limit = np.maximum(np.abs(before) / 16, largest * 2**-10 / 448)  # 3 bits and an implied one
        assert (np.abs(after - before) <= limit * 1.001).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_coding_again_changes_nothing(
    form: Form, dtype: torch.dtype, generator: torch.Generator
) -> None:
    storage = QuantizedStorage(form)
    storage.put(_kept(generator, dtype), LENGTHS)
    once = storage.get()
    storage.put(once, LENGTHS)
    assert torch.equal(storage.get(), once)


@pytest.mark.parametrize("form", FORMS)
def test_bytes_are_a_code_a_number_and_a_range_a_channel(
    form: Form, generator: torch.Generator
) -> None:
    storage = QuantizedStorage(form)
    storage.put(_kept(generator), LENGTHS)
    assert storage.nbytes() == 2 * sum(LENGTHS) * 6 + 4 * 2 * len(LENGTHS) * 6


@pytest.mark.parametrize("form", FORMS)
def test_full_cache_in_eight_bits_shows_nearly_what_was_written(form: Form) -> None:
    geometry = make_geometry()
    cache = make_cache(f"full+{form}")
    for step in run(cache, geometry):
        new = geometry.sizes[step.scale]
        order = list(range(step.keys.shape[2]))
        if step.scale == len(geometry.sizes) - 1:
            order = order[-new:] + order[:-new]
        for shown, written in ((step.seen.keys, step.keys), (step.seen.values, step.values)):
            largest = written.abs().amax(dim=2, keepdim=True)
            # codes are made anew up to once a scale, whenever a range grows
            limit = largest * (0.02 if form == "int8" else 0.11)
            assert bool(((shown - written[:, :, order]).abs() <= limit).all())
    channels = geometry.layers * geometry.rows * geometry.heads * geometry.head_dim
    assert cache.use.peak_bytes == 2 * channels * (geometry.stored + 4)


def test_what_is_new_is_seen_exactly() -> None:
    geometry = make_geometry()
    for step in run(make_cache("scale:0.5+int8"), geometry):
        new = geometry.sizes[step.scale]
        is_last = step.scale == len(geometry.sizes) - 1
        shown = step.seen.keys[:, :, :new] if is_last else step.seen.keys[:, :, -new:]
        assert torch.equal(shown, step.keys[:, :, -new:])


def test_unknown_forms_are_refused() -> None:
    with pytest.raises(ConfigError, match="int4"):
        QuantizedStorage("int4")  # type: ignore[arg-type]


def test_ten_percent_in_eight_bits_of_a_float32_cache() -> None:
    geometry = make_geometry((1, 2, 3, 4, 5, 6, 8, 10, 13, 16), layers=12, heads=1)
    use = finish(make_cache("scale:0.1+int8"), geometry).use
    assert use.peak_bytes < 0.032 * geometry.full_bytes
