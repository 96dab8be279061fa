"""HeatKV's cache: heads lose whole scales that they look back at least (arXiv 2605.14877).

All pictures share a static plan, so nothing is worked out while a picture is made. What is stored
in all layers together stays within the budget whenever a layer has been written.
"""

from __future__ import annotations

from pathlib import Path

import torch

from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.heat_kv_calibration import HeatCalibration
from tessella.generation.kv_cache.heat_kv_schedule import Order, Removal, make_schedule
from tessella.generation.kv_cache.policy import Keep, Policy, StepContext, budget_tokens

_PROTECTED = 3
_EPS = 1e-9


class HeatKV(Policy):
    """Removes scales from heads, in an order that calibration tells.

    Without calibration every head loses its share: each scale's order begins at another head.

    Args:
        budget: share of the full cache, or mean tokens of a head and layer.
        calibration: of the model, or its file.
        protected: so many first scales always stay; by default 3, or fewer where the budget does
            not hold them.

    Raises:
        ConfigError: if ``protected`` is below 1, or the file no calibration.
    """

    name = "heat"

    def __init__(
        self,
        budget: float,
        *,
        calibration: HeatCalibration | str | Path | None = None,
        protected: int | None = None,
    ) -> None:
        if protected is not None and protected < 1:
            raise ConfigError(f"protected={protected} given; expected at least 1 scale")
        self.budget = budget
        if isinstance(calibration, str | Path):
            calibration = HeatCalibration.load(calibration)
        self.calibration = calibration
        self.protected = protected
        self._held: list[list[list[int]]] = []  # [layer][head]: scales that are stored

    def start(self, geometry: CacheGeometry) -> None:
        """Make the plan of a run."""
        layers, heads, last = geometry.layers, geometry.heads, len(geometry.sizes) - 1
        if self.calibration is not None:
            self.calibration.check(geometry)
        tokens = budget_tokens(self.budget, geometry)
        share = self.budget * geometry.stored if self.budget <= 1 else tokens
        protected = self._protected(geometry, tokens)
        self._schedule = make_schedule(
            geometry.sizes,
            {s: self._order(s, protected, geometry) for s in range(protected, last)},
            layers=layers,
            heads=heads,
            protected=protected,
            capacity=int(share * layers * heads + _EPS),
        )
        self._geometry = geometry
        self._held = [[[] for _ in range(heads)] for _ in range(layers)]

    def select(self, context: StepContext) -> Keep:
        """Keep the scales that the plan leaves in each head of the layer."""
        if context.layer == 0:
            self._gone = self._schedule.removed_after(context.scale)
        for scales in self._held[context.layer]:
            scales.append(context.scale)
        return self._without(self._gone, context.layer)

    def also_drop(self, layer: int, scale: int) -> dict[int, Keep]:
        """Remove early, in later layers, what the plan says."""
        gone = set(self._schedule.early[scale].get(layer, ()))
        return {later: self._without(gone, later) for later in {item.layer for item in gone}}

    def _without(self, gone: set[Removal], layer: int) -> Keep:
        """Return the places of a layer's tokens but those that go; scales lie in order."""
        held, sizes = self._held[layer], self._geometry.sizes
        left = [
            [scale for scale in scales if Removal(scale, head, layer) not in gone]
            for head, scales in enumerate(held)
        ]
        if left == held:
            return None
        self._held[layer] = left
        places = []
        for before, after in zip(held, left, strict=True):
            stays = torch.tensor([scale in after for scale in before])
            is_kept = stays.repeat_interleave(torch.tensor([sizes[scale] for scale in before]))
            places.append(is_kept.nonzero().squeeze(1))
        every = torch.cat(places).to(self._geometry.device).expand(self._geometry.rows, -1)
        return list(torch.split(every, [len(some) for some in places], dim=1))

    def _protected(self, geometry: CacheGeometry, tokens: int) -> int:
        most = len(geometry.sizes) - 1
        if self.protected is not None:
            return min(self.protected, most)
        held = sum(1 for end in geometry.ends[:_PROTECTED] if end <= tokens)
        return min(max(1, held), most)

    def _order(self, source: int, protected: int, geometry: CacheGeometry) -> Order:
        if self.calibration is not None:
            return self.calibration.order(source)
        pairs = [(h, layer) for h in range(geometry.heads) for layer in range(geometry.layers)]
        sources = len(geometry.sizes) - 1 - protected
        start = (source - protected) * len(pairs) // sources
        return tuple(pairs[start:] + pairs[:start])


__all__ = ["HeatKV"]
