from __future__ import annotations

import itertools

import pytest
import torch

from tessella.errors import ShapeError
from tessella.tokenizers.quantizers import (
    EMAVQ,
    FSQ,
    VQ,
    EMAConfig,
    LevelDropout,
    ResidualQuantizer,
    residual_fsq,
    residual_lfq,
)


def stack(depth: int = 4, **options: object) -> ResidualQuantizer:
    torch.manual_seed(0)
    return ResidualQuantizer([EMAVQ(5, 20) for _ in range(depth)], **options)


def gradient_to_input(quantizer: ResidualQuantizer, generator: torch.Generator) -> torch.Tensor:
    z = torch.randn(6, 5, generator=generator, requires_grad=True)
    w = torch.randn(6, 5, generator=generator)
    (quantizer.eval()(z).z_q * w).sum().backward()
    return z.grad / w


def test_one_straight_through_step_has_the_identity_as_jacobian(generator):
    torch.testing.assert_close(
        gradient_to_input(stack(), generator), torch.ones(6, 5), atol=1e-5, rtol=0
    )


def test_a_step_per_level_multiplies_the_gradient_by_the_depth(generator):
    found = gradient_to_input(stack(ste="per_level"), generator)
    torch.testing.assert_close(found, torch.full((6, 5), 4.0), atol=1e-5, rtol=0)


def test_truncated_tokens_decode_to_the_sum_of_what_is_there(generator):
    quantizer = stack().eval()
    indices = quantizer(torch.randn(3, 7, 5, generator=generator)).indices
    codes = quantizer.level_codes(indices)
    for kept in range(1, 5):
        expected = codes[:kept].sum(dim=0)
        cut = indices[..., :kept]
        padded = indices.clone()
        padded[..., kept:] = -1
        torch.testing.assert_close(quantizer.indices_to_codes(cut), expected)
        assert torch.equal(quantizer.indices_to_codes(cut), quantizer.indices_to_codes(padded))
        assert torch.equal(quantizer.level_codes(cut)[kept:], torch.zeros(4 - kept, 3, 7, 5))


def test_each_level_of_a_trained_stack_lowers_the_error(generator):
    quantizer = ResidualQuantizer(
        [EMAVQ(4, 16, ema=EMAConfig(decay=0.5, kmeans_iterations=10)) for _ in range(4)]
    )
    z = torch.randn(400, 4, generator=generator)
    for _ in range(5):
        quantizer(z, generator=generator)
    indices = quantizer.eval()(z).indices
    errors = [
        (quantizer.indices_to_codes(indices[:, :kept]) - z).square().mean().item()
        for kept in range(1, 5)
    ]
    assert all(b < 0.7 * a for a, b in itertools.pairwise(errors))


@pytest.mark.parametrize("shared", [False, True])
def test_dropout_leaves_out_a_tail_of_levels(shared, generator):
    dropout = LevelDropout(min_levels=2)
    quantizer = (
        ResidualQuantizer([EMAVQ(5, 20)], num_levels=4, dropout=dropout)
        if shared
        else stack(dropout=dropout)
    )
    z = torch.randn(8, 5, generator=generator)
    seen = set()
    for _ in range(20):
        out = quantizer(z, generator=generator)
        used = int((out.indices[0] >= 0).sum())
        seen.add(used)
        assert (out.indices[:, :used] >= 0).all() and (out.indices[:, used:] == -1).all()
        assert (out.stats["level_losses"][used:] == 0).all()
        torch.testing.assert_close(out.stats["level_losses"].sum(), out.loss)
    assert seen == {2, 3, 4}
    assert (quantizer.eval()(z).indices >= 0).all()


def test_dropped_depths_are_rounded_up_to_a_multiple(generator):
    quantizer = stack(5, dropout=LevelDropout(min_levels=1, multiple_of=2))
    z = torch.randn(8, 5, generator=generator)
    seen = {int((quantizer(z, generator=generator).indices[0] >= 0).sum()) for _ in range(20)}
    assert seen == {2, 4, 5}


def test_levels_may_differ_in_kind_and_number_of_indices(generator):
    quantizer = ResidualQuantizer([VQ(3, 50), FSQ((5, 5, 5), factorized=True)]).eval()
    assert quantizer.vocab_sizes == (50, 5, 5, 5)
    indices = quantizer(torch.randn(4, 3, generator=generator)).indices
    assert quantizer.indices_to_codes(indices[:, :1]).shape == (4, 3)
    with pytest.raises(ShapeError, match="level 1 needs 3"):
        quantizer.indices_to_codes(indices[:, :2])


def test_sums_that_no_search_recovers_are_refused(generator):
    quantizer = stack().eval()
    with pytest.raises(ShapeError, match="keep the indices"):
        quantizer.codes_to_indices(torch.randn(50, 5, generator=generator) * 3)


@pytest.mark.parametrize("make", [lambda: residual_lfq(3, 3), lambda: residual_fsq((5, 4), 2)])
def test_all_tuples_of_scalar_levels_give_distinct_codes(make):
    quantizer = make()
    grids = torch.meshgrid([torch.arange(k) for k in quantizer.vocab_sizes], indexing="ij")
    indices = torch.stack(grids, dim=-1).flatten(0, -2)
    codes = quantizer.indices_to_codes(indices)
    assert len(codes.unique(dim=0)) == len(indices)
    assert torch.equal(quantizer.codes_to_indices(codes), indices)


def test_a_shared_table_stands_still_during_the_step(generator):
    quantizer = ResidualQuantizer([EMAVQ(5, 20)], num_levels=3)
    assert list(quantizer.state_dict()) == [
        f"levels.0.{name}" for name in ("codebook", "counts", "sums", "initialised")
    ]
    table = quantizer.level(0).codebook.clone()
    out = quantizer(torch.randn(30, 5, generator=generator))
    torch.testing.assert_close(out.z_q, table[out.indices].sum(dim=1))
    assert not torch.equal(quantizer.level(0).codebook, table)
