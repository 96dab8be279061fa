"""What the attention of a next-scale generator may still see: the protocol of key-value caches.

At scale k a layer makes keys and values of ``n_k`` new tokens, and its queries see those and what
the cache has kept of the scales before. All tokens of a scale are made in one call::

    cache.start(geometry)
    for k in scales:
        cache.begin_scale(k)
        for layer in layers:
            visible = cache.update(layer, keys, values, queries)
            out = attend(queries, visible, scale)

A policy decides only what stays between two calls; nothing of the last scale is ever stored. Keys
carry their positions (learned, or rotated) when they come, so evicting is gathering.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class CacheGeometry:
    """The shape of one run of a generator.

    Args:
        layers: number of layers with a cache.
        heads: ``H``, heads of a layer.
        head_dim: ``d``, channels of a head.
        rows: ``R``, rows of the batch; twice the pictures under guidance.
        grids: ``(h_k, w_k)`` of every scale that is generated.
        attention_scale: factor of query-key products before the softmax.
        keys_are_normalized: whether keys have length one.
        is_guided: whether the second half of the rows is unconditional.
        dtype: of keys and values.
        device: of keys and values.
    """

    layers: int
    heads: int
    head_dim: int
    rows: int
    grids: tuple[Grid, ...]
    attention_scale: float = 1.0
    keys_are_normalized: bool = False
    is_guided: bool = False
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def sizes(self) -> tuple[int, ...]:
        """``n_k``, tokens of each scale."""
        return tuple(height * width for height, width in self.grids)

    @property
    def ends(self) -> tuple[int, ...]:
        """``S_k``, tokens up to and including each scale."""
        return tuple(accumulate(self.sizes))

    @property
    def stored(self) -> int:
        """Tokens that a full cache holds when the last scale begins: the most it ever holds."""
        return self.ends[-1] - self.sizes[-1]

    def bytes_of(self, tokens: int) -> int:
        """Bytes of the keys and values of that many tokens in one head of one layer, all rows."""
        return 2 * tokens * self.rows * self.head_dim * self.dtype.itemsize

    @property
    def full_bytes(self) -> int:
        """Bytes of a full cache when the last scale begins."""
        return self.layers * self.heads * self.bytes_of(self.stored)


class HeadGroup(NamedTuple):
    """Heads of a layer that see equally many keys.

    Args:
        heads: their numbers, ascending.
        length: the first so many keys are visible to them.
    """

    heads: tuple[int, ...]
    length: int


class Visible(NamedTuple):
    """Keys and values that a layer attends to in one call.

    Args:
        keys: ``(R, H, T, d)``; valid until the next call of the cache.
        values: ``(R, H, T, d)``.
        groups: heads by the number of keys that they see; None if all see T.
    """

    keys: Tensor
    values: Tensor
    groups: tuple[HeadGroup, ...] | None = None


@dataclass(slots=True)
class CacheUse:
    """What a cache held in one run.

    Args:
        bytes_by_scale: bytes of keys and values that each scale found when it began.
        lengths_by_scale: ``[scale][layer]``: mean tokens a head that each scale found.
        allocated_peak: most bytes of storage that the cache ever owned, working space included.
    """

    bytes_by_scale: list[int] = field(default_factory=list)
    lengths_by_scale: list[list[float]] = field(default_factory=list)
    allocated_peak: int = 0

    @property
    def peak_bytes(self) -> int:
        """The most bytes that any scale found."""
        return max(self.bytes_by_scale, default=0)


class KVCache(ABC):
    """Keys and values of the scales that were written; subclasses decide what they keep."""

    #: what users write: ``full``, ``scale``, ...
    name = ""
    geometry: CacheGeometry

    def __init__(self) -> None:
        self.scale = 0
        self.use = CacheUse()

    def start(self, geometry: CacheGeometry) -> None:
        """Forget everything, and get ready for a run.

        Raises:
            ConfigError: if the policy cannot serve this geometry, such as a budget too small.
        """
        self.geometry = geometry
        self.use = CacheUse()
        self.scale = 0

    def begin_scale(self, scale: int) -> None:
        """Take note that the layers will now write scale ``scale``, from 0."""
        self.scale = scale
        lengths = [self.stored_tokens(layer) for layer in range(self.geometry.layers)]
        self.use.lengths_by_scale.append([n / self.geometry.heads for n in lengths])
        self.use.bytes_by_scale.append(self.stored_bytes())
        self._note_allocation()

    @property
    def is_last(self) -> bool:
        """Whether the scale being written is the last, of which nothing is stored."""
        return self.scale == len(self.geometry.grids) - 1

    @abstractmethod
    def update(self, layer: int, keys: Tensor, values: Tensor, queries: Tensor) -> Visible:
        """Add a scale's tokens to a layer, and return what its queries see.

        Args:
            layer: from 0.
            keys: ``(R, H, n_k, d)``, as they enter the products.
            values: ``(R, H, n_k, d)``.
            queries: ``(R, H, n_k, d)``, as they enter the products; policies look at them.
        """

    @abstractmethod
    def stored_tokens(self, layer: int) -> int:
        """Tokens of a layer that are stored, summed over its heads."""

    def stored_bytes(self) -> int:
        """Bytes of the keys and values that are stored, of all rows."""
        tokens = sum(self.stored_tokens(layer) for layer in range(self.geometry.layers))
        return self.geometry.bytes_of(tokens)

    @abstractmethod
    def allocated_bytes(self) -> int:
        """Bytes of storage that the cache owns now, working space included."""

    def release(self) -> None:  # noqa: B027  # optional
        """Free the storage after a run; :attr:`use` stays."""

    def _note_allocation(self) -> None:
        self.use.allocated_peak = max(self.use.allocated_peak, self.allocated_bytes())


def attend(queries: Tensor, visible: Visible, scale: float) -> Tensor:
    """Attend to what a cache shows, ``(R, H, n, d)``.

    Args:
        queries: ``(R, H, n, d)``.
        visible: of :meth:`KVCache.update`.
        scale: factor of query-key products before the softmax.
    """
    if visible.groups is None:
        return F.scaled_dot_product_attention(queries, visible.keys, visible.values, scale=scale)
    out = torch.empty_like(queries)
    for heads, length in visible.groups:
        chosen = list(heads)
        out[:, chosen] = F.scaled_dot_product_attention(
            queries[:, chosen],
            visible.keys[:, chosen, :length],
            visible.values[:, chosen, :length],
            scale=scale,
        )
    return out


__all__ = ["CacheGeometry", "CacheUse", "Grid", "HeadGroup", "KVCache", "Visible", "attend"]
