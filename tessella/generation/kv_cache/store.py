"""Storage of the tokens that a layer has kept, exactly as large as they are.

Heads may keep unlike numbers of tokens. They are stored one after the other,
``(R, sum of lengths, d)``, with their origins; a working space that all layers share shows them as
``(R, H, T, d)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from tessella.generation.kv_cache.policy import Keep


class Storage(ABC):
    """How kept keys or values are held between two calls."""

    @abstractmethod
    def put(self, kept: Tensor, lengths: tuple[int, ...]) -> None:
        """Replace what is held by ``(R, sum of lengths, d)``, head after head."""

    @abstractmethod
    def get(self) -> Tensor:
        """Return what is held, ``(R, sum of lengths, d)``, in the type that it came in."""

    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of the tensors that are held."""


class PlainStorage(Storage):
    """Holds tensors as they are."""

    def __init__(self) -> None:
        self._kept = torch.empty(0)

    def put(self, kept: Tensor, lengths: tuple[int, ...]) -> None:
        """Hold a tensor."""
        self._kept = kept

    def get(self) -> Tensor:
        """Return it."""
        return self._kept

    def nbytes(self) -> int:
        """Bytes of its storage."""
        return self._kept.untyped_storage().nbytes()


class LayerStore:
    """What one layer has kept.

    Args:
        heads: ``H``.
        keys: where keys are held.
        values: where values are held.
    """

    def __init__(self, heads: int, keys: Storage, values: Storage) -> None:
        self.lengths: tuple[int, ...] = (0,) * heads
        self._keys, self._values = keys, values
        self._origin = torch.empty(0, dtype=torch.int32)

    @property
    def longest(self) -> int:
        """Most tokens that a head has kept."""
        return max(self.lengths)

    def origin(self) -> Tensor:
        """Return ``(R, H, T)`` origins; undefined behind a head's length."""
        rows = self._origin.shape[0]
        spread = self._origin.new_zeros(rows, len(self.lengths), self.longest)
        self._spread(self._origin, spread)
        return spread

    def load(self, keys: Tensor, values: Tensor, origin: Tensor, offset: int) -> None:
        """Copy what is kept into working space, from position ``offset`` on.

        Args:
            keys: ``(R, H, T, d)`` to write to.
            values: ``(R, H, T, d)`` to write to.
            origin: ``(R, H, T)`` to write to.
            offset: where the first token goes.
        """
        if self.longest:
            self._spread(self._keys.get(), keys[:, :, offset:])
            self._spread(self._values.get(), values[:, :, offset:])
            self._spread(self._origin, origin[:, :, offset:])

    def keep(self, keys: Tensor, values: Tensor, origin: Tensor, keep: list[Tensor]) -> None:
        """Take over chosen tokens of working space.

        Args:
            keys: ``(R, H, T, d)``.
            values: ``(R, H, T, d)``.
            origin: ``(R, H, T)``.
            keep: one ``(R, T'_h)`` tensor of places a head.
        """
        self.lengths = tuple(places.shape[1] for places in keep)
        self._keys.put(_gathered(keys, keep), self.lengths)
        self._values.put(_gathered(values, keep), self.lengths)
        self._origin = _gathered(origin.unsqueeze(-1), keep).squeeze(-1)

    def nbytes(self) -> int:
        """Bytes of the keys and values that are held."""
        return self._keys.nbytes() + self._values.nbytes() if self.longest else 0

    def _spread(self, flat: Tensor, spread: Tensor) -> None:
        """Copy ``(R, sum of lengths, ...)`` to ``(R, H, T, ...)``."""
        if len(set(self.lengths)) == 1:
            equal = flat.view(flat.shape[0], len(self.lengths), self.longest, *flat.shape[2:])
            spread[:, :, : self.longest] = equal
            return
        for head, part in enumerate(torch.split(flat, self.lengths, dim=1)):
            spread[:, head, : part.shape[1]] = part


def _gathered(source: Tensor, keep: list[Tensor]) -> Tensor:
    """Gather ``(R, T'_h)`` places of every head of ``(R, H, T, d)``, head after head."""
    width = source.shape[-1]
    out = source.new_empty(source.shape[0], sum(places.shape[1] for places in keep), width)
    start = 0
    for head, places in enumerate(keep):
        stop = start + places.shape[1]
        chosen = places.unsqueeze(-1).expand(-1, -1, width)
        torch.gather(source[:, head], 1, chosen, out=out[:, start:stop])
        start = stop
    return out


def places_of(keep: Keep, lengths: tuple[int, ...], rows: int, device: torch.device) -> list[Tensor]:
    """Return the places ``(R, T'_h)`` of every head for any form of :data:`Keep`."""
    if keep is None:
        every = [torch.arange(length, device=device) for length in lengths]
        return [places.expand(rows, -1) for places in every]
    return list(keep.unbind(1)) if isinstance(keep, Tensor) else keep


__all__ = ["LayerStore", "PlainStorage", "Storage", "places_of"]
