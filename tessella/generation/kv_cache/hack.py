"""HACK's cache: two classes of heads, each with its own budget and rule (arXiv 2504.09261).

Contextual heads look at the same few keys from everywhere, and keep little: the B_C keys with the
highest scores. Structural heads follow the position, and keep much: the first two scales, the
scale that was just written, and the best of the rest, B_S tokens in all::

    alpha B_C + (1 - alpha) B_S = B              score_j = sum over 32 queries of softmax(q k^T)_j

Calibration tells the classes. Without it every head is structural, so ``B_S = B``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.hack_calibration import HeadCalibration
from tessella.generation.kv_cache.observing import received_attention
from tessella.generation.kv_cache.policy import Keep, Policy, StepContext, budget_tokens

_FIRST_SCALES = 2
_CONTEXTUAL_PART = 4  # B_C is a fourth of B by default


class HACK(Policy):
    """Keeps few tokens in contextual heads and many in structural ones.

    Args:
        budget: share of the full cache, or mean tokens of a head and layer, ``B``.
        calibration: of the model, or its file.
        contextual_share: ``alpha``, share of heads that are contextual.
        contextual_budget: ``B_C`` as a share or in tokens, like the budget; a fourth of it by
            default.
        observed_queries: queries that scores are summed over.
        merge: before the last scale, average what contextual heads evict into what they keep.

    Raises:
        ConfigError: if a number is impossible, or the file no calibration.
    """

    name = "head"

    def __init__(
        self,
        budget: float,
        *,
        calibration: HeadCalibration | str | Path | None = None,
        contextual_share: float = 0.5,
        contextual_budget: float | None = None,
        observed_queries: int = 32,
        merge: bool = False,
    ) -> None:
        if not 0 <= contextual_share <= 1 or observed_queries < 1:
            raise ConfigError(
                f"contextual_share={contextual_share}, observed_queries={observed_queries} given; "
                "expected a share from 0 to 1, and at least 1 query"
            )
        self.budget = budget
        if isinstance(calibration, str | Path):
            calibration = HeadCalibration.load(calibration)
        self.calibration = calibration
        self.contextual_share = contextual_share
        self.contextual_budget = contextual_budget
        self.observed_queries = observed_queries
        self.merge = merge

    def start(self, geometry: CacheGeometry) -> None:
        """Tell the classes of heads, and work out their budgets."""
        layers, heads = geometry.layers, geometry.heads
        self._first = geometry.ends[min(_FIRST_SCALES, len(geometry.ends)) - 1]
        self._classes: tuple[tuple[bool, ...], ...] = ((False,) * heads,) * layers
        if self.calibration is not None:
            self.calibration.check(geometry)
            self._classes = self.calibration.is_contextual(self.contextual_share)
        count = sum(map(sum, self._classes))
        mean = min(budget_tokens(self.budget, geometry), geometry.stored)
        small = min(max(1, mean // _CONTEXTUAL_PART), mean)
        if self.contextual_budget is not None:
            small = budget_tokens(self.contextual_budget, geometry)
        self._budgets = class_budgets(mean, small, count, layers * heads, geometry.stored)
        least = min(self._first + 1, geometry.stored)
        if count < layers * heads and self._budgets[1] < least:
            raise ConfigError(
                f"a budget of {self.budget:g} leaves structural heads {self._budgets[1]} of "
                f"{geometry.stored} tokens; they need {least}: give a larger budget"
            )

    def select(self, context: StepContext) -> Keep:
        """Keep what the rule of each head's class says."""
        contextual, structural = (
            [head for head, found in enumerate(self._classes[context.layer]) if found is which]
            for which in (True, False)
        )
        chosen: dict[int, Tensor] = {}
        for heads, budget in zip((contextual, structural), self._budgets, strict=True):
            if heads:  # of one class and layer, heads are equally long
                places = self._places(context, heads, budget, is_contextual=heads is contextual)
                chosen |= dict(zip(heads, places.unbind(1), strict=True))
        keep = [chosen[head] for head in range(len(context.lengths))]
        lengths = tuple(places.shape[1] for places in keep)
        return None if lengths == context.lengths else keep

    def merged(self, context: StepContext, places: list[Tensor]) -> tuple[Tensor, Tensor] | None:
        """Average evicted tokens of contextual heads into kept ones, before the last scale."""
        is_next_last = context.scale == len(context.geometry.sizes) - 2
        if not (self.merge and is_next_last):
            return None
        keys, values = context.keys.clone(), context.values.clone()
        for head, is_contextual in enumerate(self._classes[context.layer]):
            length = context.lengths[head]
            if is_contextual and places[head].shape[1] < length:
                parts = (keys[:, head, :length], values[:, head, :length])
                for part, mean in zip(parts, merge_evicted(*parts, places[head]), strict=True):
                    index = places[head].unsqueeze(-1).expand_as(mean)
                    part.scatter_(1, index, mean)
        return keys, values

    def _places(
        self, context: StepContext, heads: list[int], budget: int, *, is_contextual: bool
    ) -> Tensor:
        """Return places ``(R, heads, T')`` that heads of one class keep."""
        length = context.lengths[heads[0]]
        if length <= budget:
            every = torch.arange(length, device=context.keys.device)
            return every.expand(len(context.keys), len(heads), -1)
        scores = observation_scores(
            context.queries[:, heads],
            context.keys[:, heads, :length],
            scale=context.geometry.attention_scale,
            count=self.observed_queries,
        )
        if is_contextual:
            return highest(scores, budget)
        return structural_places(scores, budget, first=self._first, recent=context.new)


def class_budgets(
    mean: int, contextual: int, count: int, heads: int, stored: int
) -> tuple[int, int]:
    """Return tokens ``(B_C, B_S)`` of contextual and structural heads that average to the mean.

    Where structural heads would get more than there is, contextual ones get the rest.

    Args:
        mean: ``B``.
        contextual: ``B_C`` that is wished for.
        count: number of contextual heads, of all layers.
        heads: number of heads of all layers.
        stored: tokens of a full cache, per head.

    Example:
        >>> class_budgets(35, 20, 3, 6, 66), class_budgets(60, 15, 3, 6, 66)
        ((20, 50), (54, 66))
    """
    if count in (0, heads):
        return mean, mean
    structural = (heads * mean - count * contextual) // (heads - count)
    if structural >= stored:
        structural = stored
        contextual = (heads * mean - (heads - count) * stored) // count
    return contextual, structural


def observation_scores(queries: Tensor, keys: Tensor, *, scale: float, count: int) -> Tensor:
    """Return attention to each key, summed over evenly spread queries, ``(R, H, T)`` float32.

    Args:
        queries: ``(R, H, n, d)``.
        keys: ``(R, H, T, d)``.
        scale: factor of query-key products before the softmax.
        count: number of queries; all if there are no more.
    """
    total = queries.shape[2]
    if total > count:
        queries = queries[:, :, [i * total // count for i in range(count)]]
    return received_attention(queries, keys, scale)


def highest(scores: Tensor, count: int) -> Tensor:
    """Return the places ``(..., count)`` of the highest scores, ascending; of equals the first."""
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    return order[..., :count].sort(dim=-1).values


def structural_places(scores: Tensor, budget: int, *, first: int, recent: int) -> Tensor:
    """Return the places ``(..., budget)`` that a structural head keeps, ascending.

    Args:
        scores: ``(..., T)`` with T more than the budget.
        budget: more than ``first``.
        first: tokens that always stay, in front.
        recent: tokens of the last scale, at the end; where they do not fit, the best of them stay
            and no other.
    """
    total = scores.shape[-1]
    newest = total - recent
    every = torch.arange(total, device=scores.device).expand(scores.shape)
    free = budget - first - recent
    if free < 0:
        best = highest(scores[..., newest:], budget - first) + newest
        return torch.cat([every[..., :first], best], dim=-1)
    best = highest(scores[..., first:newest], free) + first
    return torch.cat([every[..., :first], best, every[..., newest:]], dim=-1)


def merge_evicted(keys: Tensor, values: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Average evicted tokens into the kept ones whose keys are most alike by cosine.

    Args:
        keys: of one head, ``(R, T, d)``.
        values: ``(R, T, d)``.
        places: of the kept tokens, ``(R, T')``, fewer than T.

    Returns:
        Keys and values of the kept tokens, ``(R, T', d)``: means of themselves and of those that
        came to them.
    """
    rows, total, width = keys.shape
    is_kept = torch.zeros(rows, total, dtype=torch.int8, device=keys.device)
    is_kept.scatter_(1, places, 1)
    evicted = is_kept.argsort(dim=1, stable=True)[:, : total - places.shape[1]]
    units = F.normalize(keys.float(), dim=-1)
    kept_units, evicted_units = (
        units.gather(1, index.unsqueeze(-1).expand(-1, -1, width)) for index in (places, evicted)
    )
    goal = (evicted_units @ kept_units.mT).argmax(dim=-1)
    counts = torch.ones(places.shape, device=keys.device)
    counts = counts.scatter_add(1, goal, torch.ones(goal.shape, device=keys.device)).unsqueeze(-1)
    goals = goal.unsqueeze(-1).expand(-1, -1, width)

    def averaged(tokens: Tensor) -> Tensor:
        kept, others = (
            tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, width)).float()
            for index in (places, evicted)
        )
        return (kept.scatter_add(1, goals, others) / counts).to(tokens.dtype)

    return averaged(keys), averaged(values)


__all__ = [
    "HACK",
    "class_budgets",
    "highest",
    "merge_evicted",
    "observation_scores",
    "structural_places",
]
