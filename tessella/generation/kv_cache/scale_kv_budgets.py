"""ScaleKV's budgets: few layers keep nearly all they can, the others share what is left.

With D layers of B tokens in the mean, N of them drafters when scale k begins::

    limit   = S_{k-1} at first, later (largest budget before) + n_{k-1}     what a drafter can own
    refiner = least r >= max(floor, (D B - N limit) / (D - N)) such that N divides D B - (D - N) r
    drafter = (D B - (D - N) refiner) / N

so that all layers together hold D B tokens when each scale begins, from the first on that follows
more than B tokens; before it, everything is kept. This is the rule behind the published tables
(arXiv 2505.19602), which it gives exactly with B = 650 and a floor of 200; the paper's text has
budgets that fall linearly with the scale instead.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import NamedTuple

#: refiners keep at least this share of the mean: 200 of 650 tokens in the published tables
FLOOR = (200, 650)
#: one layer of so many is a drafter where nothing was calibrated; published: 2 of 32 and 3 of 40
LAYERS_A_DRAFTER = 16


class ScaleBudget(NamedTuple):
    """Tokens that layers may hold when a scale begins.

    Args:
        drafters: layers of large budget.
        drafter: tokens of a head in those.
        refiner: tokens of a head in the other layers.
        limit: most tokens that a drafter could hold.
    """

    drafters: tuple[int, ...]
    drafter: int
    refiner: int
    limit: int

    def of(self, layer: int) -> int:
        """Return the tokens of a head in a layer."""
        return self.drafter if layer in self.drafters else self.refiner


def scale_budgets(
    sizes: Sequence[int],
    layers: int,
    mean: int,
    drafters: Sequence[Collection[int]],
    floor: int | None = None,
) -> tuple[ScaleBudget, ...]:
    """Return the budgets of all scales.

    Args:
        sizes: ``n_k``, tokens of each scale.
        layers: ``D``.
        mean: ``B``, tokens of a head and layer.
        drafters: layers that are drafters when each scale begins.
        floor: least tokens of a refiner, at most the mean; by default :data:`FLOOR` of it.
    """
    floor = mean * FLOOR[0] // FLOOR[1] if floor is None else floor
    budgets: list[ScaleBudget] = []
    largest = 0
    for scale, (size, end) in enumerate(zip(sizes, accumulate(sizes), strict=True)):
        before = end - size  # S_{k-1}
        if before <= mean:
            budgets.append(ScaleBudget((), mean, mean, before))
            continue
        limit = largest + sizes[scale - 1] if largest else before
        chosen = tuple(sorted(drafters[scale]))
        drafter, refiner = _shared_out(layers, len(chosen), mean, limit, floor)
        budgets.append(ScaleBudget(chosen, drafter, refiner, limit))
        largest = max(drafter, refiner)
    return tuple(budgets)


def _shared_out(layers: int, drafters: int, mean: int, limit: int, floor: int) -> tuple[int, int]:
    """Return the tokens of a drafter and of a refiner."""
    refiners = layers - drafters
    if not drafters or not refiners:
        return mean, mean
    total = layers * mean
    refiner = max(floor, -(-(total - drafters * limit) // refiners))
    while (total - refiners * refiner) % drafters:  # ends at the mean at the latest
        refiner += 1
    return (total - refiners * refiner) // drafters, refiner


def first_layers(layers: int, scales: int) -> tuple[tuple[int, ...], ...]:
    """Return the drafters of a model without calibration: the first layers, at every scale.

    The first layer is a drafter of both published models at every scale.
    """
    count = max(1, round(layers / LAYERS_A_DRAFTER))
    return (tuple(range(count)),) * scales


__all__ = ["FLOOR", "LAYERS_A_DRAFTER", "ScaleBudget", "first_layers", "scale_budgets"]
