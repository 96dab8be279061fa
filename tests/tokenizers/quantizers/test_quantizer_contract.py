"""What every quantizer promises, over random shapes and sizes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.quantizers import (
    BSQ,
    EMAVQ,
    FSQ,
    GQ,
    IBQ,
    LFQ,
    VQ,
    ClusteringVQ,
    EMAConfig,
    LevelDropout,
    ProductQuantizer,
    ProjectedQuantizer,
    Quantizer,
    ResidualQuantizer,
    SharedProductQuantizer,
    SimVQ,
    residual_fsq,
    residual_lfq,
)
from tessella.tokenizers.quantizers.multi_codebook import MultiCodebookVQ

small = st.integers(1, 4)
sizes = st.integers(2, 40)
dims = st.integers(1, 7)
levels = st.lists(st.integers(3, 9), min_size=1, max_size=5)

plain = st.one_of(
    st.builds(GQ, small, st.integers(1, 9)),
    st.builds(LFQ, st.integers(1, 9), small, bit_order=st.sampled_from(["lsb", "msb"])),
    st.builds(LFQ, st.integers(1, 9), small, spherical=st.just(True), soft_clamp=st.just(2.0)),
    st.builds(BSQ, small, st.integers(1, 9), normalize=st.booleans()),
    st.builds(
        FSQ,
        levels,
        bound=st.sampled_from(["paper", "vqp", "symmetric", "clamped"]),
        factorized=st.booleans(),
    ),
    st.builds(VQ, dims, sizes, rotation=st.booleans(), joint_weight=st.sampled_from([0, 1])),
    st.builds(VQ, st.integers(2, 7), sizes, cosine=st.just(True)),
    st.builds(ClusteringVQ, dims, sizes),
    st.builds(EMAVQ, dims, sizes, rotation=st.booleans()),
    st.builds(EMAVQ, st.integers(2, 7), sizes, cosine=st.just(True)),
    st.builds(SimVQ, dims, sizes, rotation=st.booleans()),
    st.builds(IBQ, dims, sizes),
    st.builds(
        lambda parts: ProductQuantizer([FSQ(n) for n in parts] + [VQ(3, 10)]),
        st.lists(levels, min_size=1, max_size=3),
    ),
    st.builds(lambda n, d, k: SharedProductQuantizer(EMAVQ(d, k), n), small, dims, sizes),
    st.builds(lambda n, d, k: MultiCodebookVQ(n * d, k, n), small, dims, sizes),
    st.builds(residual_lfq, st.integers(1, 6), small),
    st.builds(residual_fsq, levels, st.integers(1, 3)),
)
residual = st.one_of(
    st.builds(
        lambda d, ks, ste: ResidualQuantizer([EMAVQ(d, k) for k in ks], ste=ste),
        dims,
        st.lists(sizes, min_size=1, max_size=4),
        st.sampled_from(["once", "per_level"]),
    ),
    st.builds(lambda d, k, n: ResidualQuantizer([VQ(d, k)], num_levels=n), dims, sizes, small),
    st.builds(lambda d, k, n: ResidualQuantizer([EMAVQ(d, k)], num_levels=n), dims, sizes, small),
)
shapes = st.lists(st.integers(1, 4), max_size=3)
checked = settings(deadline=None, max_examples=60)


def vectors(quantizer: Quantizer, shape: list[int], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, quantizer.dim, generator=generator)


@checked
@given(st.one_of(plain, residual), shapes, st.integers(0, 2**31), st.booleans())
def test_output_is_the_code_of_the_indices(quantizer, shape, seed, training):
    quantizer.train(training)
    if isinstance(quantizer, (ClusteringVQ, EMAVQ, SharedProductQuantizer, ResidualQuantizer)):
        quantizer.eval()  # their codebooks move after a training step
    z = vectors(quantizer, shape, seed)
    out = quantizer(z)
    assert out.z_q.shape == z.shape
    assert out.indices.dtype == torch.int64
    assert out.indices.shape == (*shape, len(quantizer.vocab_sizes))
    assert torch.equal(out.z_q, quantizer.indices_to_codes(out.indices))
    assert bool(out.losses) == (quantizer.training and bool(out.losses))


@checked
@given(plain, shapes, st.integers(0, 2**31))
def test_every_index_survives_the_round_trip_through_codes(quantizer, shape, seed):
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(k, shape, generator=generator) for k in quantizer.vocab_sizes]
    indices = torch.stack(columns, dim=-1)
    codes = quantizer.indices_to_codes(indices)
    assert codes.shape == (*shape, quantizer.dim)
    found = quantizer.codes_to_indices(codes)
    assert torch.equal(found, indices)
    assert torch.equal(quantizer.indices_to_codes(found), codes)


@checked
@given(residual, shapes, st.integers(0, 2**31))
def test_residual_sums_come_back_or_are_refused(quantizer, shape, seed):
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(k, shape, generator=generator) for k in quantizer.vocab_sizes]
    codes = quantizer.indices_to_codes(torch.stack(columns, dim=-1))
    try:
        found = quantizer.codes_to_indices(codes)
    except ShapeError:
        return
    torch.testing.assert_close(quantizer.indices_to_codes(found), codes, atol=1e-4, rtol=1e-3)


@checked
@given(st.one_of(plain, residual))
def test_bits_are_the_logarithms_of_the_alphabets(quantizer):
    assert quantizer.bits_per_token == pytest.approx(
        math.log2(math.prod(quantizer.vocab_sizes)), rel=1e-9
    )
    assert not quantizer.is_continuous


@checked
@given(st.one_of(plain, residual), st.integers(0, 2**31))
def test_half_precision_under_autocast_computes_in_float32(quantizer, seed):
    quantizer.eval()
    z = vectors(quantizer, [6], seed).bfloat16()
    exact = quantizer(z.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quantizer(z)
    assert out.z_q.dtype == torch.bfloat16
    assert torch.equal(out.indices, exact.indices)
    assert torch.equal(out.z_q, exact.z_q.bfloat16())


@checked
@given(st.one_of(plain, residual), st.integers(0, 2**31))
def test_evaluation_changes_nothing_and_costs_nothing(quantizer, seed):
    quantizer.eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    z = vectors(quantizer, [5], seed)
    first, second = quantizer(z), quantizer(z)
    assert first.losses == {} and first.loss.item() == 0
    assert torch.equal(first.z_q, second.z_q)
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name])


@checked
@given(st.one_of(plain, residual), st.integers(0, 2**31))
def test_gradients_reach_the_input_and_every_parameter(quantizer, seed):
    z = vectors(quantizer, [16], seed).requires_grad_()
    out = quantizer(z)
    assert all(not value.requires_grad for value in out.stats.values())
    (out.loss + (out.z_q * torch.arange(quantizer.dim)).sum()).backward()
    assert torch.isfinite(z.grad).all()
    for name, parameter in quantizer.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@checked
@given(st.one_of(plain, residual), shapes)
def test_a_batch_equals_its_pictures_one_by_one(quantizer, shape):
    quantizer.eval()
    z = vectors(quantizer, [3, *shape], 1)
    together = quantizer(z).indices
    apart = torch.cat([quantizer(row).indices for row in z.split(1)])
    assert torch.equal(together, apart)


def test_projected_codes_come_back_where_the_projection_can_be_undone(generator):
    wide = ProjectedQuantizer(FSQ((5, 4, 3)), 8).eval()
    indices = torch.randint(60, (4, 5, 1), generator=generator)
    assert torch.equal(wide.codes_to_indices(wide.indices_to_codes(indices)), indices)
    narrow = ProjectedQuantizer(GQ(2, 4), 3)
    with pytest.raises(ShapeError, match="cannot be undone"):
        narrow.codes_to_indices(torch.randn(4, 3))


def test_projection_trains_both_maps(generator):
    quantizer = ProjectedQuantizer(VQ(3, 10), 8)
    out = quantizer(torch.randn(5, 8, generator=generator))
    (out.loss + out.z_q.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in quantizer.parameters())


@pytest.mark.parametrize("quantizer", [GQ(2, 4), VQ(8, 10), FSQ((5, 5)), residual_lfq(3, 2)])
def test_bad_input_is_refused_with_what_was_expected(quantizer):
    with pytest.raises(ShapeError, match=rf"\(\.\.\., {quantizer.dim}\)"):
        quantizer(torch.randn(2, quantizer.dim + 1))
    with pytest.raises(ShapeError, match="expected floats"):
        quantizer(torch.zeros(2, quantizer.dim, dtype=torch.int64))
    with pytest.raises(ShapeError, match="expected integers"):
        quantizer.indices_to_codes(torch.zeros(2, quantizer.groups))
    with pytest.raises(ShapeError, match="expected"):
        quantizer.indices_to_codes(torch.zeros(2, quantizer.groups + 1, dtype=torch.int64))
    too_large = torch.tensor([quantizer.vocab_sizes])
    with pytest.raises(ShapeError, match="alphabets"):
        quantizer.indices_to_codes(too_large)
    with pytest.raises(ShapeError, match="alphabets"):
        quantizer.indices_to_codes(torch.full((1, quantizer.groups), -2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: VQ(4, 1),
        lambda: VQ(0, 8),
        lambda: FSQ(()),
        lambda: FSQ((1, 5)),
        lambda: FSQ((2, 5), bound="vqp"),
        lambda: FSQ((5, 5), bound="round"),
        lambda: FSQ((5, 5), scale=(1.0,)),
        lambda: FSQ((60_000,) * 4),
        lambda: LFQ(4, bit_order="first"),
        lambda: LFQ(4, soft_clamp=0.0),
        lambda: LFQ(4, scale=-1.0),
        lambda: EMAConfig(decay=1.0),
        lambda: EMAConfig(kmeans_iterations=-1),
        lambda: ProductQuantizer([]),
        lambda: SharedProductQuantizer(VQ(2, 4), 0),
        lambda: ResidualQuantizer([VQ(2, 4), VQ(3, 4)]),
        lambda: ResidualQuantizer([VQ(2, 4), VQ(2, 4)], num_levels=3),
        lambda: ResidualQuantizer([VQ(2, 4)], ste="none"),
        lambda: ResidualQuantizer([VQ(2, 4)], dropout=LevelDropout(min_levels=2)),
        lambda: ResidualQuantizer([VQ(2, 4)], soft_clamp=[1.0]),
        lambda: LevelDropout(min_levels=0),
    ],
)
def test_impossible_settings_are_refused_at_construction(make):
    with pytest.raises(ConfigError, match="given"):
        make()
