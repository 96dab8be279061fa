"""Properties of Tokens and TokenLayout for every kind of layout."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tessella.errors import ShapeError
from tessella.tokens import LevelLayout, TokenLayout, Tokens

vocabularies = st.lists(st.integers(2, 2**20), min_size=1, max_size=5).map(tuple)
maps = st.tuples(st.integers(1, 5), st.integers(1, 5))
sequences = st.tuples(st.integers(1, 9))


def _grid_level(grid: tuple[int, ...], sizes: tuple[int, ...]) -> LevelLayout:
    return LevelLayout(grid, sizes, ordered="groups")


grids = st.builds(_grid_level, maps, vocabularies).map(lambda level: (level,))
pyramids = st.lists(st.builds(LevelLayout, maps, vocabularies), min_size=1, max_size=5).map(tuple)
lines = st.builds(lambda g, s: (LevelLayout(g, s, ordered="length"),), sequences, vocabularies)
continuous = st.builds(
    lambda g, c: (LevelLayout(g, channels=c, ordered="groups"),), maps, st.integers(1, 6)
)
layouts = st.builds(
    TokenLayout,
    st.one_of(grids, pyramids, lines, continuous),
    st.tuples(st.integers(1, 99), st.integers(1, 99)),
)


def make(layout: TokenLayout, batch: int, seed: int = 0) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for level in layout.levels:
        shape = (batch, *level.grid, level.groups)
        if level.is_continuous:
            levels.append(torch.randn(shape, generator=generator))
            continue
        sizes = torch.tensor(level.vocab_sizes)
        levels.append((torch.rand(shape, generator=generator) * sizes).long().clamp(max=sizes - 1))
    return Tokens(levels, layout)


@given(layouts, st.integers(1, 3))
def test_flatten_and_unflatten_are_inverse(layout: TokenLayout, batch: int) -> None:
    tokens = make(layout, batch)
    flat = tokens.flatten()
    assert flat.shape == (batch, layout.num_values)
    assert Tokens.unflatten(layout, flat) == tokens


@given(grids, st.integers(1, 3), st.data())
def test_flat_order_is_raster_with_groups_innermost(
    levels: tuple[LevelLayout, ...], batch: int, data: st.DataObject
) -> None:
    layout = TokenLayout(levels, (8, 8))
    tokens = make(layout, batch)
    h, w = levels[0].grid
    y, x = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    g = data.draw(st.integers(0, levels[0].groups - 1))
    position = (y * w + x) * levels[0].groups + g
    assert int(tokens.flatten()[-1, position]) == int(tokens.levels[0][-1, y, x, g])


@given(layouts, st.data())
def test_truncation_keeps_the_prefix_and_never_adds_bits(
    layout: TokenLayout, data: st.DataObject
) -> None:
    tokens = make(layout, 2)
    level = layout.levels[0]
    axis = {"groups": "groups", "length": "length", "none": "levels"}[level.ordered]
    most = {"groups": level.groups, "length": level.grid[0], "levels": len(layout.levels)}[axis]
    count = data.draw(st.integers(1, most))
    short = tokens.truncate(**{axis: count})
    assert short.layout == layout.truncate(**{axis: count})
    assert short.bits <= tokens.bits
    assert short.truncate(**{axis: count}) == short
    for whole, kept in zip(tokens.levels, short.levels, strict=False):
        if axis == "groups":
            assert torch.equal(whole[..., :count], kept)
        elif axis == "length":
            assert torch.equal(whole[:, :count], kept)
        else:
            assert torch.equal(whole, kept)
    for bad in (0, most + 1):
        with pytest.raises(ShapeError, match="expected 1 to"):
            tokens.truncate(**{axis: bad})


@given(layouts, st.integers(1, 4), st.data())
def test_indexing_selects_pictures(layout: TokenLayout, batch: int, data: st.DataObject) -> None:
    tokens = make(layout, batch)
    i = data.draw(st.integers(-batch, batch - 1))
    one = tokens[i]
    assert len(one) == 1
    assert torch.equal(one.levels[0][0], tokens.levels[0][i])
    assert Tokens.cat([tokens[j] for j in range(batch)]) == tokens
    assert tokens[list(range(batch))[::-1]][batch - 1] == tokens[0]
    with pytest.raises(IndexError):
        tokens[batch]


@given(layouts)
def test_bits_are_the_sum_of_logarithms(layout: TokenLayout) -> None:
    expected = sum(
        math.prod(level.grid)
        * (32 * level.channels if level.is_continuous else sum(map(math.log2, level.vocab_sizes)))
        for level in layout.levels
    )
    assert make(layout, 1).bits == pytest.approx(expected)


@settings(max_examples=20)
@given(layouts)
def test_equality_is_exact_and_by_value(layout: TokenLayout) -> None:
    a, b = make(layout, 2), make(layout, 2)
    assert a == b
    levels = [level.clone() for level in b.levels]
    levels[0].view(-1)[0] += 1
    assert a != Tokens(levels, layout)
    assert a != "tokens"
    with pytest.raises(TypeError):
        hash(a)


def test_integers_become_int64_and_wrong_kinds_are_refused() -> None:
    layout = TokenLayout((LevelLayout((2, 2), (16,)),), (16, 16))
    tokens = Tokens((torch.zeros(1, 2, 2, 1, dtype=torch.uint8),), layout)
    assert tokens.levels[0].dtype == torch.int64
    with pytest.raises(ShapeError, match="expected integers"):
        Tokens((torch.zeros(1, 2, 2, 1),), layout)
    with pytest.raises(ShapeError, match="expected integers"):
        Tokens((torch.zeros(1, 2, 2, 1, dtype=torch.bool),), layout)
    with pytest.raises(ShapeError, match=r"expected \(1, 2, 2, 1\)"):
        Tokens((torch.zeros(1, 2, 3, 1, dtype=torch.int64),), layout)


def test_range_check_names_level_and_group() -> None:
    layout = TokenLayout((LevelLayout((1, 2), (4, 16)),), (8, 16))
    good = Tokens((torch.tensor([[[[3, 15], [0, 0]]]]),), layout)
    good.check_range()
    bad = Tokens((torch.tensor([[[[3, 16], [0, 0]]]]),), layout)
    with pytest.raises(ShapeError, match="group 1"):
        bad.check_range()


@pytest.mark.parametrize(
    "arguments",
    [
        {"grid": (0, 2), "vocab_sizes": (4,)},
        {"grid": (2, 2, 2), "vocab_sizes": (4,)},
        {"grid": (2,)},
        {"grid": (2,), "vocab_sizes": (4,), "channels": 3},
        {"grid": (2,), "vocab_sizes": (1,)},
        {"grid": (2, 2), "vocab_sizes": (4,), "ordered": "length"},
        {"grid": (2, 2), "vocab_sizes": (4,), "ordered": "sideways"},
    ],
)
def test_impossible_levels_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ShapeError):
        LevelLayout(**arguments)  # type: ignore[arg-type]


def test_unordered_axes_cannot_be_truncated() -> None:
    layout = TokenLayout((LevelLayout((2, 2), (16, 16)),), (16, 16))
    with pytest.raises(ShapeError, match="not ordered"):
        layout.truncate(groups=1)
    with pytest.raises(ShapeError, match="not ordered"):
        layout.truncate(length=1)
