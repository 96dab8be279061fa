"""A small network, all in integers, that predicts the bits of a token from tokens already coded.

For codes whose bits mean something one by one (lookup-free, binary spherical, grouped) on a map.
The bits of group g at a position, least significant first, are predicted from

* all bits of the earlier groups, here and at the neighbours within ``earlier_radius``;
* the bits of this group at the neighbours within ``causal_radius`` that precede in raster order;
* the lower bits of this token::

    x  in {-1, 0, +1}^F      (0 outside the map)
    h  = min(max((b + W x + 16) >> 5, 0), 255)
    a_j = c_j + (V x)_j + ((U h)_j + 2^(s-1) >> s) + sum_{i<j} T_ij y_i      y_i = -1 or +1

``a_j`` is the log odds of a 1 in units of 2^-12 nat. It is rounded to 1/64 nat, clipped to +-512
and turned into a frequency by the integer softmax and rule Q, so that no float ever reaches a
probability. W, b and V stay as shipped; U, T and c go on learning within each picture (see
:mod:`tessella.codecs.entropy.bit_state`). Products with W and V are evaluated by float32 matrix
multiplication, which is exact and the same everywhere as long as no partial sum can reach 2^24:
:class:`GroupNet` refuses weights that could. Products with U are evaluated in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.entropy.range_coder import BINARY_BITS
from tessella.codecs.entropy.tables import softmax_weights
from tessella.codecs.stored_layout import StoredLevel
from tessella.errors import CheckpointError

HIDDEN_MAX = 255
HIDDEN_SHIFT = 5
LOGIT_BITS = 12
SOFTMAX_BITS = 6
LOGIT_CLIP = 512
MAX_RATE = 1 << 20

_EXACT = 1 << 24
_NAMES = ("first", "first_bias", "second", "direct", "bias", "within")


@dataclass(frozen=True, slots=True)
class BitModelSpec:
    """Shape of a context model.

    Args:
        group_bits: bits of each group.
        earlier_radius: neighbours of earlier groups that are seen, in positions.
        causal_radius: neighbours of the same group that are seen.
        hidden: width of the hidden layer.
    """

    group_bits: tuple[int, ...]
    earlier_radius: int = 1
    causal_radius: int = 2
    hidden: int = 64

    def __post_init__(self) -> None:
        valid = (
            1 <= len(self.group_bits) <= 64
            and all(1 <= bits <= 24 for bits in self.group_bits)
            and 0 <= self.earlier_radius <= 4
            and 1 <= self.causal_radius <= 4
            and 1 <= self.hidden <= 1024
        )
        if not valid:
            raise CheckpointError(
                f"{self} given; expected 1 to 64 groups of 1 to 24 bits, radii "
                "up to 4 and a hidden width up to 1024"
            )

    @property
    def earlier_offsets(self) -> list[tuple[int, int]]:
        """Neighbours ``(dy, dx)`` whose earlier groups are seen, the position itself included."""
        r = range(-self.earlier_radius, self.earlier_radius + 1)
        return [(dy, dx) for dy in r for dx in r]

    @property
    def causal_offsets(self) -> list[tuple[int, int]]:
        """Neighbours ``(dy, dx)`` whose same group is seen: those before it in raster order."""
        r = range(-self.causal_radius, self.causal_radius + 1)
        return [(dy, dx) for dy in r for dx in r if (dy, dx) < (0, 0)]

    def features(self, group: int) -> tuple[int, int]:
        """Return the number of features of earlier groups and of the same group."""
        earlier = sum(self.group_bits[:group]) * len(self.earlier_offsets)
        return earlier, self.group_bits[group] * len(self.causal_offsets)


@dataclass(frozen=True)
class GroupNet:
    """Weights that predict the ``k`` bits of one group; ``F`` features, ``H`` hidden units.

    Args:
        first: ``W``, ``(F, H)`` int16; features of earlier groups come before causal ones, each
            ordered by neighbour, then bit.
        first_bias: ``b``, ``(H,)`` int32.
        second: ``U``, ``(H, k)`` int16.
        direct: ``V``, ``(F, k)`` int16.
        bias: ``c``, ``(k,)`` int32.
        within: ``T``, ``(k, k)`` int16; only ``T[i, j]`` with i < j is used.
        shift: ``s``, 1 to 20.
        rates: how fast ``U`` and how fast ``T`` and ``c`` learn, 0 to 2^20 each.
    """

    first: NDArray[np.int16]
    first_bias: NDArray[np.int32]
    second: NDArray[np.int16]
    direct: NDArray[np.int16]
    bias: NDArray[np.int32]
    within: NDArray[np.int16]
    shift: int
    rates: tuple[int, int]

    def __post_init__(self) -> None:
        (f, h), k = self.first.shape, self.bias.size
        shapes = ((f, h), (h,), (h, k), (f, k), (k,), (k, k))
        arrays = [getattr(self, name) for name in _NAMES]
        if tuple(a.shape for a in arrays) != shapes or any(a.dtype.kind != "i" for a in arrays):
            raise CheckpointError(
                f"context weights of shapes {[a.shape for a in arrays]} given; expected integers "
                f"of shapes {list(shapes)}"
            )
        hidden = _column_sums(self.first) + np.abs(self.first_bias.astype(np.int64))
        direct = _column_sums(self.direct) + np.abs(self.bias.astype(np.int64))
        reach = max(int(hidden.max()), int(direct.max()))
        if reach >= _EXACT:
            raise CheckpointError(
                f"context weights that reach sums of {reach} given; expected less than 2^24, which "
                "float32 holds exactly"
            )
        if not 1 <= self.shift <= 20 or not all(0 <= rate <= MAX_RATE for rate in self.rates):
            raise CheckpointError(
                f"shift {self.shift} and rates {self.rates} given; expected 1 to 20 and 0 to 2^20"
            )

    @cached_property
    def stacked(self) -> NDArray[np.float32]:
        """``(F, H + k)``: first-layer and direct weights side by side."""
        return np.concatenate([self.first, self.direct], axis=1).astype(np.float32)

    @cached_property
    def stacked_bias(self) -> NDArray[np.float32]:
        """``(H + k,)``: biases of the same."""
        return np.concatenate([self.first_bias, self.bias]).astype(np.float32)


def _column_sums(weights: NDArray[np.int16]) -> NDArray[np.int64]:
    sums: NDArray[np.int64] = np.abs(weights.astype(np.int64)).sum(axis=0)
    return sums


class BitModel:
    """A context model: one :class:`GroupNet` a group.

    Args:
        spec: its shape.
        nets: the weights of each group.

    Raises:
        CheckpointError: if weights do not fit the spec.
    """

    def __init__(self, spec: BitModelSpec, nets: Sequence[GroupNet]) -> None:
        if len(nets) != len(spec.group_bits):
            raise CheckpointError(
                f"{len(nets)} group networks given; the spec has {len(spec.group_bits)} groups"
            )
        for g, net in enumerate(nets):
            expected = (sum(spec.features(g)), spec.hidden), (spec.group_bits[g],)
            if (net.first.shape, net.bias.shape) != expected:
                raise CheckpointError(
                    f"network of group {g} with shapes {net.first.shape}, {net.bias.shape} given; "
                    f"expected {expected}"
                )
        self.shape = spec
        self.nets = tuple(nets)

    def suits(self, levels: Sequence[StoredLevel]) -> bool:
        """Return whether the model can code a layout: one map of its groups, or the first few."""
        level = levels[0]
        sizes = tuple(1 << bits for bits in self.shape.group_bits[: level.groups])
        return len(levels) == 1 and len(level.grid) == 2 and level.vocab_sizes == sizes

    def spec(self) -> dict[str, Any]:
        """Return all that is not an array, as a JSON value."""
        return {
            "group_bits": list(self.shape.group_bits),
            "earlier_radius": self.shape.earlier_radius,
            "causal_radius": self.shape.causal_radius,
            "hidden": self.shape.hidden,
            "shifts": [net.shift for net in self.nets],
            "rates": [list(net.rates) for net in self.nets],
        }

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return all weights by name."""
        return {
            f"bit_model.{g}.{name}": getattr(net, name)
            for g, net in enumerate(self.nets)
            for name in _NAMES
        }

    @classmethod
    def from_arrays(
        cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]]
    ) -> BitModel:
        """Rebuild a model from :meth:`spec` and :meth:`arrays`.

        Raises:
            CheckpointError: if something is missing or does not fit.
        """
        try:
            shape = BitModelSpec(
                tuple(int(bits) for bits in spec["group_bits"]),
                int(spec["earlier_radius"]),
                int(spec["causal_radius"]),
                int(spec["hidden"]),
            )
            nets = []
            for g, (shift, rates) in enumerate(zip(spec["shifts"], spec["rates"], strict=True)):
                weights: dict[str, Any] = {n: arrays[f"bit_model.{g}.{n}"] for n in _NAMES}
                pace = (int(rates[0]), int(rates[1]))
                nets.append(GroupNet(**weights, shift=int(shift), rates=pace))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"an incomplete context model given: {error!r}") from error
        return cls(shape, nets)


@cache
def zero_frequencies() -> NDArray[np.int64]:
    """Return the frequency of a 0 (of 2^16) for log odds -512 to 512 in 1/64 nat.

    That is rule Q of the integer softmax of 0 and the log odds, for all of them at once.
    """
    logits = np.arange(-LOGIT_CLIP, LOGIT_CLIP + 1)
    weights = softmax_weights(np.stack([np.zeros_like(logits), logits], axis=1))
    slots = 1 << BINARY_BITS
    frequencies = 1 + weights * (slots - 2) // weights.sum(axis=1, keepdims=True)
    rest = slots - frequencies.sum(axis=1)
    zeros: NDArray[np.int64] = frequencies[:, 0] + np.where(weights[:, 0] >= weights[:, 1], rest, 0)
    zeros.flags.writeable = False
    return zeros


__all__ = [
    "HIDDEN_MAX",
    "HIDDEN_SHIFT",
    "LOGIT_BITS",
    "LOGIT_CLIP",
    "MAX_RATE",
    "SOFTMAX_BITS",
    "BitModel",
    "BitModelSpec",
    "GroupNet",
    "zero_frequencies",
]
