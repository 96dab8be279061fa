"""Tokens whose positions keep unlike numbers of groups, and what decodes them."""

from __future__ import annotations

import pytest
import torch
from tiny_model import photograph, tiny_tokenizer

from tessella.errors import ShapeError
from tessella.images import from_pixels
from tessella.tokenizers import Tokenizer
from tessella.tokenizers.progressive_gq import ProgressiveGQ
from tessella.tokenizers.tiling import decode_tiled
from tessella.tokens import ABSENT, LevelLayout, TokenLayout, Tokens

LAYOUT = TokenLayout((LevelLayout((2, 3), (9, 9, 9), ordered="groups"),), (16, 24))
COUNTS = torch.tensor([[1, 2, 2], [1, 1, 2]])


def whole() -> Tokens:
    return Tokens((torch.arange(18).reshape(1, 2, 3, 3) % 9,), LAYOUT)


def test_each_position_keeps_its_first_groups() -> None:
    tokens = whole().keep_groups(COUNTS)
    assert tokens.layout.levels == (LevelLayout((2, 3), (9, 9), 0, "groups", is_ragged=True),)
    assert tokens.levels[0][0].tolist() == [
        [[0, ABSENT], [3, 4], [6, 7]],
        [[0, ABSENT], [3, ABSENT], [6, 7]],
    ]
    assert torch.equal(tokens.group_counts()[0], COUNTS)
    assert tokens.num_values == 9
    assert torch.equal(whole().group_counts(), torch.full((1, 2, 3), 3))
    tokens.check_range()


def test_keeping_less_of_less_is_the_smaller() -> None:
    tokens = whole().keep_groups(COUNTS)
    again = tokens.keep_groups(torch.tensor([[2, 1, 2], [1, 2, 2]]))
    assert again.group_counts()[0].tolist() == [[1, 1, 2], [1, 1, 2]]
    assert torch.equal(tokens.truncate(groups=1).levels[0], whole().levels[0][..., :1])


@pytest.mark.parametrize(
    "values",
    [[ABSENT, ABSENT, ABSENT], [ABSENT, 1, 2], [1, ABSENT, 2], [1, 2, 9], [1, -2, ABSENT]],
)
def test_holes_and_strangers_are_refused(values: list[int]) -> None:
    level = LevelLayout((1,), (9, 9, 9), ordered="groups", is_ragged=True)
    tokens = Tokens((torch.tensor([[values]]),), TokenLayout((level,), (8, 8)))
    with pytest.raises(ShapeError, match="outside"):
        tokens.check_range()


def test_absent_values_of_an_even_level_are_refused() -> None:
    with pytest.raises(ShapeError, match="outside"):
        Tokens((whole().levels[0] - 1,), LAYOUT).check_range()


@pytest.mark.parametrize(
    "counts", [COUNTS - 1, COUNTS + 2, COUNTS[:, :2], COUNTS.float(), COUNTS.T]
)
def test_wrong_counts_are_refused(counts: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match="counts of shape"):
        whole().keep_groups(counts)


def test_only_ordered_groups_can_be_ragged() -> None:
    with pytest.raises(ShapeError, match="ordered groups"):
        LevelLayout((2, 3), (9, 9), is_ragged=True)
    with pytest.raises(ShapeError, match="ordered groups"):
        LevelLayout((2, 3), (), 4, "groups", is_ragged=True)
    level = LevelLayout((2, 3), (9,))
    tokens = Tokens((torch.zeros(1, 2, 3, 1).long(),), TokenLayout((level,), (16, 24)))
    with pytest.raises(ShapeError, match="are ordered"):
        tokens.keep_groups(COUNTS)


def test_the_state_of_a_position_is_that_of_its_groups() -> None:
    model = tiny_tokenizer()
    assert isinstance(model, ProgressiveGQ)
    tokens = model.encode(from_pixels(photograph()[:64, :96]))
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 4, tokens.layout.levels[0].grid, generator=generator)
    with torch.inference_mode():
        state = model.quantizer.indices_to_state(tokens.keep_groups(counts).levels[0])
        for count in (1, 2, 3):
            even = model.quantizer.indices_to_state(tokens.levels[0][..., :count])
            assert torch.equal(state[0][counts == count], even[0][counts == count])


def test_far_from_other_counts_a_place_decodes_as_if_all_were_alike() -> None:
    model = tiny_tokenizer()
    tokens = model.encode(from_pixels(photograph()[:128, :400]))
    counts = torch.full(tokens.layout.levels[0].grid, 3)
    counts[:, 25:] = 1
    pixels = model.decode(tokens.keep_groups(counts))
    reach = model.halo
    assert reach is not None
    for count, columns in ((3, slice(0, 200 - reach)), (1, slice(200, None))):
        even = model.decode(tokens.truncate(groups=count))
        torch.testing.assert_close(pixels[..., columns], even[..., columns])


def test_tiles_decode_what_the_whole_decodes() -> None:
    model = tiny_tokenizer()
    tokens = model.encode(from_pixels(photograph()[:200, :300]))
    generator = torch.Generator().manual_seed(1)
    counts = torch.randint(1, 4, tokens.layout.levels[0].grid, generator=generator)
    ragged = tokens.keep_groups(counts)
    expected = decode_tiled(model, ragged).astype(int)
    found = decode_tiled(model, ragged, tile=2 * (model.halo or 0) + 64).astype(int)
    assert abs(found - expected).max() <= 1


def test_tokenizers_that_need_even_tokens_refuse_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_tokenizer()
    tokens = model.encode(from_pixels(photograph()[:64, :64]))
    ragged = tokens.keep_groups(torch.ones(8, 8, dtype=torch.int64))
    assert bool(torch.isfinite(model.decode(ragged)).all())
    monkeypatch.setattr(ProgressiveGQ, "decodes_ragged", Tokenizer.decodes_ragged)
    with pytest.raises(ShapeError, match="the same number everywhere"):
        model.decode(ragged)
