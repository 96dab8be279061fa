"""HeatKV's static plan: which heads have lost which scales, and when (arXiv 2605.14877).

What is removed is all tokens of a scale in one head of one layer. With ``I_t`` tokens before scale
t, ``R`` of them protected, and C tokens of capacity over all N heads of all layers, the first

    x_t = ceil((N I_t - C) / (I_t - R))        entries of each scale's order

are gone when scale t begins. While t is written, entries that must be gone for ``t + 1`` go in
later layers already, as early as the capacity asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tessella.errors import ConfigError

#: ``(head, layer)``, those to remove first in front
Order = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Removal:
    """The tokens of a scale in one head.

    Args:
        source: the scale whose tokens go.
        head: from 0.
        layer: from 0.
    """

    source: int
    head: int
    layer: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is removed when.

    Args:
        orders: by source scale, of those that are not protected.
        counts: ``x_t`` of every scale.
        early: ``[scale][layer]``: removals in later layers when that layer has been written.
    """

    orders: dict[int, Order]
    counts: tuple[int, ...]
    early: tuple[dict[int, tuple[Removal, ...]], ...]

    def removed_before(self, scale: int) -> set[Removal]:
        """Return what is gone when a scale begins."""
        return {
            Removal(source, head, layer)
            for source, order in self.orders.items()
            if source < scale
            for head, layer in order[: self.counts[scale]]
        }

    def removed_while(self, scale: int) -> set[Removal]:
        """Return what the queries of a scale do not see."""
        return self.removed_before(scale).union(*self.early[scale].values())

    def removed_after(self, scale: int) -> set[Removal]:
        """Return what is gone when a scale has been written."""
        return self.removed_before(min(scale + 1, len(self.counts) - 1))


def make_schedule(
    sizes: Sequence[int],
    orders: dict[int, Order],
    *,
    layers: int,
    heads: int,
    protected: int,
    capacity: int,
) -> Schedule:
    """Work out a plan that never holds more than the capacity when a layer has been written.

    Args:
        sizes: tokens of every scale.
        orders: heads of all layers, for every scale from the first unprotected to the last but
            one.
        layers: of the model.
        heads: of a layer.
        protected: so many first scales always stay.
        capacity: tokens of all heads of all layers together.

    Raises:
        ConfigError: if the protected scales need more than that.
    """
    ends, pairs = (0, *accumulate(sizes)), layers * heads
    kept = ends[protected]
    if capacity < pairs * kept:
        raise ConfigError(
            f"a budget of {capacity / pairs:g} tokens a head and layer given; {protected} "
            f"protected scales need {kept}, a share of {kept / ends[-2]:.4f}: give a larger "
            "budget or protect fewer scales"
        )
    counts = []
    for before in ends[:-1]:
        excess = pairs * before - capacity
        counts.append(-(-excess // (before - kept)) if excess > 0 else 0)
    early = [
        _early_removals(
            scale, sizes, Schedule(orders, tuple(counts), ()), (layers, heads), capacity
        )
        for scale in range(len(sizes) - 1)
    ]
    return Schedule(orders, tuple(counts), (*early, {}))


def _early_removals(
    scale: int, sizes: Sequence[int], plan: Schedule, shape: tuple[int, int], capacity: int
) -> dict[int, tuple[Removal, ...]]:
    """Walk through the layers of a scale, and find what must go before its turn."""
    layers, heads = shape
    gone = plan.removed_before(scale)
    total = layers * heads * sum(sizes[:scale]) - sum(sizes[item.source] for item in gone)
    rank = {
        Removal(source, *pair): place
        for source, order in plan.orders.items()
        for place, pair in enumerate(order)
    }
    waiting = sorted(  # the last layers give way first, and in them the latest scales
        plan.removed_before(scale + 1) - gone, key=lambda i: (-i.layer, -i.source, rank[i])
    )
    early: dict[int, tuple[Removal, ...]] = {}
    for layer in range(layers):
        total += sizes[scale] * heads
        total -= sum(sizes[item.source] for item in waiting if item.layer == layer)
        waiting = [item for item in waiting if item.layer != layer]
        now = []
        while total > capacity:  # ends: without all that waits, it is what is left in the end
            now.append(next(item for item in waiting if item.source < scale))
            waiting.remove(now[-1])
            total -= sizes[now[-1].source]
        if now:
            early[layer] = tuple(now)
    return early


__all__ = ["Order", "Removal", "Schedule", "make_schedule"]
