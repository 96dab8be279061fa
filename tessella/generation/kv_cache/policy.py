"""Policies of caches that evict: what stays of a layer when a scale has been written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import CacheGeometry

#: what stays: None for all; indices ``(R, H, T')`` ascending over the T tokens that a layer has; or
#: one ``(R, T'_h)`` tensor a head, of any lengths
Keep = Tensor | list[Tensor] | None


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a policy may look at when a layer has written a scale.

    Args:
        layer: from 0.
        scale: the scale ``k`` that was written, from 0; never the last.
        keys: ``(R, H, T, d)``: what was kept, then the new tokens. Where heads have kept unlike
            numbers, a head's tokens are the first ``lengths[h]``; the rest is undefined.
        values: ``(R, H, T, d)``.
        queries: of the scale, ``(R, H, n_k, d)``, as they entered the products.
        origin: ``(R, H, T)`` int32: number of each token in the order of generation.
        lengths: tokens of each head.
        geometry: of the run.
    """

    layer: int
    scale: int
    keys: Tensor
    values: Tensor
    queries: Tensor
    origin: Tensor
    lengths: tuple[int, ...]
    geometry: CacheGeometry

    @property
    def new(self) -> int:
        """``n_k``, tokens of the scale that was written."""
        return self.geometry.sizes[self.scale]

    def is_of_scales(self, first: int, last: int) -> Tensor:
        """Return bool ``(R, H, T)``: which tokens are of scales ``first`` to ``last``."""
        bounds = (0, *self.geometry.ends)
        return (self.origin >= bounds[first]) & (self.origin < bounds[last + 1])


class Policy(ABC):
    """Decides what a cache keeps; has no tensors of its own that outlive a run.

    What it remembers of a layer between two scales, it forgets in :meth:`start` and
    :meth:`release`, and counts in :meth:`nbytes`.
    """

    name: ClassVar[str] = ""

    def start(self, geometry: CacheGeometry) -> None:  # noqa: B027  # optional
        """Get ready for a run: work out budgets, forget what was seen.

        Raises:
            ConfigError: if the policy cannot serve this geometry.
        """

    @abstractmethod
    def select(self, context: StepContext) -> Keep:
        """Return what stays of a layer, of what its attention has just seen."""

    def release(self) -> None:  # noqa: B027  # optional
        """Free what was remembered of a run."""

    def nbytes(self) -> int:
        """Bytes of the tensors that are remembered between two calls, such as scores."""
        return 0

    def also_drop(self, layer: int, scale: int) -> dict[int, Keep]:
        """Return what stays of other layers, by their number, when a layer has been written.

        Called after :meth:`select`, and carried out before the layer's tokens are stored: a policy
        with one budget for all layers makes room in those whose turn is still to come.

        Args:
            layer: the layer that was written.
            scale: the scale that was written; never the last.
        """
        return {}

    def merged(self, context: StepContext, places: list[Tensor]) -> tuple[Tensor, Tensor] | None:
        """Return keys and values ``(R, H, T, d)`` to store in place of the context's.

        Args:
            context: as in :meth:`select`; its tensors are still to be attended to: do not change
                them.
            places: what was selected, ``(R, T'_h)`` a head.

        Returns:
            None for those of the context.
        """
        return None


def budget_tokens(budget: float, geometry: CacheGeometry, *, least: int = 1) -> int:
    """Return a budget in tokens of a head and layer.

    Args:
        budget: a share of the full cache when the last scale begins, up to 1; or, above 1, tokens.
        geometry: of the run.
        least: fewer tokens than this cannot be.

    Raises:
        ConfigError: if the budget is too small.
    """
    tokens = int(budget) if budget > 1 else int(budget * geometry.stored + 1e-9)
    if tokens < min(least, geometry.stored):
        raise ConfigError(
            f"a budget of {budget:g} is {tokens} tokens of {geometry.stored}; this policy needs "
            f"at least {min(least, geometry.stored)}: give a larger share"
        )
    return tokens


def best(scores: Tensor, count: int) -> Tensor:
    """Return the places ``(..., count)`` of the largest scores ``(..., T)``, ascending."""
    return scores.topk(min(count, scores.shape[-1]), dim=-1).indices.sort(dim=-1).values


__all__ = ["Keep", "Policy", "StepContext", "best", "budget_tokens"]
