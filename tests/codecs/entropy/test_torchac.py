"""The arithmetic coder of torchac against its streams and published rates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tessella.codecs.entropy.torchac import torchac_decode, torchac_encode, torchac_starts
from tessella.errors import ShapeError

INDICES = 1536  # of a picture of 768 x 512 pixels at stride 16


def _uniform(size: int) -> NDArray[np.int64]:
    return torchac_starts(np.arange(size + 1, dtype=np.float32) / np.float32(size))


@pytest.mark.parity
def test_tables_and_streams_equal_the_recordings(parity_dir: Path) -> None:
    io = load_file(parity_dir / "torchac" / "a" / "tensors.safetensors")
    cases = [name.removesuffix(".stream") for name in io if name.endswith(".stream")]
    assert len(cases) >= 4
    for case in cases:
        symbols = io[f"{case}.symbols"].tolist()
        if f"{case}.cdf_float" in io:
            starts = torchac_starts(io[f"{case}.cdf_float"])
            np.testing.assert_array_equal(starts % (1 << 16), io[f"{case}.cdf_int"])
        else:
            starts = _uniform(int(case.split(".")[1]))
        tables = starts.tolist() if starts.ndim == 2 else [starts.tolist()] * len(symbols)
        stream = io[f"{case}.stream"].tobytes()
        assert torchac_encode(symbols, tables) == stream
        assert torchac_decode(stream, tables) == symbols


@pytest.mark.parity
def test_published_sizes_of_uniform_indices(parity_dir: Path) -> None:
    facts = json.loads((parity_dir / "torchac" / "a" / "fixture.json").read_text())["facts"]
    random = np.random.default_rng(0)
    for size in (8, 256, 1024, 4096):
        table = _uniform(size).tolist()
        symbols = random.integers(size, size=INDICES).tolist()
        stream = torchac_encode(symbols, [table] * INDICES)
        assert len(stream) == facts[f"uniform.{size}.bytes_for_1536"]


@given(st.lists(st.integers(0, 3), max_size=60))
def test_any_symbols_come_back(symbols: list[int]) -> None:
    tables = [[0, 1, 2, 65_000, 65_536]] * len(symbols)
    assert torchac_decode(torchac_encode(symbols, tables), tables) == symbols


@given(st.binary(max_size=20))
def test_any_bytes_give_symbols(stream: bytes) -> None:
    found = torchac_decode(stream, [[0, 1, 2, 65_000, 65_536]] * 50)
    assert len(found) == 50
    assert set(found) <= set(range(4))


@pytest.mark.parametrize("cdf", [[0.0], [], [0.0, float("nan")], [-0.5, 1.0], [0.0] * 40_000])
def test_what_is_no_cumulative_distribution_is_refused(cdf: list[float]) -> None:
    with pytest.raises(ShapeError, match="cumulative probabilities"):
        torchac_starts(cdf)
