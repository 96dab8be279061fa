"""Rule Q, the integer softmax and signed values."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessella.codecs.entropy.exp_lut import EXP_LUT
from tessella.codecs.entropy.range_coder import RangeDecoder, RangeEncoder
from tessella.codecs.entropy.signed import decode_signed, encode_signed
from tessella.codecs.entropy.tables import (
    precision,
    rule_q,
    softmax_weights,
    table_from_frequencies,
    table_from_weights,
)
from tessella.errors import ShapeError


def test_softmax_table_is_exact() -> None:
    with mpmath.workdps(50):
        exact = [
            int(mpmath.floor(2**24 * mpmath.exp(mpmath.mpf(-j) / 64) + mpmath.mpf(1) / 2))
            for j in range(len(EXP_LUT) + 1)
        ]
    assert list(EXP_LUT) == exact[:-1]
    assert exact[-2] == 1 and EXP_LUT[-1] == 1


def test_softmax_weights_are_zero_far_from_the_largest() -> None:
    assert softmax_weights([[5, 5 - 64], [0, -5000]]).tolist() == [
        [2**24, round(2**24 / math.e)],
        [2**24, 0],
    ]


@given(
    st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=300),
    st.integers(9, 28),
)
@settings(max_examples=100, deadline=None)
def test_rule_q_equals_exact_fractions(weights: list[int], bits: int) -> None:
    n, total = len(weights), sum(weights)
    w = weights if total else [1] * n
    expected = [1 + math.floor(Fraction(v * ((1 << bits) - n), sum(w))) for v in w]
    expected[w.index(max(w))] += (1 << bits) - sum(expected)
    assert rule_q(weights, bits).tolist() == expected
    assert min(expected) >= 1


def test_precision_is_clamped() -> None:
    assert [precision(n) for n in (2, 64, 65, 4096, 2**18, 2**24)] == [16, 16, 17, 22, 28, 28]


@pytest.mark.parametrize(
    ("weights", "bits"), [([], 16), ([-1, 2], 16), ([2**31], 16), ([1] * 5, 2), ([[1]], 16)]
)
def test_bad_weights_are_refused(weights: list, bits: int) -> None:
    with pytest.raises(ShapeError):
        rule_q(weights, bits)


def test_frequencies_must_fill_the_slots() -> None:
    for bad in ([0, 65536], [1, 2], []):
        with pytest.raises(ShapeError):
            table_from_frequencies(bad, 16)


@given(
    st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-20, 20), max_size=80),
    st.integers(0, 4),
)
@settings(max_examples=100, deadline=None)
def test_signed_values_round_trip(values: list[int], range_bits: int) -> None:
    table = table_from_weights(np.arange(1, (2 << range_bits) + 2))
    encoder = RangeEncoder()
    encode_signed(encoder, values, table)
    decoder = RangeDecoder(encoder.finish())
    assert decode_signed(decoder, len(values), table) == values
    decoder.check_end()


def test_escapes_cost_their_exp_golomb_length() -> None:
    # u = 2 (v - M) = 2^k - 1 - ... : n = floor(log2(u + 1)) zeros and n + 1 digits
    table = table_from_frequencies([1, 1, 65534], 16)  # M = 1; the escape is almost free
    for value, code in ((1, 0), (2, 2), (-2, 1), (-3, 3), (1000, 1998)):
        encoder = RangeEncoder()
        encode_signed(encoder, [value] * 800, table)
        bits = 2 * math.floor(math.log2(code + 1)) + 1
        assert abs(len(encoder.finish()) - 100 * bits) <= 2
