"""PyramidKV's cache: SnapKV with budgets that shrink from layer to layer (arXiv 2406.02069)."""

from __future__ import annotations

from fractions import Fraction

from tessella.errors import ConfigError
from tessella.generation.kv_cache.policy import StepContext
from tessella.generation.kv_cache.snapkv import SnapKV


class PyramidKV(SnapKV):
    """Keeps what :class:`SnapKV` scores highest, most of it in the first layers.

    Budgets fall linearly from the first layer to the last, which has the mean over ``beta``; with
    small means, ``beta`` is lowered so that the last layer has room for the window.

    Args:
        budget: mean over the layers: share of the full cache, or tokens of a head and layer.
        window: tokens of the window; by default 16, but at most a quarter of the budget.
        kernel: width of the pooling along the cache.
        beta: the mean budget over that of the last layer.
    """

    name = "pyramidkv"

    def __init__(
        self, budget: float, *, window: int | None = None, kernel: int = 5, beta: float = 20.0
    ) -> None:
        super().__init__(budget, window=window, kernel=kernel)
        if not beta >= 1:
            raise ConfigError(f"beta={beta} given; expected 1 or more")
        self.beta = beta

    def _budget(self, context: StepContext) -> int:
        total = context.geometry.ends[context.scale]
        if total <= self._tokens:
            return self._tokens
        beta = min(Fraction(self.beta), Fraction(self._tokens, self._size))
        layers, layer = context.geometry.layers, context.layer
        return pyramid_budget(
            layer, layers, mean=self._tokens, total=total, window=self._size, beta=beta
        )


def pyramid_budget(
    layer: int, layers: int, *, mean: float, total: int, window: int, beta: float | Fraction
) -> int:
    """Return how many tokens a layer keeps, its window included.

    With ``low = mean / beta`` and ``high = 2 mean - low``, or, where the first layer has not so
    many tokens besides the window, ``high = total - window`` and ``low = 2 mean - high``, layer l
    keeps ``high - l (high - low) / (layers - 1)``, rounded. Unless ``total >= high >= low >=
    window``, all keep the mean.

    Args:
        layer: from 0.
        layers: how many there are.
        mean: tokens of a layer in the mean; the budgets of all layers sum to that of a whole one.
        total: tokens that there are.
        window: tokens of the window.
        beta: the mean over the last layer's tokens.
    """
    # fractions: symmetric halves round so that the sum over the layers is exact
    middle = Fraction(mean)
    low = middle / Fraction(beta)
    high = 2 * middle - low
    if high > total - window:
        high = Fraction(total - window)
        low = 2 * middle - high
    if layers == 1 or not total >= high >= low >= window:
        return round(middle)
    return round(high - layer * (high - low) / (layers - 1))


__all__ = ["PyramidKV", "pyramid_budget"]
