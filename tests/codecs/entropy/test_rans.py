"""rANS and its tables against streams that CompressAI and McQuic wrote; hostile streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tessella.codecs.entropy.cdf16 import cdf16
from tessella.codecs.entropy.rans import Slots, rans_decode, rans_encode, slots
from tessella.errors import ShapeError, TokenFileError

Recording = dict[str, NDArray]
TABLE = slots([0, 1, 30_000, 30_500, 65_536], offset=-2, has_escape=True)


@pytest.fixture
def compressai(parity_dir: Path) -> Recording:
    return load_file(parity_dir / "compressai_rans" / "a" / "tensors.safetensors")


@pytest.fixture
def mcquic(parity_dir: Path) -> Recording:
    folder = parity_dir / "mcquic" / "tiny_m2"
    return load_file(folder / "tensors.safetensors") | load_file(folder / "state_dict.safetensors")


def _tables(cdfs: NDArray, lengths: NDArray, offsets: NDArray) -> list[Slots]:
    rows = zip(cdfs, lengths, offsets, strict=True)
    return [slots(c[:n], offset=int(offset), has_escape=True) for c, n, offset in rows]


def _streams(io: Recording) -> Iterator[tuple[list[int], list[Slots], bytes]]:
    """Yield values, their tables, and the recorded stream."""
    tables = _tables(io["rans.cdfs"], io["rans.cdf_lengths"], io["rans.offsets"])
    values = io["rans.symbols"].tolist()
    chosen = [tables[i] for i in io["rans.indexes"]]
    for name, count in (("rans", len(values)), ("rans.first3", 3), ("rans.first4", 4)):
        yield values[:count], chosen[:count], io[f"{name}.stream"].tobytes()
    tables = _tables(io["gc.quantized_cdf"], io["gc.cdf_length"], io["gc.offset"])
    for i, item in enumerate(io["gc.symbols"]):
        chosen = [tables[j] for j in io["gc.indexes"][i].flatten()]
        yield item.flatten().tolist(), chosen, io[f"gc.stream.{i}"].tobytes()
    state = [io[f"eb.state._{name}"] for name in ("quantized_cdf", "cdf_length", "offset")]
    tables = _tables(*state)
    medians = io["eb.state.quantiles"][:, 0, 1, None, None]
    for i, z in enumerate(io["eb.z"]):
        integers = np.rint(z - medians).astype(np.int64)
        chosen = [table for table, channel in zip(tables, z, strict=True) for _ in channel.flat]
        yield integers.flatten().tolist(), chosen, io[f"eb.stream.{i}"].tobytes()


@pytest.mark.parity
def test_streams_with_escapes_and_back(compressai: Recording) -> None:
    count = 0
    for values, tables, stream in _streams(compressai):
        assert rans_encode(values, tables) == stream
        assert rans_decode(stream, tables) == values
        count += 1
    assert count == 7


@pytest.mark.parity
def test_probabilities_become_the_recorded_tables(compressai: Recording) -> None:
    names = [name for name in compressai if name.endswith(".cdf")]
    assert len(names) == 4
    for name in names:
        ours = cdf16(compressai[name.removesuffix(".cdf")])
        np.testing.assert_array_equal(ours, compressai[name])


@pytest.mark.parity
def test_a_level_of_mcquic_is_one_stream_group_by_group(mcquic: Recording) -> None:
    for level in range(3):
        averages = torch.from_numpy(mcquic[f"_quantizer._entropyCoder._freqEMA.{level}"])
        tables = []
        for g, p in enumerate((averages / averages.sum(dim=-1, keepdim=True)).numpy()):
            starts = cdf16(p)
            np.testing.assert_array_equal(starts, mcquic[f"level{level}.cdf.{g}"])
            tables.append(slots(starts))
        codes = mcquic[f"level{level}.code"][0]
        chosen = [table for table, group in zip(tables, codes, strict=True) for _ in group.flat]
        stream = mcquic[f"level{level}.stream"].tobytes()
        assert rans_encode(codes.flatten().tolist(), chosen) == stream
        assert rans_decode(stream, chosen) == codes.flatten().tolist()


values_of = st.lists(st.one_of(st.integers(-2, 1), st.integers(-(2**30), 2**30)), max_size=40)


@given(values_of)
def test_any_values_come_back(values: list[int]) -> None:
    tables = [TABLE] * len(values)
    stream = rans_encode(values, tables)
    assert len(stream) >= 8 and len(stream) % 4 == 0
    assert rans_decode(stream, tables) == values


@given(values_of, st.data())
def test_changed_streams_are_refused_or_are_those_of_other_values(
    values: list[int], data: st.DataObject
) -> None:
    tables = [TABLE] * len(values)
    stream = bytearray(rans_encode(values, tables))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= data.draw(st.integers(1, 255))
    _decodes_to_what_is_encoded_so(bytes(stream), tables)
    with pytest.raises(TokenFileError):
        rans_decode(rans_encode(values, tables)[:-4], tables)
    with pytest.raises(TokenFileError, match="left"):
        rans_decode(rans_encode(values, tables) + bytes(4), tables)


@given(st.binary(max_size=48), st.integers(0, 12))
def test_any_bytes_are_refused_or_are_a_stream(stream: bytes, count: int) -> None:
    _decodes_to_what_is_encoded_so(stream, [TABLE] * count)


def _decodes_to_what_is_encoded_so(stream: bytes, tables: Sequence[Slots]) -> None:
    try:
        values = rans_decode(stream, tables)
    except TokenFileError:
        return
    assert rans_encode(values, tables) == stream


def test_values_without_a_slot_are_refused() -> None:
    plain = slots([0, 100, 65_536], offset=5)
    assert rans_decode(rans_encode([5, 6], [plain] * 2), [plain] * 2) == [5, 6]
    with pytest.raises(ShapeError, match="slots from 5 to 6 and no escape"):
        rans_encode([7], [plain])
    with pytest.raises(ShapeError, match=r"within 2\^30"):
        rans_encode([2**33], [TABLE])


@pytest.mark.parametrize(
    "starts", [[0], [0, 5, 5, 65_536], [1, 65_536], [0, 10], [0, 7, 3, 65_536]]
)
def test_tables_must_ascend(starts: list[int]) -> None:
    with pytest.raises(ShapeError, match="ascend strictly"):
        slots(starts)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=300))
def test_every_symbol_has_a_place(pmf: list[float]) -> None:
    if not any(p > 1e-4 for p in pmf):
        pmf[0] = 1.0
    slots(cdf16(pmf))


@pytest.mark.parametrize("pmf", [[], [0.0, 0.0], [0.5, -0.1], [float("nan"), 1.0]])
def test_what_is_no_distribution_is_refused(pmf: list[float]) -> None:
    with pytest.raises(ShapeError, match="probabilities"):
        cdf16(pmf)
