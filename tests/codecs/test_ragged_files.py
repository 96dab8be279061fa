"""Token files whose positions keep unlike numbers of groups: chunk ``kept``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import golden_files
import numpy as np
import pytest
import torch
from codec_samples import SPACE_ID, sample

from tessella.codecs import group_counts
from tessella.codecs.container import parse, parse_header
from tessella.codecs.container_errors import MalformedError
from tessella.codecs.container_writer import write
from tessella.codecs.description import describe
from tessella.codecs.entropy.bit_model import BitModel
from tessella.codecs.entropy.bit_state import BitState
from tessella.codecs.entropy.calibrate import Calibration, calibrate
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.group_counts import read_counts, tile_side, write_counts
from tessella.codecs.shard_tokens import TokenShardWriter
from tessella.codecs.stored_layout import StoredLayout, StoredLevel
from tessella.codecs.token_codec import pack, unpack
from tessella.codecs.token_coding import PackOptions
from tessella.codecs.token_space import TokenSpace, resolver_for
from tessella.errors import ShapeError, TokenFileError
from tessella.tokens import ABSENT, LevelLayout, Tokens

LAYOUTS = {
    "map": (LevelLayout((13, 18), (16,) * 5, ordered="groups"),),
    "unlike alphabets": (LevelLayout((13, 18), (16, 5, 7), ordered="groups"),),
    "large alphabets": (LevelLayout((13, 18), (2048,) * 2, ordered="groups"),),
    "sequence": (LevelLayout((200,), (16,) * 5, ordered="groups"),),
}


def ragged(name: str, *, tile: int = 2, seed: int = 5) -> Tokens:
    """Sample tokens of which tiles keep one to all groups."""
    whole = sample(LAYOUTS[name], seed)
    level = whole.layout.levels[0]
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, level.groups + 1, level.grid, generator=generator)
    counts.flatten()[:2] = torch.tensor([1, level.groups])
    for axis, side in enumerate(level.grid):
        counts = counts.repeat_interleave(tile, axis).narrow(axis, 0, side)
    return whole.keep_groups(counts)


def space_for(name: str, *, has_prior: bool = True) -> TokenSpace:
    layout = sample(LAYOUTS[name]).layout
    samples = [sample(LAYOUTS[name], seed) for seed in (1, 2)]
    prior = calibrate(samples, Calibration(has_bit_model=False)) if has_prior else None
    return TokenSpace(SPACE_ID, lambda height, width: layout, prior)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("profile", [0, 1, 2, None])
@pytest.mark.parametrize("split", ["single", "parts"])
def test_files_round_trip_and_are_smaller(name: str, profile: int | None, split: str) -> None:
    space = space_for(name)
    options = PackOptions(profile=profile, split=split, has_digest=True)
    tokens = ragged(name)
    data = pack(tokens, space, options)
    found = unpack(data, resolver_for([space]))
    assert found.tokens == tokens
    whole = pack(sample(LAYOUTS[name], 5), space, options)
    assert len(data) < len(whole)
    assert (data[4], whole[4]) == (0x11, 0x10)  # the minor version


def test_a_raw_file_holds_the_tokens_that_are_there_and_no_others() -> None:
    tokens = ragged("map")
    data = pack(tokens, space_for("map", has_prior=False))
    header = parse_header(data)
    here = tokens.levels[0] != ABSENT
    assert header.lengths == (-(-int(here.sum()) * 4 // 8),)


@pytest.mark.parametrize("profile", [0, 1, 2])
def test_a_cut_file_gives_the_smaller_of_both_counts(profile: int) -> None:
    space = space_for("map")
    tokens = ragged("map")
    data = pack(tokens, space, PackOptions(profile=profile, split="parts"))
    header = parse_header(data)
    for whole in range(1, 5):
        cut = data[: header.size + sum(header.lengths[:whole]) + 1]
        found = unpack(cut, resolver_for([space]))
        assert found.is_truncated and found.parts == whole
        assert found.tokens == tokens.truncate(groups=whole)
        counts = tokens.group_counts().clamp(max=whole)
        assert torch.equal(found.tokens.group_counts(), counts)


def test_recovery_gives_what_a_cut_segment_settles() -> None:
    space = space_for("map")
    tokens = ragged("map")
    data = pack(tokens, space, PackOptions(profile=2, split="single"))
    found = unpack(data[:-25], resolver_for([space]), recover=True)
    assert 1 <= found.parts < 5 and not found.is_verified
    assert found.tokens == tokens.truncate(groups=found.parts)


def golden_state(tokens: Tokens, prior: Prior) -> BitState:
    level = tokens.layout.levels[0]
    values = tokens.levels[0].reshape(-1, level.groups).numpy()
    assert prior.bit_model is not None
    return BitState(prior.bit_model, StoredLevel(level.grid, level.vocab_sizes), values)


@pytest.mark.parametrize("name", ["adaptive-bits", "ragged-bits"])
def test_code_lengths_are_what_the_context_model_spends(name: str) -> None:
    golden = golden_files.load(name)
    assert golden.space.prior is not None
    state = golden_state(golden.tokens, golden.space.prior)
    absent = golden.tokens.levels[0].reshape(-1, 3).numpy() == ABSENT
    for group, size in enumerate(parse_header(golden.data).lengths):
        lengths = state.code_lengths(group)
        assert (lengths[absent[:, group]] == 0).all() and (lengths[~absent[:, group]] > 0).all()
        assert abs(lengths.sum() - 8 * size) <= 16


def test_absent_neighbours_are_as_outside_the_map() -> None:
    golden = golden_files.load("adaptive-bits")
    prior = golden.space.prior
    assert prior is not None and prior.bit_model is not None
    nets = [replace(net, rates=(0, 0)) for net in prior.bit_model.nets]
    frozen = Prior({}, BitModel(prior.bit_model.shape, nets))  # each token by its neighbours alone
    counts = torch.ones(24, 24, dtype=torch.int64)
    counts[:, :9] = 2
    found = golden_state(golden.tokens.keep_groups(counts), frozen).code_lengths(1)
    level = replace(golden.tokens.layout.levels[0].keep_groups(2), grid=(24, 9))
    first = golden.tokens.levels[0][:, :, :9, :2].contiguous()
    narrow = Tokens((first,), replace(golden.tokens.layout, levels=(level,)))
    expected = golden_state(narrow, frozen).code_lengths(1)
    # group 0 ends at column 8 of the narrow map and is seen one column away
    np.testing.assert_array_equal(found.reshape(24, 24)[:, :8], expected.reshape(24, 9)[:, :8])


@pytest.mark.parametrize("side", [0, 1, 3])
@pytest.mark.parametrize("groups", [2, 8])
def test_counts_come_back(side: int, groups: int) -> None:
    rng = np.random.default_rng(groups)
    for shape in ((1, 30), (17, 23), (64, 96)):
        tiles = rng.integers(1, groups + 1, [-(-n // (1 << side)) for n in shape])
        tiles.flat[:2] = (1, groups)
        counts = tiles.repeat(1 << side, 0).repeat(1 << side, 1)[: shape[0], : shape[1]]
        level = StoredLevel(shape, (256,) * groups, ordered="groups")
        data = write_counts(counts, groups)
        assert data[0] == tile_side(counts) >= side
        assert np.array_equal(read_counts(data, level), counts)
        # uniform counts cost their entropy and what learning costs
        assert 8 * len(data) <= tiles.size * np.log2(groups) * 1.1 + 40 * groups


def test_even_regions_cost_little() -> None:
    counts = np.ones((64, 96), dtype=np.int64)
    counts[:, 40:] = 8
    counts[7, 3] = 2  # so that the tiles are small
    assert len(write_counts(counts, 8)) < 90


def with_kept(data: bytes, chunk: bytes) -> bytes:
    file = parse(data)
    return write(replace(file.header, chunks=(("kept", chunk),)), file.segments)


def test_chunks_that_no_writer_makes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = golden_files.load("ragged-bits")
    chunk = dict(parse_header(golden.data).chunks)["kept"]
    counts = golden.tokens.group_counts()[0].numpy()
    with monkeypatch.context() as patch:
        patch.setattr(group_counts, "tile_side", lambda counts: 0)
        small_tiles = write_counts(counts, 3)
    wrong = {
        "in the largest tiles": small_tiles,
        "left over": chunk + bytes(9) + b"\1",
        "ends in a zero": chunk + b"\0",
        "from 1 to 1 in tiles": b"\7",
    }
    assert with_kept(golden.data, chunk) == golden.data
    for message, data in wrong.items():
        with pytest.raises(MalformedError, match=message):
            unpack(with_kept(golden.data, data), golden.resolver)


def test_random_chunks_are_refused_or_good_counts() -> None:
    rng = np.random.default_rng(4)
    level = StoredLevel((24, 24), (256,) * 3, ordered="groups")
    good = 0
    for _ in range(400):
        data = bytes([rng.integers(0, 5)]) + rng.bytes(rng.integers(0, 40))
        with suppress(TokenFileError):
            counts = read_counts(data, level)
            again = write_counts(counts, 3)
            assert len(again) <= len(data) and again[0] == data[0]
            assert np.array_equal(read_counts(again, level), counts)
            good += 1
    assert 0 < good < 200


def test_layouts_without_ordered_groups_are_refused() -> None:
    level = StoredLevel((4, 6), (16, 16))
    data = write_counts(np.array([[1, 2]]).repeat(4, 0).repeat(3, 1), 2)
    with pytest.raises(MalformedError, match="ordered groups"):
        read_counts(data, level)
    with pytest.raises(MalformedError, match="ordered groups"):
        read_counts(data, StoredLevel((4, 6), (16,), ordered="groups"))
    two = (LevelLayout((2, 2), (16,)), LevelLayout((4, 4), (16,)))
    file = parse(pack(sample(two)))
    with pytest.raises(MalformedError, match="file of 2 levels"):
        unpack(write(replace(file.header, chunks=(("kept", data),)), file.segments))


def test_a_few_bytes_cannot_claim_endless_work() -> None:
    level = StoredLevel((4096, 4096), (256,) * 2, ordered="groups")
    with pytest.raises(MalformedError, match="need at least"):
        read_counts(b"\0" + bytes(200), level)


def test_tokens_that_do_not_use_their_groups_are_not_written() -> None:
    tokens = ragged("map").truncate(groups=5)
    values = tokens.levels[0].clone()
    values[..., 4] = ABSENT
    with pytest.raises(ShapeError, match="for 5 groups"):
        pack(Tokens((values,), tokens.layout))


def test_shards_refuse_them(tmp_path: object) -> None:
    tokens = ragged("map")
    space = space_for("map")
    with (
        TokenShardWriter(f"{tmp_path}/a.shard", sample(LAYOUTS["map"]).layout, space) as writer,
        pytest.raises(ShapeError, match="a shard holds whole ones"),
    ):
        writer.add("a", tokens)


def test_a_description_counts_what_is_there() -> None:
    golden = golden_files.load("ragged-bits")
    counts = golden.tokens.group_counts()
    found = describe(golden.data)
    assert found.version == "1.1"
    assert found.tokens == int(counts.sum())
    assert found.raw_bits == 8 * int(counts.sum())
    mean = float(counts.double().mean())
    assert found.kept == f"1 to 3 groups, {mean:.2f} on average, in tiles of 2 x 2 positions"
    level = golden.tokens.layout.levels[0]
    stored = StoredLayout((StoredLevel(level.grid, level.vocab_sizes, ordered="groups"),))
    assert parse_header(golden.data).layout == stored
