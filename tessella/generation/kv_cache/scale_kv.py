"""ScaleKV's cache: layers that look far back keep much, the others little (arXiv 2505.19602).

::

    queries of a window of the new map --sum q k--> logits --max over neighbours--> scores
    kept: the window, and the best of the other tokens, within the layer's budget

Layers are *drafters* or *refiners* at each scale, see
:mod:`~tessella.generation.kv_cache.scale_kv_calibration`; their budgets follow from the mean budget
by the rule of :mod:`~tessella.generation.kv_cache.scale_kv_budgets`.

Unlike the published code, queries are those of the attention (with bias, length, temperature and
rotation); maps need not be square; a budget counts from the first scale on, since no layer holds
more than the mean before the budgets apply; and the window shrinks with the budget.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.observing import received_attention
from tessella.generation.kv_cache.policy import Policy, StepContext, best, budget_tokens
from tessella.generation.kv_cache.scale_kv_budgets import FLOOR, first_layers, scale_budgets
from tessella.generation.kv_cache.scale_kv_calibration import (
    ScaleKVCalibration,
    load_calibration,
)
from tessella.generation.kv_cache.snapkv import snapkv_scores
from tessella.generation.kv_cache.windows import check_kernel, grid_window

Selection = Literal["logits", "attention"]
_LARGEST_SIDE = 4
_BUDGET_A_WINDOW = 8


class Plan(NamedTuple):
    """What layers may hold.

    Args:
        base: everything is kept while no more tokens than this were written.
        budgets: ``[scale][layer]``: tokens of a head when a scale begins.
        side: the window has ``side x side`` tokens.
    """

    base: int
    budgets: tuple[tuple[int, ...], ...]
    side: int


class ScaleKV(Policy):
    """Keeps much in drafter layers and little in refiner layers.

    Args:
        budget: mean over the layers: share of the full cache, or tokens of a head and layer.
        calibration: drafters of the model: a calibration, the path of its file, or the name of a
            published model; by default one layer of sixteen, the first ones, at every scale.
        window: the observation window has ``window x window`` tokens; by default 4, but the window
            takes at most an eighth of the budget.
        kernel: width of the pooling along the cache.
        selection: ``logits`` scores by summed products and their maximum over neighbours, as the
            published code does; ``attention`` by probabilities averaged over neighbours, as the
            paper says.
    """

    name = "scale"

    def __init__(
        self,
        budget: float,
        *,
        calibration: str | Path | ScaleKVCalibration | None = None,
        window: int | None = None,
        kernel: int = 5,
        selection: Selection = "logits",
    ) -> None:
        if window is not None and window < 1:
            raise ConfigError(f"window={window} given; expected at least 1 token a side")
        if selection not in ("logits", "attention"):
            raise ConfigError(f"selection={selection!r} given; expected 'logits' or 'attention'")
        check_kernel(kernel)
        self.budget = budget
        self.calibration = None if calibration is None else load_calibration(calibration)
        self.window = window
        self.kernel = kernel
        self.selection = selection
        self._plan = Plan(0, (), 1)

    def start(self, geometry: CacheGeometry) -> None:
        """Work out the budgets of all layers and scales.

        Raises:
            ConfigError: if the calibration is of another model, or the window exceeds a budget.
        """
        plan = self._plan = self.plan(geometry)
        window = plan.side**2
        active = [
            tokens
            for before, budgets in zip((0, *geometry.ends[:-1]), plan.budgets, strict=True)
            for tokens in budgets
            if before > plan.base
        ]
        if active and min(active) < window:
            raise ConfigError(
                f"a window of {plan.side} x {plan.side} tokens given with a budget of "
                f"{min(active)}; give a smaller window or a larger budget"
            )

    def plan(self, geometry: CacheGeometry) -> Plan:
        """Return what each layer may hold when each scale begins."""
        mean = budget_tokens(self.budget, geometry)
        side = self.window
        if side is None:
            side = max(1, min(_LARGEST_SIDE, math.isqrt(mean // _BUDGET_A_WINDOW)))
        floor = min(mean, max(side * side, mean * FLOOR[0] // FLOOR[1]))
        layers, scales = geometry.layers, len(geometry.grids)
        drafters = first_layers(layers, scales)
        if self.calibration is not None:
            self.calibration.check(geometry)
            drafters = self.calibration.drafters_by_scale()[:scales]
        budgets = scale_budgets(geometry.sizes, layers, mean, drafters, floor)
        return Plan(mean, tuple(tuple(map(b.of, range(layers))) for b in budgets), side)

    def select(self, context: StepContext) -> Tensor | None:
        """Keep the window and the tokens that it looks for."""
        total = context.keys.shape[2]
        if context.geometry.ends[context.scale] <= self._plan.base:
            return None
        capacity = self._plan.budgets[context.scale + 1][context.layer]
        if total <= capacity:
            return None
        grid = context.geometry.grids[context.scale]
        window = grid_window(total, grid, self._plan.side)
        others = best(self.scores(context, window), capacity - len(window))
        always = window.to(others.device).expand(*others.shape[:2], -1)
        kept = torch.cat([others, always], dim=-1)
        return kept.sort(dim=-1).values

    def scores(self, context: StepContext, window: Tensor) -> Tensor:
        """Return a score of every token outside the window, ``(R, H, T)``; of it, -inf.

        Args:
            context: of the layer and scale.
            window: places of the window, ``(w,)``, on the CPU.
        """
        queries = context.queries[:, :, window - (context.keys.shape[2] - context.new)]
        scale = context.geometry.attention_scale
        if self.selection == "logits":
            return scale_kv_scores(
                queries, context.keys, window, attention_scale=scale, kernel=self.kernel
            )
        attention = received_attention(queries, context.keys, scale) / len(window)
        scores = snapkv_scores(attention, window, self.kernel)
        return scores.index_fill_(-1, window.to(scores.device), -torch.inf)


def scale_kv_scores(
    queries: Tensor, keys: Tensor, window: Tensor, *, attention_scale: float, kernel: int
) -> Tensor:
    """Score keys by their products with a window's queries, float32 ``(R, H, T)``.

    ``max over neighbours of sum_i scale q_i k_j``, without the window's keys, which get -inf.

    Args:
        queries: of the window, ``(R, H, w, d)``.
        keys: ``(R, H, T, d)``.
        window: places of the window among the keys, ``(w,)``, on the CPU.
        attention_scale: factor of the products.
        kernel: odd width of the pooling.
    """
    summed = queries.float().sum(dim=2) * attention_scale
    products = (keys.float() @ summed.unsqueeze(-1)).squeeze(-1)
    window = window.to(keys.device)
    products.index_fill_(-1, window, -torch.inf)
    pooled = F.max_pool1d(products, kernel, stride=1, padding=kernel // 2)
    return pooled.index_fill_(-1, window, -torch.inf)


__all__ = ["Plan", "ScaleKV", "Selection", "scale_kv_scores"]
