"""Storage of the tokens that a layer has kept, exactly as large as they are.

Heads may keep unlike numbers of tokens. They are stored one after the other,
``(R, sum of lengths, d)``, with their origins; a working space that all layers share shows them as
``(R, H, T, d)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import accumulate

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
        if self.longest:
            _spread(self._origin, spread, self.lengths)
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
            _spread(self._keys.get(), keys[:, :, offset:], self.lengths)
            _spread(self._values.get(), values[:, :, offset:], self.lengths)
            _spread(self._origin, origin[:, :, offset:], self.lengths)

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
        self._origin = _gathered(origin, keep)

    def retain(self, keep: list[Tensor]) -> None:
        """Keep chosen tokens of those that are held, without working space.

        Args:
            keep: one ``(R, T'_h)`` tensor of places a head.
        """
        starts = list(accumulate((0, *self.lengths[:-1])))
        self.lengths = tuple(places.shape[1] for places in keep)
        for holder in (self._keys, self._values):
            holder.put(_taken(holder.get(), keep, starts), self.lengths)
        self._origin = _taken(self._origin, keep, starts)

    def nbytes(self) -> int:
        """Bytes of the keys and values that are held."""
        return self._keys.nbytes() + self._values.nbytes() if self.longest else 0

    def origin_bytes(self) -> int:
        """Bytes of the origins."""
        return self._origin.untyped_storage().nbytes()


def append(space: Tensor, tokens: Tensor, lengths: tuple[int, ...]) -> None:
    """Write ``(R, H, n, ...)`` tokens behind those that heads have in ``(R, H, T, ...)``."""
    new = tokens.shape[2]
    if len(set(lengths)) == 1:
        space[:, :, lengths[0] : lengths[0] + new] = tokens
    else:
        flat, step = _flat(space)
        _write(flat, tokens.flatten(1, 2), [(h * step + n, new) for h, n in enumerate(lengths)])


def _spread(flat: Tensor, space: Tensor, lengths: tuple[int, ...]) -> None:
    """Copy ``(R, sum of lengths, ...)`` to the beginning of every head of ``(R, H, T, ...)``."""
    if len(set(lengths)) == 1:
        equal = flat.view(len(flat), len(lengths), lengths[0], *flat.shape[2:])
        space[:, :, : lengths[0]] = equal
    else:
        places, step = _flat(space)
        _write(places, flat, [(h * step, n) for h, n in enumerate(lengths)])


def _gathered(space: Tensor, keep: list[Tensor]) -> Tensor:
    """Gather ``(R, T'_h)`` places of every head of ``(R, H, T, ...)``, head after head."""
    lengths = {places.shape[1] for places in keep}
    if len(lengths) == 1:
        chosen = torch.stack(keep, dim=1)
        if space.ndim == 4:
            chosen = chosen.unsqueeze(-1).expand(-1, -1, -1, space.shape[3])
        return space.gather(2, chosen).flatten(1, 2)
    flat, step = _flat(space)
    return _taken(flat, keep, [head * step for head in range(len(keep))])


def _taken(flat: Tensor, keep: list[Tensor], starts: list[int]) -> Tensor:
    """Gather places ``(R, T'_h)``, counted from where each head starts in ``(R, N, ...)``."""
    counts = torch.tensor([places.shape[1] for places in keep])
    offsets = torch.tensor(starts).repeat_interleave(counts).to(flat.device)
    chosen = torch.cat(keep, dim=1) + offsets
    if flat.ndim == 3:
        chosen = chosen.unsqueeze(-1).expand(-1, -1, flat.shape[2])
    return flat.gather(1, chosen)


def _write(flat: Tensor, tokens: Tensor, pieces: list[tuple[int, int]]) -> None:
    """Write ``(R, N', ...)`` tokens to pieces ``(start, length)`` of ``(R, N, ...)``."""
    places = torch.cat([torch.arange(start, start + length) for start, length in pieces])
    flat.index_copy_(1, places.to(flat.device), tokens)


def _flat(space: Tensor) -> tuple[Tensor, int]:
    """View the heads of ``(R, H, T, ...)``, which may be the front of a larger space, in a row.

    Returns:
        The view ``(R, N, ...)``, and how far apart heads begin in it. One index for all heads is
        one kernel for all, where heads have unlike lengths.
    """
    rows, heads, tokens = space.shape[:3]
    step = space.stride(1) // space.stride(2)
    shape = (rows, (heads - 1) * step + tokens, *space.shape[3:])
    return space.as_strided(shape, (space.stride(0), *space.stride()[2:])), step


def places_of(
    keep: Keep, lengths: tuple[int, ...], rows: int, device: torch.device
) -> list[Tensor]:
    """Return the places ``(R, T'_h)`` of every head for any form of :data:`Keep`."""
    if keep is None:
        every = [torch.arange(length, device=device) for length in lengths]
        return [places.expand(rows, -1) for places in every]
    return list(keep.unbind(1)) if isinstance(keep, Tensor) else keep


__all__ = ["LayerStore", "PlainStorage", "Storage", "append", "places_of"]
