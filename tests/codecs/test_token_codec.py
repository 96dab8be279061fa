"""Tokens of every kind through token files, whole and cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from codec_samples import LAYOUTS, SPACE_ID, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from tessella.codecs.container import parse, parse_header
from tessella.codecs.container_errors import (
    ChecksumError,
    LimitError,
    MalformedError,
    TruncatedError,
    UnknownModelError,
    UnsupportedVersionError,
)
from tessella.codecs.container_writer import write
from tessella.codecs.entropy.calibrate import Calibration, calibrate
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.entropy.tables import rule_q
from tessella.codecs.limits import Limits
from tessella.codecs.stored_layout import StoredLayout
from tessella.codecs.token_codec import pack, unpack
from tessella.codecs.token_coding import PackOptions
from tessella.codecs.token_space import TokenSpace, resolver_for
from tessella.errors import ConfigError, ShapeError, TokenFileError
from tessella.tokens import LevelLayout, TokenLayout, Tokens

NO_BIT_MODEL = Calibration(has_bit_model=False)
PRIORS: dict[str, Prior] = {}


def space_for(name: str, *, knows_layout: bool = True) -> TokenSpace:
    if name not in PRIORS:
        PRIORS[name] = calibrate([sample(LAYOUTS[name], s) for s in range(1, 4)], NO_BIT_MODEL)
    layout = sample(LAYOUTS[name]).layout
    return TokenSpace(SPACE_ID, (lambda h, w: layout) if knows_layout else None, PRIORS[name])


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("profile", [0, 1, 2, None])
@pytest.mark.parametrize("split", ["single", "parts", "auto"])
def test_every_kind_round_trips(name: str, profile: int | None, split: str) -> None:
    tokens = sample(LAYOUTS[name], 7)
    for knows_layout in (True, False):
        space = space_for(name, knows_layout=knows_layout)
        data = pack(tokens, space, PackOptions(profile=profile, split=split, has_digest=True))
        found = unpack(data, resolver_for([space]))
        assert found.tokens == tokens
        assert not found.is_truncated and found.parts == found.all_parts


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("profile", [0, 1, 2])
def test_one_segment_costs_at_most_28_bytes(name: str, profile: int) -> None:
    space = space_for(name)
    data = pack(sample(LAYOUTS[name], 7), space, PackOptions(profile=profile, split="single"))
    assert len(data) - sum(parse_header(data).lengths) <= 28


def test_raw_files_need_no_model() -> None:
    for name, levels in LAYOUTS.items():
        tokens = sample(levels, 3)
        found = unpack(pack(tokens)).tokens
        assert found.layout.levels == tokens.layout.levels, name
        assert found.layout.tokenizer_id == SPACE_ID[:8]
        unnamed = sample(levels, 3, tokenizer_id="")
        assert unpack(pack(unnamed)).tokens == unnamed


def cross_entropy(tokens: Tokens, prior: Prior) -> float:
    """Bits by the definition of profile 1, from the histograms."""
    total = 0.0
    for i, (tensor, level) in enumerate(zip(tokens.levels, tokens.layout.levels, strict=True)):
        for g, size in enumerate(level.vocab_sizes):
            bits = min(max(int(np.ceil(np.log2(size))) + 10, 16), 28)
            frequencies = rule_q(prior.histogram(i, g, size), bits)
            total -= np.log2(frequencies[tensor[0, ..., g].numpy()] / 2.0**bits).sum()
    return total


@pytest.mark.parametrize("size", [(4, 8), (40, 60)])
@pytest.mark.parametrize("vocab", [(256,), (1000,), (64, 64, 5)])
def test_static_size_is_the_cross_entropy(size: tuple[int, int], vocab: tuple[int, ...]) -> None:
    layout = (LevelLayout(size, vocab),)
    prior = calibrate([sample(layout, s) for s in range(3)], NO_BIT_MODEL)
    tokens = sample(layout, 9)
    space = TokenSpace(SPACE_ID, lambda h, w: tokens.layout, prior)
    data = pack(tokens, space, PackOptions(profile=1, split="single"))
    assert len(data) <= 1.01 * cross_entropy(tokens, prior) / 8 + 28


def test_adaptive_frequencies_learn() -> None:
    # the prior expects uniform tokens; the picture uses few and repeats its neighbours
    layout = (LevelLayout((60, 80), (64,)),)
    flat = torch.zeros(1, 60, 80, 1, dtype=torch.int64)
    flat[:, :30] = sample((LevelLayout((30, 80), (8,)),), 1).levels[0]
    flat[:, 30:, 40:] = 9
    tokens = Tokens((flat,), TokenLayout(layout, (480, 640), SPACE_ID))
    space = TokenSpace(SPACE_ID, None, Prior({(0, 0): np.ones(64, dtype=np.int64)}))
    sizes = [len(pack(tokens, space, PackOptions(profile=profile))) for profile in (0, 1, 2)]
    counts = np.bincount(flat[0, :30].ravel().numpy(), minlength=64) / 2400
    entropy = -(counts[counts > 0] * np.log2(counts[counts > 0])).sum() * 2400 / 8
    assert sizes[2] < 1.15 * entropy + 100 < 0.6 * sizes[1]
    assert (
        unpack(pack(tokens, space, PackOptions(profile=2)), resolver_for([space])).tokens == tokens
    )


def cuts(data: bytes) -> Iterator[tuple[int, bytes]]:
    header = parse_header(data)
    bounds = np.cumsum(header.lengths) + header.size
    for cut in sorted({*range(header.size, len(data), 7), *bounds[:-1], *(bounds - 1)}):
        yield int((bounds <= cut).sum()), data[: int(cut)]


@pytest.mark.parametrize("profile", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "axis"),
    [("ordered groups", "groups"), ("ordered latent", "groups"), ("long sequence", "length")],
)
def test_cut_file_equals_truncated_tokens(name: str, axis: str, profile: int) -> None:
    space = space_for(name)
    tokens = sample(LAYOUTS[name], 4)
    data = pack(tokens, space, PackOptions(profile=profile, split="parts"))
    points = [16, 32, 64, 128, 256, 300] if axis == "length" else range(1, 99)
    for whole, cut in cuts(data):
        if whole == 0:
            with pytest.raises(TruncatedError, match="no whole segment"):
                unpack(cut, resolver_for([space]))
            continue
        found = unpack(cut, resolver_for([space]))
        assert found.is_truncated and found.is_verified and found.parts == whole
        assert found.tokens == tokens.truncate(**{axis: points[whole - 1]})
        with pytest.raises(TruncatedError):
            unpack(cut, resolver_for([space]), allow_truncated=False)


def test_cut_pyramid_gives_whole_levels() -> None:
    space = space_for("pyramid")
    tokens = sample(LAYOUTS["pyramid"], 4)
    data = pack(tokens, space, PackOptions(profile=1, split="parts"))
    # levels of 1, 4, 9, 16, 36 tokens share a segment; 81 and 169 have their own
    assert len(parse_header(data).lengths) == 3
    for whole, cut in cuts(data):
        if whole:
            found = unpack(cut, resolver_for([space])).tokens
            assert found == tokens.truncate(levels=[5, 6][whole - 1])


@pytest.mark.parametrize("profile", [0, 1, 2])
@pytest.mark.parametrize("name", ["ordered groups", "long sequence", "pyramid", "ordered latent"])
def test_recovered_prefix_is_true(name: str, profile: int) -> None:
    space = space_for(name)
    tokens = sample(LAYOUTS[name], 5)
    data = pack(tokens, space, PackOptions(profile=profile, split="single"))
    header = parse_header(data)
    most = 0
    for cut in range(header.size, len(data), max(1, header.lengths[0] // 12)):
        try:
            found = unpack(data[:cut], resolver_for([space]), recover=True)
        except TruncatedError:
            continue
        assert found.is_truncated and not found.is_verified
        axis = {"groups": "groups", "length": "length", "none": "levels"}
        level = found.tokens.layout.levels[0]
        kept = {"groups": level.groups, "length": level.grid[0]}
        count = kept.get(level.ordered, len(found.tokens.levels))
        assert found.tokens == tokens.truncate(**{axis[level.ordered]: count})
        assert count >= most
        most = count
    assert most > 0


def test_segments_before_a_cut_are_used_by_recovery() -> None:
    space = space_for("long sequence")
    tokens = sample(LAYOUTS["long sequence"], 5)
    data = pack(tokens, space, PackOptions(profile=2, split="parts"))
    found = unpack(data[:-20], resolver_for([space]), recover=True)
    assert 256 < found.tokens.layout.levels[0].grid[0] < 300
    assert found.tokens == tokens.truncate(length=found.tokens.layout.levels[0].grid[0])


def test_dropped_parts_need_no_layout() -> None:
    for name, kept in (("ordered groups", {"groups": 1}), ("long sequence", {"length": 77})):
        space = space_for(name)
        tokens = sample(LAYOUTS[name], 2).truncate(**kept)
        data = pack(tokens, space, PackOptions(profile=1, split="single"))
        layout = parse_header(data).layout
        assert layout is None or not layout.levels
        assert unpack(data, resolver_for([space])).tokens == tokens


def test_small_pictures_use_whichever_profile_is_smallest() -> None:
    prior = Prior({(0, 0): np.array([2**20, *[1] * 4095])})  # far off
    tokens = sample(LAYOUTS["sequence"], 1)
    space = TokenSpace(SPACE_ID, lambda h, w: tokens.layout, prior)
    data = pack(tokens, space)
    assert parse_header(data).profile == 0
    assert len(data) <= 48 + 24


def test_continuous_values_are_rounded_to_the_stated_step() -> None:
    values = torch.tensor([0.0, 1.0, -1.0, 0.26, 1e-4, 300.0, -777.7, 65536.0]).reshape(1, 8, 1)
    layout = TokenLayout((LevelLayout((8,), (), 1),), (8, 64), SPACE_ID)
    for exponent in (-2, 0, 4, 12):
        found = unpack(pack(Tokens((values,), layout), None, PackOptions(exponent=exponent))).tokens
        step = 2.0**-exponent
        assert torch.equal(found.levels[0], (values.double() / step).round().mul(step).float())
    with pytest.raises(ShapeError, match="smaller exponent"):
        pack(Tokens((values,), layout), None, PackOptions(exponent=30))


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12), st.data())
@settings(max_examples=40, deadline=None)
def test_random_grids_round_trip(seed: int, height: int, width: int, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(2, 300), min_size=1, max_size=4).map(tuple))
    grid = data.draw(st.sampled_from([(height, width), (height * width,)]))
    orders = ["none", "groups"] + (["length"] if len(grid) == 1 else [])
    level = LevelLayout(grid, sizes, 0, data.draw(st.sampled_from(orders)))
    tokens = sample((level,), seed)
    prior = Prior({(0, g): np.arange(size) for g, size in enumerate(sizes)})
    space = TokenSpace(SPACE_ID, None, prior)
    options = PackOptions(
        profile=data.draw(st.sampled_from([0, 1, 2])),
        split=data.draw(st.sampled_from(["single", "parts"])),
        id_bytes=data.draw(st.sampled_from([4, 8, 16, 32])),
    )
    assert unpack(pack(tokens, space, options), resolver_for([space])).tokens == tokens


def test_all_tokens_certain_is_an_empty_payload() -> None:
    layout = TokenLayout((LevelLayout((50, 50), (9,)),), (400, 400), SPACE_ID)
    tokens = Tokens((torch.zeros(1, 50, 50, 1, dtype=torch.int64),), layout)
    prior = Prior({(0, 0): np.array([2**30, *[0] * 8])})
    space = TokenSpace(SPACE_ID, None, prior)
    data = pack(tokens, space, PackOptions(profile=1))
    assert parse_header(data).lengths == (0,)
    assert unpack(data, resolver_for([space])).tokens == tokens


def test_flat_picture_of_a_large_alphabet_decodes() -> None:
    # an encoder drops zeros at the end; where the format asks for more bytes they stay
    layout = TokenLayout((LevelLayout((600, 600), (5000,)),), (4800, 4800), SPACE_ID)
    tokens = Tokens((torch.zeros(1, 600, 600, 1, dtype=torch.int64),), layout)
    data = pack(tokens)
    assert sum(parse_header(data).lengths) == 600 * 600 // 6000 - 8
    assert torch.equal(unpack(data).tokens.levels[0], tokens.levels[0])
    header = parse_header(data)
    with pytest.raises(MalformedError, match="at least 52"):
        unpack(write(header, [b"\0" * 51]))


def test_unknown_models_are_named() -> None:
    space = space_for("grid")
    data = pack(sample(LAYOUTS["grid"]), space, PackOptions(profile=1))
    other = TokenSpace("00ff" * 16, None, space.prior)
    with pytest.raises(UnknownModelError, match=f"token space {SPACE_ID[:8]}.*00ff00ff"):
        unpack(data, resolver_for([other]))
    with pytest.raises(UnknownModelError, match=f"prior {space.prior.identity[:4].hex()}"):
        unpack(data, resolver_for([TokenSpace(SPACE_ID)]))
    with pytest.raises(UnknownModelError, match=f"prior .* of token space {SPACE_ID[:8]}"):
        unpack(data)
    with pytest.raises(UnknownModelError, match="histogram of 1000"):
        pack(sample(LAYOUTS["binary grid"]), space, PackOptions(profile=1))


def test_a_layout_that_the_model_does_not_make_is_refused() -> None:
    space = space_for("grid")
    small = sample((LevelLayout((5, 6), (1000,)),))
    data = pack(small, replace(space, layout=None), PackOptions(profile=1))
    with pytest.raises(MalformedError, match="not one that the model makes"):
        unpack(data, resolver_for([space]))


def test_wrong_segments_and_digests_are_refused() -> None:
    tokens = sample(LAYOUTS["ordered groups"])
    data = pack(tokens, None, PackOptions(split="single", has_digest=True))
    file = parse(data)
    with pytest.raises(ChecksumError, match="digest"):
        unpack(write(replace(file.header, digest=1), file.segments))
    for bad in (bytes(file.segments[0]) + b"\0", bytes(file.segments[0])[:-1]):
        with pytest.raises(MalformedError, match="packed segment"):
            unpack(write(file.header, [bad]))
    with pytest.raises(UnsupportedVersionError, match="padding"):
        unpack(write(replace(file.header, is_centred=True), file.segments))
    with pytest.raises(UnsupportedVersionError, match="profile 4"):
        header = replace(file.header, profile=4, prior_id=b"1234")
        unpack(write(header, file.segments), resolver_for([TokenSpace(SPACE_ID)]))
    derived = write(replace(file.header, layout=StoredLayout(derived_parts=9)), file.segments)
    with pytest.raises(MalformedError, match="9 parts"):
        unpack(derived, resolver_for([space_for("ordered groups")]))
    with pytest.raises(UnknownModelError, match="leaves its layout"):
        unpack(derived)


def test_derived_layouts_are_limited() -> None:
    space = space_for("ordered groups")
    data = pack(sample(LAYOUTS["ordered groups"]), space, PackOptions(profile=1, split="single"))
    with pytest.raises(LimitError, match=r"Limits\.tokens"):
        unpack(data, resolver_for([space]), limits=Limits(tokens=100))


def test_bad_requests_are_refused() -> None:
    tokens = sample(LAYOUTS["grid"])
    space = space_for("grid")
    with pytest.raises(ShapeError, match="batch of 2"):
        pack(Tokens.cat([tokens, tokens]))
    with pytest.raises(ShapeError, match="outside"):
        pack(Tokens((tokens.levels[0] + 999,), tokens.layout))
    with pytest.raises(ConfigError, match="without a prior"):
        pack(tokens, None, PackOptions(profile=1))
    with pytest.raises(ConfigError, match="profile=3"):
        pack(tokens, space, PackOptions(profile=3))
    with pytest.raises(ConfigError, match="hexadecimal"):
        pack(sample(LAYOUTS["grid"], tokenizer_id="name"))
    with pytest.raises(ConfigError, match="at least 8 digits"):
        pack(sample(LAYOUTS["grid"], tokenizer_id="abcd"))
    with pytest.raises(ConfigError, match="prior of"):
        pack(sample(LAYOUTS["grid"], tokenizer_id="00ff" * 16), space)
    with pytest.raises(TokenFileError, match=r"Limits\.tokens"):
        pack(tokens, None, PackOptions(limits=Limits(tokens=5)))
