"""Fits the weights of a :class:`BitModel` to tokens and rounds them to integers.

Training is ordinary float training (Adam on the code length, a group at a time) and needs not be
reproducible: only the rounded integers ship, and only they are ever used for coding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tessella.codecs.entropy.bit_model import (
    HIDDEN_MAX,
    HIDDEN_SHIFT,
    LOGIT_BITS,
    MAX_RATE,
    BitModel,
    BitModelSpec,
    GroupNet,
)
from tessella.codecs.entropy.bit_state import BitState
from tessella.codecs.entropy.range_coder import RangeEncoder
from tessella.codecs.stored_layout import Run, StoredLevel
from tessella.errors import ShapeError

Progress = Callable[[int, int, float], None]
"""Called with group, step and the mean code length in bits a token since the last call."""

_INT16 = 32767
_LARGEST_SHIFT = 20
_STEP_SIZE = 0.1
_REPORT_EVERY = 100
_RATE_FACTORS = (0.0, 0.5, 1.0, 2.0, 4.0)
_RATE_MAPS = 8


@dataclass(frozen=True, slots=True)
class BitTraining:
    """How to fit a context model.

    Args:
        steps: optimizer steps for each group.
        batch_size: positions a step.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        seed: of the initial weights and the choice of positions.
    """

    steps: int = 2000
    batch_size: int = 4096
    learning_rate: float = 4e-3
    seed: int = 0


class BitPlanes:
    """Bits of many maps, flat and padded, so that neighbours are found by offsets.

    Args:
        maps: token maps ``(h, w, G)``, integers.
        shape: the context model's shape.
    """

    def __init__(self, maps: Sequence[NDArray[np.integer]], shape: BitModelSpec) -> None:
        pad = max(shape.earlier_radius, shape.causal_radius)
        self.shape = shape
        planes, positions, strides = [], [], []
        begin = 0
        for tokens in maps:
            plane = _signs(tokens, shape, pad)
            height, stride = plane.shape[:2]
            y, x = np.mgrid[pad : height - pad, pad : stride - pad]
            planes.append(plane.reshape(height * stride, -1))
            positions.append((begin + y * stride + x).ravel())
            strides.append(np.full(y.size, stride))
            begin += height * stride
        self._rows = np.concatenate(planes)
        self._positions = np.concatenate(positions)
        self._strides = np.concatenate(strides)

    def __len__(self) -> int:
        return len(self._positions)

    def features(self, chosen: NDArray[np.int64], group: int) -> tuple[Tensor, Tensor]:
        """Return features ``(n, F)`` and signs to predict ``(n, k)``, float32."""
        begin = sum(self.shape.group_bits[:group])
        end = begin + self.shape.group_bits[group]
        at, stride = self._positions[chosen], self._strides[chosen]
        columns = []
        if group:
            for dy, dx in self.shape.earlier_offsets:
                columns.append(self._rows[at + dy * stride + dx, :begin])
        for dy, dx in self.shape.causal_offsets:
            columns.append(self._rows[at + dy * stride + dx, begin:end])
        own = self._rows[at, begin:end]
        x = torch.from_numpy(np.concatenate(columns, axis=1)).float()
        return x, torch.from_numpy(own).float()


def _signs(tokens: NDArray[np.integer], shape: BitModelSpec, pad: int) -> NDArray[np.int8]:
    height, width, groups = tokens.shape
    if groups != len(shape.group_bits):
        raise ShapeError(f"a map of {groups} groups given; expected {len(shape.group_bits)}")
    bits = [
        (tokens[..., g] >> j & 1).astype(np.int8) * 2 - 1
        for g, width_bits in enumerate(shape.group_bits)
        for j in range(width_bits)
    ]
    plane = np.zeros((height + 2 * pad, width + 2 * pad, len(bits)), dtype=np.int8)
    plane[pad : pad + height, pad : pad + width] = np.stack(bits, axis=-1)
    return plane


class _FloatNet:
    """The float weights of one group."""

    def __init__(self, features: int, hidden: int, bits: int, generator: torch.Generator) -> None:
        first = torch.randn(features, hidden, generator=generator) / max(features, 1) ** 0.5
        self.first = first.requires_grad_()
        self.first_bias = torch.zeros(hidden, requires_grad=True)
        self.second = torch.zeros(hidden, bits, requires_grad=True)
        self.direct = torch.zeros(features, bits, requires_grad=True)
        self.bias = torch.zeros(bits, requires_grad=True)
        self.within = torch.zeros(bits, bits, requires_grad=True)

    def parameters(self) -> list[Tensor]:
        return list(vars(self).values())

    def hidden(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.first + self.first_bias)

    def code_length(self, x: Tensor, signs: Tensor) -> Tensor:
        """Return the mean bits a token."""
        logits = self.hidden(x) @ self.second + x @ self.direct + self.bias
        logits = logits + signs @ self.within.triu(1)
        nats = F.softplus(-logits * signs).sum(dim=1).mean()
        return nats / float(np.log(2.0))


def fit_bit_model(
    maps: Sequence[NDArray[np.integer]],
    shape: BitModelSpec,
    training: BitTraining,
    progress: Progress | None = None,
) -> BitModel:
    """Fit a context model to token maps ``(h, w, G)``.

    Args:
        maps: tokens of pictures of the kind to be coded.
        shape: shape of the model.
        training: how long and how fast.
        progress: called now and then.
    """
    planes = BitPlanes(maps, shape)
    rng = np.random.default_rng(training.seed)
    nets = []
    for group in range(len(shape.group_bits)):
        net = _fit_group(planes, group, training, rng, progress)
        chosen = rng.integers(len(planes), size=4 * training.batch_size)
        nets.append(_rounded(net, planes.features(chosen, group)[0]))
    return _tuned(BitModel(shape, nets), maps)


def _tuned(model: BitModel, maps: Sequence[NDArray[np.integer]]) -> BitModel:
    """Choose each group's learning rates by the bytes they give on the largest maps."""
    largest = sorted(maps, key=lambda m: m.shape[0] * m.shape[1], reverse=True)[:_RATE_MAPS]
    chosen = []
    for group, net in enumerate(model.nets):
        candidates = [
            replace(net, rates=(_rate(net.rates[0] * factor), _rate(net.rates[1] * factor)))
            for factor in _RATE_FACTORS
        ]
        sizes = [
            sum(_coded_bytes(model, group, candidate, tokens) for tokens in largest)
            for candidate in candidates
        ]
        chosen.append(candidates[sizes.index(min(sizes))])
    return BitModel(model.shape, chosen)


def _coded_bytes(model: BitModel, group: int, net: GroupNet, tokens: NDArray[np.integer]) -> int:
    nets = [*model.nets[:group], net, *model.nets[group + 1 :]]
    height, width, groups = tokens.shape
    level = StoredLevel((height, width), tuple(1 << b for b in model.shape.group_bits))
    values = tokens.reshape(-1, groups).astype(np.int64)
    encoder = RangeEncoder()
    BitState(BitModel(model.shape, nets), level, values).encode(
        Run(0, group, 0, height * width), encoder
    )
    return len(encoder.finish())


def _fit_group(
    planes: BitPlanes,
    group: int,
    training: BitTraining,
    rng: np.random.Generator,
    progress: Progress | None,
) -> _FloatNet:
    shape = planes.shape
    generator = torch.Generator().manual_seed(training.seed + group)
    net = _FloatNet(sum(shape.features(group)), shape.hidden, shape.group_bits[group], generator)
    optimizer = torch.optim.Adam(net.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    total = 0.0
    for step in range(1, training.steps + 1):
        chosen = rng.integers(len(planes), size=training.batch_size)
        loss = net.code_length(*planes.features(chosen, group))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += loss.item()
        if progress and step % _REPORT_EVERY == 0:
            progress(group, step, total / _REPORT_EVERY)
            total = 0.0
    return net


@torch.no_grad()
def _rounded(net: _FloatNet, x: Tensor) -> GroupNet:
    """Round weights; hidden units are scaled so that they use their integer range."""
    hidden = net.hidden(x)
    reach = hidden.quantile(0.999, dim=0).clamp(min=1e-3)
    scale = HIDDEN_MAX / reach
    largest = net.first.abs().amax(dim=0).clamp(min=1e-9) * scale * 2**HIDDEN_SHIFT
    scale = scale * (_INT16 / largest).clamp(max=1.0)
    first = net.first * scale * 2**HIDDEN_SHIFT
    first_bias = net.first_bias * scale * 2**HIDDEN_SHIFT
    second = net.second / scale[:, None] * 2**LOGIT_BITS
    shift = 1
    while shift < _LARGEST_SHIFT and float(second.abs().max()) * 2 ** (shift + 1) < _INT16:
        shift += 1
    energy = float((hidden * scale).clamp(max=HIDDEN_MAX).square().sum(dim=1).mean())
    rate = _STEP_SIZE * 2 ** (LOGIT_BITS + shift + 8) / max(energy, 1.0)
    unit = 2**LOGIT_BITS
    return GroupNet(
        _int16(first),
        _integers(first_bias).astype(np.int32),
        _int16(second * 2**shift),
        _int16(net.direct * unit),
        _integers(net.bias * unit).astype(np.int32),
        _int16(net.within.triu(1) * unit),
        shift,
        (_rate(rate), 4),
    )


def _rate(value: float) -> int:
    return min(round(value), MAX_RATE)


def _integers(values: Tensor) -> NDArray[np.float64]:
    return values.double().round().numpy()


def _int16(values: Tensor) -> NDArray[np.int16]:
    return _integers(values).clip(-_INT16, _INT16).astype(np.int16)


__all__ = ["BitPlanes", "BitTraining", "Progress", "fit_bit_model"]
