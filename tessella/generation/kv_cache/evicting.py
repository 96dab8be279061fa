"""The cache that keeps what a policy selects.

::

    kept (exact storage of the layer) --> working space [kept | new] --> attention
                                                     '-- policy --> kept

The working space, as large as what one layer sees, is shared by all layers. In the last scale, of
which nothing is kept, new tokens come first: the order in which the full cache shows them, so that
a policy that keeps everything gives its very results.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from tessella.generation.kv_cache.base import CacheGeometry, HeadGroup, KVCache, Visible
from tessella.generation.kv_cache.policy import Policy, StepContext
from tessella.generation.kv_cache.store import LayerStore, PlainStorage, Storage, append, places_of


class EvictingCache(KVCache):
    """Keeps what a policy selects, between two calls of a layer.

    Args:
        policy: what stays.
        storage: makes the holder of a layer's keys, and of its values.
    """

    def __init__(self, policy: Policy, *, storage: Callable[[], Storage] = PlainStorage) -> None:
        super().__init__()
        self.policy = policy
        self.name = policy.name
        self._make_storage = storage
        self._layers: list[LayerStore] = []
        self._keys = self._values = torch.empty(0)
        self._origin = torch.empty(0, dtype=torch.int32)

    def start(self, geometry: CacheGeometry) -> None:
        """Forget everything, and let the policy work out its budgets."""
        super().start(geometry)
        self.policy.start(geometry)
        self._layers = [
            LayerStore(geometry.heads, self._make_storage(), self._make_storage())
            for _ in range(geometry.layers)
        ]
        self._keys = self._values = torch.empty(0)

    def begin_scale(self, scale: int) -> None:
        """Make the working space large enough for the layer that has kept most."""
        self._reserve(max(s.longest for s in self._layers) + self.geometry.sizes[scale])
        super().begin_scale(scale)

    def update(self, layer: int, keys: Tensor, values: Tensor, queries: Tensor) -> Visible:
        """Show a layer's kept and new tokens, and keep what the policy selects of them."""
        store, new, geometry = self._layers[layer], keys.shape[2], self.geometry
        lengths = tuple(length + new for length in store.lengths)
        total = max(lengths)
        seen = (self._keys[:, :, :total], self._values[:, :, :total], self._origin[:, :, :total])
        store.load(*seen, offset=new if self.is_last else 0)
        first = geometry.ends[self.scale] - new
        numbers = torch.arange(first, first + new, dtype=torch.int32, device=keys.device)
        before = (0,) * geometry.heads if self.is_last else store.lengths
        every = (keys, values, numbers.expand(*keys.shape[:2], -1))
        for space, tokens in zip(seen, every, strict=True):
            append(space, tokens, before)
        if not self.is_last:
            context = StepContext(
                layer, self.scale, seen[0], seen[1], queries, seen[2], lengths, geometry
            )
            self._keep(context)
            self._note_allocation()
        return Visible(seen[0], seen[1], _groups(lengths))

    def origin(self, layer: int) -> Tensor:
        """Return the origins ``(R, H, T)`` of the tokens that a layer has kept."""
        return self._layers[layer].origin()

    def stored_tokens(self, layer: int) -> int:
        """Tokens that a layer has kept, summed over its heads."""
        return sum(self._layers[layer].lengths)

    def stored_bytes(self) -> int:
        """Bytes of the tensors that hold what is kept."""
        return sum(layer.nbytes() for layer in self._layers)

    def allocated_bytes(self) -> int:
        """Bytes of what is kept, of the working space, and of what the policy remembers."""
        working = (self._keys, self._values, self._origin)
        kept = sum(layer.nbytes() + layer.origin_bytes() for layer in self._layers)
        return kept + self.policy.nbytes() + sum(t.untyped_storage().nbytes() for t in working)

    def release(self) -> None:
        """Free the storage and the working space."""
        self._layers = []
        self._keys = self._values = torch.empty(0)
        self._origin = torch.empty(0, dtype=torch.int32)
        self.policy.release()

    def _keep(self, context: StepContext) -> None:
        """Store what the policy selects of a layer, after making room in others."""
        rows, device = self.geometry.rows, self.geometry.device
        places = places_of(self.policy.select(context), context.lengths, rows, device)
        keys, values = self.policy.merged(context, places) or (context.keys, context.values)
        for layer, keep in self.policy.also_drop(context.layer, context.scale).items():
            store = self._layers[layer]
            store.retain(places_of(keep, store.lengths, rows, device))
        self._layers[context.layer].keep(keys, values, context.origin, keep=places)

    def _reserve(self, tokens: int) -> None:
        geometry = self.geometry
        if self._keys.ndim == 4 and self._keys.shape[2] >= tokens:
            return
        self._keys = self._values = torch.empty(0)  # freed before the larger ones are made
        shape = (geometry.rows, geometry.heads, tokens, geometry.head_dim)
        self._keys = torch.empty(shape, dtype=geometry.dtype, device=geometry.device)
        self._values = torch.empty_like(self._keys)
        self._origin = torch.empty(shape[:3], dtype=torch.int32, device=geometry.device)


def _groups(lengths: tuple[int, ...]) -> tuple[HeadGroup, ...] | None:
    """Group heads by the number of tokens that they see; None if that is the same for all."""
    if len(set(lengths)) == 1:
        return None
    heads: dict[int, list[int]] = defaultdict(list)
    for head, length in enumerate(lengths):
        heads[length].append(head)
    return tuple(HeadGroup(tuple(group), length) for length, group in heads.items())


__all__ = ["EvictingCache"]
