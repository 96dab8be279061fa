"""Codes a map of bitwise tokens with a :class:`BitModel` that goes on learning as it codes.

A group is coded in bands of 128 rows, a band in steps t = 0, 1, ...: step t holds the positions
``x + (r + 1) y = t`` of the band (r is the causal radius), top to bottom, so that all their causal
neighbours are done. Within a step bit 0 of all positions comes first, then bit 1, and so on; the
positions of a step are therefore independent and are evaluated together.

After each step the weights follow the gradient of the code length. With the error
``e = 2^16 bit - (2^16 - f0)`` of each bit, f0 the frequency of a 0 it was coded with::

    U += (sum h e) rate0 / 2^24      T, c += (sum y e) rate1 / 2^16,  (sum e) rate1 / 2^16

kept with 16 fractional bits (the first product is shifted down by 8, rounding to minus infinity),
rounded half up for use, and clipped to +-2^20. Each group starts from the shipped weights.
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
    GroupNet,
    zero_frequencies,
)
from tessella.codecs.entropy.range_coder import RangeDecoder, RangeEncoder
from tessella.codecs.entropy.segments import run_groups
from tessella.codecs.stored_layout import Run, StoredLevel

BAND_ROWS = 128

_FRACTION = 16
_SECOND_SHIFT = 8
_WEIGHT_CLIP = 1 << 20
_DROPPED = LOGIT_BITS - SOFTMAX_BITS
_CHUNK_FEATURES = 1 << 22

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class _Step(NamedTuple):
    """Positions coded together: their place in the band and in its padded plane."""

    flat: Ints
    padded: Ints


class BitState:
    """Codes the groups of one level, most important first.

    Args:
        model: the context model.
        level: a map that the model suits.
        values: ``(positions, G)``, read when encoding and filled when decoding.
    """

    def __init__(self, model: BitModel, level: StoredLevel, values: Ints) -> None:
        self._shape = model.shape
        self._nets = model.nets
        self._level = level
        self._height, self._width = level.grid[0], level.grid[-1]
        self._values = values.reshape(self._height, self._width, -1)
        self._frequencies = zero_frequencies()

    def costly_symbols(self, run: Run) -> int:
        """Count the tokens of a run: none is nearly free, since logits are clipped."""
        return (run.stop - run.start) * len(run_groups(run, self._level))

    def encode(self, run: Run, encoder: RangeEncoder) -> None:
        """Encode the groups of a run, one after another."""
        for g in run_groups(run, self._level):
            weights = _Weights(self._nets[g])
            for top in range(0, self._height, BAND_ROWS):
                band = self._band(g, top)
                bits = _bits(self._values[top : top + band.rows, :, g], band.width_bits)
                band.own[band.inner] = 2 * bits - 1
                signs = (2 * bits - 1).reshape(-1, band.width_bits)
                for step in band.steps():
                    hidden, logits = band.evaluate(step, weights)
                    y = signs[step.flat].astype(np.int64)
                    zeros = self._zero_frequencies(logits + y @ weights.within)
                    ones = (y.T > 0).astype(np.int64)
                    encoder.encode_bits(ones.ravel().tolist(), zeros.T.ravel().tolist())
                    weights.learn(hidden, y, zeros)

    def decode(self, run: Run, decoder: RangeDecoder) -> None:
        """Decode the groups of a run."""
        for g in run_groups(run, self._level):
            weights = _Weights(self._nets[g])
            for top in range(0, self._height, BAND_ROWS):
                band = self._band(g, top)
                own = band.own.reshape(-1, band.width_bits)
                for step in band.steps():
                    hidden, logits = band.evaluate(step, weights)
                    y, zeros = self._decode_step(logits, weights.within, decoder)
                    own[step.padded] = y
                    weights.learn(hidden, y, zeros)
                self._values[top : top + band.rows, :, g] = _tokens(band.own[band.inner])

    def _decode_step(
        self, logits: Ints, within: Ints, decoder: RangeDecoder
    ) -> tuple[Ints, Ints]:
        y = np.empty_like(logits)
        zeros = np.empty_like(logits)
        for j in range(logits.shape[1]):
            zeros[:, j] = self._zero_frequencies(logits[:, j])
            bits = decoder.decode_bits(zeros[:, j].tolist())
            y[:, j] = bits
            y[:, j] = 2 * y[:, j] - 1
            if j + 1 < logits.shape[1]:
                logits[:, j + 1 :] += y[:, j : j + 1] * within[j, j + 1 :]
        return y, zeros

    def _zero_frequencies(self, logits: Ints) -> Ints:
        rounded = (logits + (1 << _DROPPED - 1)) >> _DROPPED
        return self._frequencies[np.clip(rounded, -LOGIT_CLIP, LOGIT_CLIP) + LOGIT_CLIP]

    def _band(self, group: int, top: int) -> _Band:
        shape = self._shape
        rows = min(BAND_ROWS, self._height - top)
        above = min(top, shape.causal_radius)
        width_bits = shape.group_bits[group]
        band = _Band(rows, self._width, shape.causal_radius, shape.causal_offsets, width_bits)
        if above:
            before = _bits(self._values[top - above : top, :, group], width_bits)
            r = shape.causal_radius
            band.own[r - above : r, r : r + self._width] = 2 * before - 1
        net = self._nets[group]
        features = shape.features(group)[0]
        band.causal = net.stacked[features:]
        band.base = self._earlier(group, top, rows, net.stacked[:features]) + net.stacked_bias
        band.hidden = shape.hidden
        return band

    def _earlier(self, group: int, top: int, rows: int, weights: Floats) -> Floats:
        """Return what the earlier groups contribute to a band, ``(rows * width, H + k)``."""
        total = np.zeros((rows * self._width, weights.shape[1]), dtype=np.float32)
        if group == 0:
            return total
        shape, r = self._shape, self._shape.earlier_radius
        first, last = max(0, top - r), min(self._height, top + rows + r)
        channels = sum(shape.group_bits[:group])
        plane = np.zeros((rows + 2 * r, self._width + 2 * r, channels), dtype=np.float32)
        inner = plane[first - top + r : last - top + r, r : r + self._width]
        column = 0
        for g, bits in enumerate(shape.group_bits[:group]):
            inner[..., column : column + bits] = _bits(self._values[first:last, :, g], bits)
            column += bits
        inner *= 2
        inner -= 1
        for i, (dy, dx) in enumerate(shape.earlier_offsets):
            shifted = plane[r + dy : r + dy + rows, r + dx : r + dx + self._width]
            block = weights[i * channels : (i + 1) * channels]
            total += shifted.reshape(-1, channels) @ block
        return total


class _Band:
    """A few rows of one group, and what is known of them before and while they are coded."""

    base: Floats
    causal: Floats
    hidden: int

    def __init__(
        self,
        rows: int,
        width: int,
        radius: int,
        offsets: list[tuple[int, int]],
        width_bits: int,
    ) -> None:
        self.rows, self.width, self.width_bits = rows, width, width_bits
        self._lag = radius + 1
        self._radius = radius
        self._stride = width + 2 * radius
        self.own = np.zeros((rows + radius, self._stride, width_bits), dtype=np.int8)
        self.inner = np.s_[radius:, radius : radius + width]
        self._neighbours = np.array([dy * self._stride + dx for dy, dx in offsets])

    def steps(self) -> Iterator[_Step]:
        """Yield the positions of each step."""
        lag, width, radius = self._lag, self.width, self._radius
        for t in range(width + lag * (self.rows - 1)):
            y = np.arange(max(0, -(-(t - width + 1) // lag)), min(self.rows - 1, t // lag) + 1)
            if y.size:
                x = t - lag * y
                yield _Step(y * width + x, (y + radius) * self._stride + x + radius)

    def evaluate(self, step: _Step, weights: _Weights) -> tuple[NDArray[np.float64], Ints]:
        """Return hidden units ``(n, H)`` and logits ``(n, k)`` before the token's own bits."""
        own = self.own.reshape(-1, self.width_bits)
        near = own[step.padded[:, None] + self._neighbours].reshape(len(step.flat), -1)
        sums = (self.base[step.flat] + near.astype(np.float32) @ self.causal).astype(np.int64)
        h = (sums[:, : self.hidden] + (1 << HIDDEN_SHIFT - 1)) >> HIDDEN_SHIFT
        hidden = np.clip(h, 0, HIDDEN_MAX).astype(np.float64)
        return hidden, sums[:, self.hidden :] + weights.output(hidden)


class _Weights:
    """The weights of one group that learn while a picture is coded."""

    def __init__(self, net: GroupNet) -> None:
        self._shift = net.shift
        self._rates = net.rates
        self._upper = np.triu(np.ones(net.within.shape, dtype=np.int64), 1)
        self._second = net.second.astype(np.int64) << _FRACTION
        self._within = net.within.astype(np.int64) * self._upper << _FRACTION
        self._bias = np.zeros(net.bias.size, dtype=np.int64) # change of c, which is in the base
        self._refresh()

    def output(self, hidden: NDArray[np.float64]) -> Ints:
        """Return the part of the logits that hidden units and learnt biases contribute."""
        products = (hidden @ self._second_now).astype(np.int64)
        return ((products + (1 << self._shift - 1)) >> self._shift) + self._bias_now

    def learn(self, hidden: NDArray[np.float64], y: Ints, zeros: Ints) -> None:
        """Follow the gradient of the code length of one step."""
        if not any(self._rates):
            return
        error = (y > 0) * 65536 - (65536 - zeros)
        exact = error.astype(np.float64)
        second = (hidden.T @ exact).astype(np.int64)
        self._second += second * self._rates[0] >> _SECOND_SHIFT
        within = (y.astype(np.float64).T @ exact).astype(np.int64)
        self._within += within * self._upper * self._rates[1]
        self._bias += error.sum(axis=0) * self._rates[1]
        self._refresh()

    def _refresh(self) -> None:
        limit = _WEIGHT_CLIP << _FRACTION
        for array in (self._second, self._within, self._bias):
            np.clip(array, -limit, limit, out=array)
        half = 1 << _FRACTION - 1
        self._second_now = ((self._second + half) >> _FRACTION).astype(np.float64)
        self.within = (self._within + half) >> _FRACTION
        self._bias_now = (self._bias + half) >> _FRACTION


def _bits(tokens: Ints, width: int) -> NDArray[np.int8]:
    """Return the bits ``(..., width)`` of tokens, least significant first."""
    bits = np.empty((*tokens.shape, width), dtype=np.int8)
    for j in range(width):
        bits[..., j] = tokens >> j & 1
    return bits


def _tokens(signs: NDArray[np.int8]) -> Ints:
    tokens = np.zeros(signs.shape[:-1], dtype=np.int64)
    for j in range(signs.shape[-1]):
        tokens |= (signs[..., j] > 0).astype(np.int64) << j
    return tokens


__all__ = ["BAND_ROWS", "BitState"]
