"""The integer context model against a plain evaluation of its equations, value by value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tessella.codecs.entropy import bit_state
from tessella.codecs.entropy.bit_model import BitModel, BitModelSpec, GroupNet, zero_frequencies
from tessella.codecs.entropy.bit_state import BitState
from tessella.codecs.entropy.bit_training import BitTraining, fit_bit_model
from tessella.codecs.entropy.exp_lut import EXP_LUT
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.entropy.range_coder import RangeDecoder, RangeEncoder
from tessella.codecs.entropy.tables import rule_q, softmax_weights
from tessella.codecs.stored_layout import Run, StoredLevel
from tessella.errors import CheckpointError


def random_model(shape: BitModelSpec, seed: int) -> BitModel:
    rng = np.random.default_rng(seed)
    nets = []
    for g, bits in enumerate(shape.group_bits):
        features, hidden = sum(shape.features(g)), shape.hidden

        def draw(*size: int, top: int) -> NDArray[np.int16]:
            return rng.integers(-top, top + 1, size).astype(np.int16)

        nets.append(
            GroupNet(
                draw(features, hidden, top=900),
                draw(hidden, top=9000).astype(np.int32),
                draw(hidden, bits, top=30000),
                draw(features, bits, top=700),
                draw(bits, top=3000).astype(np.int32),
                draw(bits, bits, top=4000),
                int(rng.integers(8, 13)),
                (int(rng.integers(0, 4000)), int(rng.integers(0, 40))),
            )
        )
    return BitModel(shape, nets)


def random_map(shape: BitModelSpec, height: int, width: int, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, 1 << bits, (height, width)) for bits in shape.group_bits]
    tokens = np.stack(columns, axis=-1)
    tokens[:, width // 2 :] = tokens[:1, :1]  # half of it is flat
    return tokens


class PlainModel:
    """One group, one position and one bit at a time, in Python integers."""

    def __init__(self, model: BitModel, tokens: NDArray[np.int64], group: int) -> None:
        self.shape, self.net = model.shape, model.nets[group]
        self.tokens, self.group = tokens.tolist(), group
        self.height, self.width = tokens.shape[:2]
        k = self.shape.group_bits[group]
        self.second = [[int(v) << 16 for v in row] for row in self.net.second]
        self.within = [
            [int(v) << 16 if i < j else 0 for j, v in enumerate(row)]
            for i, row in enumerate(self.net.within)
        ]
        self.moved = [0] * k
        self.bits = k

    def sign(self, y: int, x: int, group: int, bit: int) -> int:
        if not (0 <= y < self.height and 0 <= x < self.width):
            return 0
        return 2 * (self.tokens[y][x][group] >> bit & 1) - 1

    def features(self, y: int, x: int) -> list[int]:
        shape, g = self.shape, self.group
        found = []
        if g:
            r = range(-shape.earlier_radius, shape.earlier_radius + 1)
            for dy in r:
                for dx in r:
                    for h in range(g):
                        for b in range(shape.group_bits[h]):
                            found.append(self.sign(y + dy, x + dx, h, b))
        r = range(-shape.causal_radius, shape.causal_radius + 1)
        for dy in r:
            for dx in r:
                if dy < 0 or (dy == 0 and dx < 0):
                    found += [self.sign(y + dy, x + dx, g, b) for b in range(self.bits)]
        return found

    @staticmethod
    def used(value: int) -> int:
        return (value + (1 << 15)) >> 16

    def frequency(self, logit: int) -> int:
        a = min(max((logit + 32) >> 6, -512), 512)
        w0, w1 = EXP_LUT[max(a, 0)], EXP_LUT[max(-a, 0)]
        f0 = 1 + w0 * 65534 // (w0 + w1)
        f1 = 1 + w1 * 65534 // (w0 + w1)
        return f0 + (65536 - f0 - f1) * (w0 >= w1)

    def position(self, y: int, x: int) -> tuple[list[int], list[int], list[int]]:
        net, k = self.net, self.bits
        xs = self.features(y, x)
        sums = [
            int(net.first_bias[i])
            + sum(v * int(w) for v, w in zip(xs, net.first[:, i], strict=True))
            for i in range(self.shape.hidden)
        ]
        h = [min(max((s + 16) >> 5, 0), 255) for s in sums]
        own = [self.sign(y, x, self.group, j) for j in range(k)]
        zeros = []
        for j in range(k):
            product = sum(v * self.used(row[j]) for v, row in zip(h, self.second, strict=True))
            logit = int(net.bias[j]) + self.used(self.moved[j])
            logit += sum(v * int(w) for v, w in zip(xs, net.direct[:, j], strict=True))
            logit += (product + (1 << net.shift - 1)) >> net.shift
            logit += sum(own[i] * self.used(self.within[i][j]) for i in range(j))
            zeros.append(self.frequency(logit))
        return h, own, zeros

    def code(self, encoder: RangeEncoder, band_rows: int) -> float:
        """Encode the group; return the ideal code length in bits."""
        total = 0.0
        lag = self.shape.causal_radius + 1
        for top in range(0, self.height, band_rows):
            rows = min(band_rows, self.height - top)
            for t in range(self.width + lag * rows):
                at = [(top + y, t - lag * y) for y in range(rows) if 0 <= t - lag * y < self.width]
                found = [self.position(y, x) for y, x in at]
                for chunk in range(0, self.bits, 4):
                    for _, own, zeros in found:
                        for j in range(chunk, min(chunk + 4, self.bits)):
                            encoder.encode_bits([own[j] > 0], [zeros[j]])
                            p = zeros[j] if own[j] < 0 else 65536 - zeros[j]
                            total -= np.log2(p / 65536)
                self.learn(found)
        return total

    def learn(self, found: list[tuple[list[int], list[int], list[int]]]) -> None:
        n = len(found)

        def clip(v: int) -> int:
            return min(max(v, -(1 << 36)), 1 << 36)

        def total(values: Iterable[int]) -> int:
            return sum(values) if n <= 32 else 32 * sum(values) // n

        for j in range(self.bits):
            errors = [65536 * (own[j] > 0) - (65536 - zeros[j]) for _, own, zeros in found]
            for i, row in enumerate(self.second):
                change = total(h[i] * e for (h, _, _), e in zip(found, errors, strict=True))
                row[j] = clip(row[j] + (change * self.net.rates[0] >> 8))
            for i in range(j):
                change = total(own[i] * e for (_, own, _), e in zip(found, errors, strict=True))
                self.within[i][j] = clip(self.within[i][j] + change * self.net.rates[1])
            self.moved[j] = clip(self.moved[j] + total(errors) * self.net.rates[1])


SHAPES = [
    BitModelSpec((3, 2), earlier_radius=1, causal_radius=2, hidden=3),
    BitModelSpec((2, 2, 4), earlier_radius=2, causal_radius=1, hidden=2),
    BitModelSpec((9,), earlier_radius=0, causal_radius=1, hidden=4),
]


CASES = [(shape, size, 3) for shape in SHAPES for size in [(7, 6), (1, 9), (8, 1), (4, 2)]]
LONG_STEPS = (BitModelSpec((2,), causal_radius=1, hidden=2), (45, 100), bit_state.BAND_ROWS)


@pytest.mark.parametrize(("shape", "size", "band_rows"), [*CASES, LONG_STEPS])
def test_equals_plain_evaluation(
    shape: BitModelSpec, size: tuple[int, int], band_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bit_state, "BAND_ROWS", band_rows)
    model = random_model(shape, seed=sum(size))
    tokens = random_map(shape, *size, seed=size[0])
    level = StoredLevel(size, tuple(1 << bits for bits in shape.group_bits), 0, "groups")
    values = tokens.reshape(-1, tokens.shape[-1])
    coder = BitState(model, level, values)
    decoded = np.zeros_like(values)
    reader = BitState(model, level, decoded)
    for g in range(len(shape.group_bits)):
        run = Run(0, g, 0, len(values))
        encoder, plain = RangeEncoder(), RangeEncoder()
        coder.encode(run, encoder)
        ideal = PlainModel(model, tokens, g).code(plain, band_rows)
        stream = encoder.finish()
        assert stream == plain.finish()
        assert len(stream) <= ideal / 8 + 1
        decoder = RangeDecoder(stream)
        reader.decode(run, decoder)
        decoder.check_end()
    assert np.array_equal(decoded, values)


@pytest.mark.parametrize("shape", [(7, 96, 72), (500, 600, 72), (1, 3000, 16)])
def test_float32_products_are_exact_up_to_the_bound(shape: tuple[int, int, int]) -> None:
    n, features, columns = shape
    rng = np.random.default_rng(n)
    weights = rng.integers(-(2**15), 2**15, (features, columns))
    # columns whose absolute values sum to 2^24 - 1, the most that a model may have
    sizes = np.abs(weights) * (2**24 - 1) // np.abs(weights).sum(axis=0)
    sizes[0] += 2**24 - 1 - sizes.sum(axis=0)
    weights = np.sign(weights) * sizes
    signs = rng.integers(-1, 2, (n, features))
    signs[0] = np.sign(weights[:, 0])  # the largest sum there can be
    product = signs.astype(np.float32) @ weights.astype(np.float32)
    assert np.array_equal(product.astype(np.int64), signs @ weights)


def test_frequencies_are_rule_q_of_the_integer_softmax() -> None:
    expected = [rule_q(softmax_weights([0, a]), 16)[0] for a in range(-512, 513)]
    assert zero_frequencies().tolist() == expected


def test_weights_that_float32_could_round_are_refused() -> None:
    net = random_model(SHAPES[2], 0).nets[0]
    features = net.first.shape[0]
    first = np.full(net.first.shape, 2**24 // features + 1, dtype=np.int32)
    with pytest.raises(CheckpointError, match=r"2\^24"):
        replace(net, first=first)
    with pytest.raises(CheckpointError, match="shift"):
        replace(net, shift=0)
    with pytest.raises(CheckpointError, match="shapes"):
        replace(net, bias=net.bias[:-1])
    with pytest.raises(CheckpointError, match="group networks"):
        BitModel(SHAPES[2], [])


def test_training_finds_structure_and_survives_saving(tmp_path: Path) -> None:
    # a token repeats its left neighbour, but for one bit in sixteen
    rng = np.random.default_rng(0)
    maps = []
    for _ in range(3):
        flips = (rng.random((24, 30, 4)) < 1 / 16) << np.arange(4)
        maps.append(np.bitwise_xor.accumulate(flips.sum(-1), axis=1)[..., None])
    shape = BitModelSpec((4,), causal_radius=1, hidden=8)
    model = fit_bit_model(
        maps[:2], shape, BitTraining(steps=80, batch_size=256, learning_rate=0.03)
    )
    prior = Prior({(0, 0): np.ones(16, dtype=np.int64)}, model)
    prior.save(tmp_path / "prior.safetensors")
    loaded = Prior.load(tmp_path / "prior.safetensors")
    assert loaded.identity == prior.identity
    assert loaded.bit_model is not None
    level = StoredLevel((24, 30), (16,))
    sizes = []
    for found in (model, loaded.bit_model):
        encoder = RangeEncoder()
        BitState(found, level, maps[2].reshape(-1, 1)).encode(Run(0, 0, 0, 720), encoder)
        sizes.append(len(encoder.finish()))
    entropy = 4 * (np.log2(16) / 16 + 15 / 16 * np.log2(16 / 15))  # bits a token
    assert sizes[0] == sizes[1]
    assert 0.9 * entropy < sizes[0] * 8 / 720 < 1.25 * entropy
