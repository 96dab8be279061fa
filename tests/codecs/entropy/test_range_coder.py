"""rc64 against recorded streams and against an independent coder's code length."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from pathlib import Path

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tessella.codecs.entropy.range_coder import RangeDecoder, RangeEncoder, certain_prefix
from tessella.codecs.entropy.tables import (
    FrequencyTable,
    rule_q,
    softmax_weights,
    table_from_frequencies,
    table_from_weights,
    uniform_table,
)
from tessella.errors import TokenFileError

Recording = tuple[list[dict], dict[str, NDArray]]


def recordings(parity_dir: Path) -> list[Recording]:
    folders = sorted(path.parent for path in (parity_dir / "token_rc64").glob("*/fixture.json"))
    assert folders, f"no recordings under {parity_dir / 'token_rc64'}"
    return [
        (
            json.loads((folder / "fixture.json").read_text())["cases"],
            load_file(folder / "tensors.safetensors"),
        )
        for folder in folders
    ]


def case_tables(case: dict, tensors: dict[str, NDArray], i: int) -> list[FrequencyTable]:
    return [
        table_from_frequencies(tensors[f"case{i}.freq.{k}"], bits)
        for k, bits in enumerate(case["table_bits"])
    ]


@pytest.mark.parity
def test_streams_equal_the_recordings(parity_dir: Path) -> None:
    for cases, tensors in recordings(parity_dir):
        for i, case in enumerate(cases):
            tables = case_tables(case, tensors, i)
            symbols = tensors[f"case{i}.symbols"].tolist()
            chosen = [tables[k] for k in tensors[f"case{i}.which"].tolist()] or tables
            encoder = RangeEncoder()
            encoder.encode_run(symbols, chosen)
            stream = encoder.finish()
            assert stream == tensors[f"case{i}.stream"].tobytes(), case["name"]
            assert len(stream) == case["bytes"]
            decoder = RangeDecoder(stream)
            assert decoder.decode_run(len(symbols), chosen) == symbols
            decoder.check_end()


@pytest.mark.parity
def test_certain_prefixes_equal_the_recordings(parity_dir: Path) -> None:
    for cases, tensors in recordings(parity_dir):
        for i, case in enumerate(cases):
            tables = case_tables(case, tensors, i)
            chosen = [tables[k] for k in tensors[f"case{i}.which"].tolist()] or tables
            symbols = tensors[f"case{i}.symbols"].tolist()
            stream = tensors[f"case{i}.stream"].tobytes()
            for kept, known in case["certain_prefix"]:
                # A whole stream needs no padding: all its symbols are known to the reader.
                decode = partial(RangeDecoder.decode_run, count=len(symbols), tables=chosen)
                found = certain_prefix(stream[:kept], decode)
                assert len(found) == known, (case["name"], kept)
                assert found == symbols[:known]


@pytest.mark.parity
def test_tables_equal_the_recordings(parity_dir: Path) -> None:
    for cases, tensors in recordings(parity_dir):
        for name in (name for name in tensors if name.startswith("weights.n")):
            size = name.removeprefix("weights.n")
            (i,) = (i for i, case in enumerate(cases) if case["name"] == f"static n={size}")
            frequencies = tensors[f"case{i}.freq.0"]
            table = table_from_weights(tensors[name])
            assert np.array_equal(np.diff(table.starts), frequencies), name
            assert table.bits == cases[i]["table_bits"][0]
        for logits, expected in zip(tensors["intlogits"], tensors["intlogits.freq"], strict=True):
            bits = int(expected.sum()).bit_length() - 1
            assert np.array_equal(rule_q(softmax_weights(logits), bits), expected)


def constriction_bits(symbols: NDArray, frequencies: NDArray) -> int:
    """Code length of an independent range coder for the same probabilities."""
    model = constriction.stream.model.Categorical(
        (frequencies / frequencies.sum()).astype(np.float32), perfect=False
    )
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(symbols.astype(np.int32), model)
    return encoder.num_valid_bits() if hasattr(encoder, "num_valid_bits") else encoder.num_bits()


@pytest.mark.parametrize("size", [2, 7, 256, 5000])
def test_code_length_matches_constriction_and_the_ideal(size: int) -> None:
    rng = np.random.default_rng(size)
    weights = (1e6 / np.arange(1, size + 1) ** 0.8).astype(np.int64)
    table = table_from_weights(weights)
    frequencies = np.diff(table.starts)
    symbols = rng.choice(size, 20_000, p=frequencies / frequencies.sum())
    encoder = RangeEncoder()
    encoder.encode_run(symbols.tolist(), [table])
    stream = encoder.finish()
    ideal = -np.log2(frequencies[symbols] / (1 << table.bits)).sum()
    assert ideal / 8 - 1 <= len(stream) <= ideal / 8 + 1
    # 32-bit words and 24-bit probabilities on the other side: a few bytes, 0.02 %
    assert abs(len(stream) * 8 - constriction_bits(symbols, frequencies)) <= 64 + ideal * 2e-4


@given(
    st.lists(
        st.tuples(st.integers(2, 40), st.integers(0, 2**31 - 1), st.integers(0, 400)), max_size=6
    ),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_round_trip_of_mixed_runs(runs: list[tuple[int, int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan = []
    for size, top, count in runs:
        table = table_from_weights(rng.integers(0, top + 1, size) // rng.integers(1, 99, size))
        bits = rng.integers(0, 2, count).tolist()
        zeros = rng.integers(1, 65536, count).tolist()
        plan.append((rng.integers(0, size, count).tolist(), table, bits, zeros))
    encoder = RangeEncoder()
    for symbols, table, bits, zeros in plan:
        encoder.encode_run(symbols, [table])
        encoder.encode_bits(bits, zeros)
        encoder.encode_exp_golomb(sum(symbols))
    decoder = RangeDecoder(encoder.finish())
    for symbols, table, bits, zeros in plan:
        assert decoder.decode_run(len(symbols), [table]) == symbols
        assert decoder.decode_bits(zeros) == bits
        assert decoder.decode_exp_golomb() == sum(symbols)
    decoder.check_end()


def test_carry_runs_through_many_bytes() -> None:
    table = table_from_frequencies([1, 2**16 - 2, 1], 16)
    symbols = [2] * 400 + [0, 1] * 30 + [2] * 50
    encoder = RangeEncoder()
    encoder.encode_run(symbols, [table])
    decoder = RangeDecoder(encoder.finish())
    assert decoder.decode_run(len(symbols), [table]) == symbols


@pytest.mark.parametrize("size", [2, 3, 100, 4095, 2**20 + 1])
def test_uniform_table_is_rule_q_of_equal_weights(size: int) -> None:
    table = uniform_table(size)
    stored = table_from_weights(np.ones(size, dtype=np.int64))
    probes = {0, 1, 2, size // 2, size - 1, size}
    assert table.bits == stored.bits
    assert [table.starts[i] for i in probes] == [stored.starts[i] for i in probes]
    assert all(a < b for a, b in pairwise(table.starts[i] for i in sorted(probes)))


def test_left_over_bytes_and_endless_escapes_are_refused() -> None:
    encoder = RangeEncoder()
    encoder.encode_bits([1, 0, 1], [30_000] * 3)
    stream = encoder.finish()
    for bad in (stream + b"\x01" * 9, stream + b"\0"):
        decoder = RangeDecoder(bad)
        decoder.decode_bits([30_000] * 3)
        with pytest.raises(TokenFileError, match="segment"):
            decoder.check_end()
    with pytest.raises(TokenFileError, match="escaped"):
        RangeDecoder(b"").decode_exp_golomb()
