"""The cache that keeps everything, in one allocation and without copies.

Two slabs, of keys and of values, ``(R, H, P + layers S, d)``: layer l owns ``S`` tokens from
``P + l S`` on, where ``S`` is what is stored when the last scale begins and ``P`` the size of the
last scale. A scale is written behind the ones before it. The last scale, which nobody reads later,
is written in front of its layer's tokens, over the end of the layer below, which is done with
them: so the queries of the last scale too see one piece of memory, and no layer needs room for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessella.generation.kv_cache.base import CacheGeometry, KVCache, Visible


class FullCache(KVCache):
    """Keeps every token; the anchor that other policies are compared with."""

    name = "full"

    def __init__(self) -> None:
        super().__init__()
        self._keys = self._values = torch.empty(0)
        self._written = 0

    def start(self, geometry: CacheGeometry) -> None:
        """Allocate the slabs of a run."""
        super().start(geometry)
        self._written = 0
        tokens = geometry.sizes[-1] + geometry.layers * geometry.stored
        shape = (geometry.rows, geometry.heads, tokens, geometry.head_dim)
        self._keys = torch.empty(shape, dtype=geometry.dtype, device=geometry.device)
        self._values = torch.empty_like(self._keys)

    def update(self, layer: int, keys: Tensor, values: Tensor, queries: Tensor) -> Visible:
        """Write a scale's tokens beside those of the layer that came before."""
        first = self.geometry.sizes[-1] + layer * self.geometry.stored
        before = self.geometry.ends[self.scale] - self.geometry.sizes[self.scale]
        new = keys.shape[2]
        if self.is_last:
            start, stop = first - new, first + before
            place = slice(start, first)
        else:
            start, stop = first, first + before + new
            place = slice(first + before, stop)
            if layer == self.geometry.layers - 1:
                self._written = before + new
        self._keys[:, :, place] = keys
        self._values[:, :, place] = values
        return Visible(self._keys[:, :, start:stop], self._values[:, :, start:stop])

    def stored_tokens(self, layer: int) -> int:
        """Tokens of all scales that the layers have written."""
        return self._written * self.geometry.heads

    def allocated_bytes(self) -> int:
        """Bytes of both slabs."""
        return self._keys.untyped_storage().nbytes() + self._values.untyped_storage().nbytes()

    def release(self) -> None:
        """Free the slabs."""
        self._keys = self._values = torch.empty(0)


__all__ = ["FullCache"]
