"""Codes a map of bitwise tokens with a :class:`BitModel` that goes on learning as it codes.

A group is coded in bands of 128 rows, a band in steps t = 0, 1, ...: step t holds the positions
``x + (r + 1) y = t`` of the band (r is the causal radius), top to bottom, so that all their causal
neighbours are done. The positions of a step do not depend on each other and are evaluated together.
Their bits are coded in chunks of four: first bits 0 to 3 of each position, one position after
another, then bits 4 to 7 of each, and so on.

After each step the weights follow the gradient of the code length. With the error
``e = 2^16 bit - (2^16 - f0)`` of each bit, f0 the frequency of a 0 it was coded with::

    U += (sum h e) rate0 / 2^24      T, c += (sum y e) rate1 / 2^16,  (sum e) rate1 / 2^16

kept with 16 fractional bits (the first product is shifted down by 8, rounding to minus infinity),
rounded half up for use, and clipped to +-2^20. In steps of n > 32 positions each sum is first
replaced by ``floor(32 sum / n)``. Each group starts from the shipped weights.

Absent tokens of a ragged level are not coded: a step then holds the other positions only, and the
bits of an absent neighbour are 0, as outside the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.entropy.bit_model import (
    HIDDEN_MAX,
    HIDDEN_SHIFT,
    LOGIT_BITS,
    LOGIT_CLIP,
    SOFTMAX_BITS,
    BitModel,
    BitModelSpec,
    GroupNet,
    zero_frequencies,
)
from tessella.codecs.entropy.range_coder import BINARY_BITS, RangeDecoder, RangeEncoder
from tessella.codecs.entropy.segments import run_groups
from tessella.codecs.stored_layout import Run, StoredLevel
from tessella.tokens import ABSENT

BAND_ROWS = 128
CHUNK_BITS = 4

_FRACTION = 16
_GRADIENT_SHIFT = 8
_MOST_SUMMED = 32  # a longer sum, taken at once, would overshoot
_WEIGHT_CLIP = 1 << 20 + _FRACTION
_DROPPED = LOGIT_BITS - SOFTMAX_BITS
# makes a shifted logit the index of its frequency, rounded half up
_LOGIT_OFFSET = (LOGIT_CLIP << _DROPPED) + (1 << _DROPPED - 1)

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class _Step(NamedTuple):
    """Positions coded together: places in the band, in its padded plane, of their neighbours."""

    flat: Ints
    padded: Ints
    neighbours: Ints

    def of(self, is_here: NDArray[np.bool_]) -> _Step:
        """Return the step of the positions that have a token, ``(positions,)`` of the band."""
        return _Step(*(part[is_here[self.flat]] for part in self))


class BitState:
    """Codes the groups of one level, most important first.

    Args:
        model: the context model.
        level: a map that the model suits.
        values: ``(positions, G)``, read when encoding and filled when decoding; absent tokens are
            marked in both.
    """

    def __init__(self, model: BitModel, level: StoredLevel, values: Ints) -> None:
        self._shape = model.shape
        self._nets = model.nets
        self._level = level
        self._height, self._width = level.grid[0], level.grid[-1]
        self._values = values.reshape(self._height, self._width, -1)
        self._table = zero_frequencies()
        self._steps: dict[int, list[_Step]] = {}

    def costly_symbols(self, run: Run) -> int:
        """Count the tokens of a run: none is nearly free, since logits are clipped."""
        groups = run_groups(run, self._level)
        values = self._values.reshape(-1, self._values.shape[-1])[run.start : run.stop]
        return int((values[:, groups.start : groups.stop] != ABSENT).sum())

    def encode(self, run: Run, encoder: RangeEncoder) -> None:
        """Encode the groups of a run, one after another."""
        for g in run_groups(run, self._level):
            for _, y, zeros in self._coded(g):
                for start in range(0, y.shape[1], CHUNK_BITS):
                    chunk = np.s_[:, start : start + CHUNK_BITS]
                    bits = (y[chunk] > 0).ravel().tolist()
                    encoder.encode_bits(bits, zeros[chunk].ravel().tolist())

    def code_lengths(self, group: int) -> Doubles:
        """Return the bits ``(positions,)`` that the tokens of a group cost; 0 where absent."""
        lengths = np.zeros(self._height * self._width)
        for places, y, zeros in self._coded(group):
            taken = np.where(y > 0, (1 << BINARY_BITS) - zeros, zeros)
            lengths[places] = (BINARY_BITS - np.log2(taken)).sum(axis=1)
        return lengths

    def _coded(self, g: int) -> Iterator[tuple[Ints, Floats, Ints]]:
        """Yield of each step the positions, the bits as signs, and the frequencies of a 0."""
        weights = _Weights(self._nets[g])
        for top in range(0, self._height, BAND_ROWS):
            band = self._band(g, top)
            tokens = self._values[top : top + band.rows, :, g]
            band.fill(tokens)
            for step in self._steps_here(tokens):
                hidden, logits = band.evaluate(step, weights)
                y = band.own.take(step.padded, axis=0)
                zeros = self._frequencies_of(logits, y, weights)
                yield step.flat + top * self._width, y, zeros
                weights.learn(hidden, y, zeros)

    def decode(self, run: Run, decoder: RangeDecoder) -> None:
        """Decode the groups of a run."""
        for g in run_groups(run, self._level):
            weights = _Weights(self._nets[g])
            for top in range(0, self._height, BAND_ROWS):
                band = self._band(g, top)
                target = self._values[top : top + band.rows, :, g]
                for step in self._steps_here(target):
                    hidden, logits = band.evaluate(step, weights)
                    y = self._decode_step(logits, weights, decoder)
                    band.own[step.padded] = y
                    weights.learn(hidden, y, self._frequencies_of(logits, y, weights))
                np.copyto(target, band.tokens(), where=target != ABSENT)

    def _decode_step(self, logits: Ints, weights: _Weights, decoder: RangeDecoder) -> Doubles:
        y = np.zeros(logits.shape)
        for start in range(0, logits.shape[1], CHUNK_BITS):
            stop = min(start + CHUNK_BITS, logits.shape[1])
            tree = _TREES[stop - start]
            known = logits[:, start:stop]
            if start:
                known = known + (y[:, :start] @ weights.within[:start, start:stop]).astype(np.int64)
            # the logit of every node of the tree of this chunk's bits, whatever is decoded
            inside = (tree.lower @ weights.within[start:stop, start:stop]).astype(np.int64)
            nodes = known.take(tree.bit, axis=1) + inside[tree.node, tree.bit]
            rows = self._table.take(nodes >> _DROPPED, mode="clip").tolist()
            y[:, start:stop] = tree.signs.take(decoder.decode_trees(rows, stop - start), axis=0)
        return y

    def _frequencies_of(self, logits: Ints, y: NDArray[np.floating], weights: _Weights) -> Ints:
        exact = logits + (y @ weights.within).astype(np.int64)
        return self._table.take(exact >> _DROPPED, mode="clip")

    def _steps_here(self, tokens: Ints) -> list[_Step]:
        """Return the steps of the positions of a band ``(rows, width)`` that have a token."""
        steps = self._steps_of(len(tokens))
        is_here = tokens.ravel() != ABSENT
        if is_here.all():
            return steps
        return [step.of(is_here) for step in steps if is_here[step.flat].any()]

    def _steps_of(self, rows: int) -> list[_Step]:
        if rows not in self._steps:
            self._steps[rows] = list(_steps(rows, self._width, self._shape))
        return self._steps[rows]

    def _band(self, group: int, top: int) -> _Band:
        shape, net = self._shape, self._nets[group]
        rows = min(BAND_ROWS, self._height - top)
        above = self._values[max(0, top - shape.causal_radius) : top, :, group]
        features = shape.features(group)[0]
        base = self._earlier(group, top, rows, net.stacked[:features]) + net.stacked_bias
        base[..., : shape.hidden] += 1 << HIDDEN_SHIFT - 1
        base[..., shape.hidden :] += _LOGIT_OFFSET
        return _Band(shape, group, base, net.stacked[features:], above)

    def _earlier(self, group: int, top: int, rows: int, weights: Floats) -> Floats:
        """Return what the earlier groups contribute to a band, ``(rows, width, H + k)``."""
        total = np.zeros((rows, self._width, weights.shape[1]), dtype=np.float32)
        if group == 0:
            return total
        shape, r = self._shape, self._shape.earlier_radius
        first, last = max(0, top - r), min(self._height, top + rows + r)
        channels = sum(shape.group_bits[:group])
        plane = np.zeros((rows + 2 * r, self._width + 2 * r, channels), dtype=np.float32)
        inner = plane[first - top + r : last - top + r, r : r + self._width]
        column = 0
        for g, bits in enumerate(shape.group_bits[:group]):
            inner[..., column : column + bits] = _signs(self._values[first:last, :, g], bits)
            column += bits
        for i, (dy, dx) in enumerate(shape.earlier_offsets):
            shifted = plane[r + dy : r + dy + rows, r + dx : r + dx + self._width]
            total += shifted @ weights[i * channels : (i + 1) * channels]
        return total


def _steps(rows: int, width: int, shape: BitModelSpec) -> Iterator[_Step]:
    radius = shape.causal_radius
    lag, stride = radius + 1, width + 2 * radius
    offsets = np.array([dy * stride + dx for dy, dx in shape.causal_offsets])
    for t in range(width + lag * (rows - 1)):
        y = np.arange(max(0, -(-(t - width + 1) // lag)), min(rows - 1, t // lag) + 1)
        if y.size:
            x = t - lag * y
            padded = (y + radius) * stride + x + radius
            yield _Step(y * width + x, padded, padded[:, None] + offsets)


class _Tree(NamedTuple):
    """The binary decisions of ``n`` bits as a heap: node 1 is the first, 2 m + b follows m.

    Args:
        node: the number of each node, itself; node 0 is not used.
        bit: which bit a node decides.
        lower: ``(2^n, n)``, the signs of the bits before it, 0 for itself and later ones.
        signs: ``(2^(n+1), n)``, for each leaf ``2^n + ...`` the signs of all bits.
    """

    node: Ints
    bit: Ints
    lower: Doubles
    signs: Doubles


def _tree(bits: int) -> _Tree:
    lower = np.zeros((1 << bits, bits))
    signs = np.zeros((2 << bits, bits))
    depth = np.zeros(1 << bits, dtype=np.int64)
    for m in range(1, 2 << bits):
        level = m.bit_length() - 1
        path = [2 * (m >> level - 1 - i & 1) - 1 for i in range(level)]
        if level < bits:
            depth[m] = level
            lower[m, :level] = path
        else:
            signs[m] = path
    return _Tree(np.arange(1 << bits), depth, lower, signs)


_TREES = {bits: _tree(bits) for bits in range(1, CHUNK_BITS + 1)}


class _Band:
    """A few rows of one group, and what is known of them before and while they are coded.

    Args:
        shape: of the model.
        group: which one.
        base: ``(rows, width, H + k)``, the contribution of earlier groups and biases.
        causal: ``(F', H + k)``, the weights of causal features.
        above: tokens ``(up to r, width)`` of the rows above.
    """

    def __init__(
        self, shape: BitModelSpec, group: int, base: Floats, causal: Floats, above: Ints
    ) -> None:
        self.rows, self._width, columns = base.shape
        self._hidden = shape.hidden
        self._bits = shape.group_bits[group]
        self._base = base.reshape(-1, columns)
        self._causal = causal
        r = self._radius = shape.causal_radius
        self._plane = np.zeros((self.rows + r, self._width + 2 * r, self._bits), dtype=np.float32)
        self._plane[r - len(above) : r, r : r + self._width] = _signs(above, self._bits)
        self.own = self._plane.reshape(-1, self._bits)

    def fill(self, tokens: Ints) -> None:
        """Set all tokens ``(rows, width)``; the model looks at preceding ones only."""
        r = self._radius
        self._plane[r:, r : r + self._width] = _signs(tokens, self._bits)

    def tokens(self) -> Ints:
        """Return the tokens ``(rows, width)``."""
        r = self._radius
        ones = self._plane[r:, r : r + self._width] > 0
        tokens: Ints = (ones.astype(np.int64) << np.arange(self._bits)).sum(axis=-1)
        return tokens

    def evaluate(self, step: _Step, weights: _Weights) -> tuple[Doubles, Ints]:
        """Return hidden units ``(n, H)`` and logits ``(n, k)`` before the token's own bits.

        Logits are already offset, so that shifting makes them places in the table.
        """
        near = self.own.take(step.neighbours, axis=0).reshape(len(step.flat), -1)
        sums = near @ self._causal
        sums += self._base.take(step.flat, axis=0)
        # floor and clip what float32 holds exactly; far beyond the clip it need not be exact
        hidden = np.floor(sums[:, : self._hidden] * (1 / (1 << HIDDEN_SHIFT)))
        np.minimum(np.maximum(hidden, 0, out=hidden), HIDDEN_MAX, out=hidden)
        exact = hidden.astype(np.float64)
        return exact, sums[:, self._hidden :].astype(np.int64) + weights.output(exact)


class _Weights:
    """The weights of one group that learn while a picture is coded: rows of U, T and c."""

    def __init__(self, net: GroupNet) -> None:
        hidden, bits = net.second.shape
        upper = np.triu(np.ones((bits, bits), dtype=np.int64), 1)
        start = np.zeros((hidden + bits + 1, bits), dtype=np.int64)  # c itself is in the base
        start[:hidden] = net.second
        start[hidden:-1] = net.within * upper
        rates = np.full_like(start, net.rates[1] << _GRADIENT_SHIFT)
        rates[:hidden] = net.rates[0]
        rates[hidden:-1] *= upper
        self._hidden = hidden
        self._shift = net.shift
        self._rates = rates
        self._exact = start << _FRACTION
        self._use()

    def output(self, hidden: Doubles) -> Ints:
        """Return what hidden units and the learnt change of biases add to the logits."""
        products = (hidden @ self._second).astype(np.int64)
        return (products + (1 << self._shift - 1) >> self._shift) + self._bias

    def learn(self, hidden: Doubles, y: NDArray[np.floating], zeros: Ints) -> None:
        """Follow the gradient of the code length of one step."""
        n, k = y.shape
        features = np.empty((n, self._hidden + k + 1))
        features[:, : self._hidden] = hidden
        features[:, self._hidden : -1] = y
        features[:, -1] = 1
        error = zeros + np.where(y > 0, 0.0, -65536.0)
        gradient = (features.T @ error).astype(np.int64)
        if n > _MOST_SUMMED:
            gradient = gradient * _MOST_SUMMED // n
        self._exact += gradient * self._rates >> _GRADIENT_SHIFT
        np.minimum(self._exact, _WEIGHT_CLIP, out=self._exact)
        np.maximum(self._exact, -_WEIGHT_CLIP, out=self._exact)
        self._use()

    def _use(self) -> None:
        rounded = self._exact + (1 << _FRACTION - 1) >> _FRACTION
        self._second: Doubles = rounded[: self._hidden].astype(np.float64)
        self.within: Doubles = rounded[self._hidden : -1].astype(np.float64)
        self._bias: Ints = rounded[-1]


def _signs(tokens: Ints, bits: int) -> NDArray[np.int8]:
    """Return the bits ``(..., bits)`` of tokens as -1 and +1, least significant first.

    Those of an absent token are 0.
    """
    signs = np.empty((*tokens.shape, bits), dtype=np.int8)
    for j in range(bits):
        signs[..., j] = tokens >> j & 1
    signs = 2 * signs - 1
    signs[tokens == ABSENT] = 0
    return signs


__all__ = ["BAND_ROWS", "BitState"]
