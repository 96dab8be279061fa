"""How much each head looks back at each scale (HeatKV, arXiv 2605.14877).

S-CAS(s, l, h) = sum over scales t > s of the mean over queries of t of the attention to s
                 divided by (pictures (K - 1 - s))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.calibration import Calibration, Calibrator, check_model
from tessella.generation.kv_cache.heat_kv_schedule import Order


@dataclass(frozen=True, slots=True)
class HeatCalibration(Calibration):
    """Mean attention to earlier scales.

    Args:
        scores: ``[scale][layer][head]``: S-CAS of all scales but the last.
        pictures: how many were measured.
    """

    method: ClassVar[str] = "heat"
    scores: tuple[tuple[tuple[float, ...], ...], ...]
    pictures: int

    def __post_init__(self) -> None:
        shapes = {tuple(len(heads) for heads in layers) for layers in self.scores}
        if len(shapes) != 1 or len(set(next(iter(shapes)))) != 1:
            raise ConfigError("heat.scores: expected as many layers and heads for every scale")
        numbers = [v for layers in self.scores for heads in layers for v in heads]
        if not all(math.isfinite(number) for number in numbers):
            raise ConfigError("heat.scores: expected finite numbers")

    @property
    def layers(self) -> int:
        """Number of layers that were measured."""
        return len(self.scores[0])

    @property
    def heads(self) -> int:
        """Number of heads of a layer."""
        return len(self.scores[0][0])

    def check(self, geometry: CacheGeometry) -> None:
        """Check that this is of the model of a run, and of as many scales.

        Raises:
            ConfigError: if not.
        """
        check_model(self.method, self.layers, self.heads, geometry)
        needed = len(geometry.sizes) - 1
        if len(self.scores) < needed:
            raise ConfigError(
                f"a 'heat' calibration of {len(self.scores)} scales given; this run needs "
                f"{needed}: calibrate this model"
            )

    def order(self, scale: int) -> Order:
        """Return ``(head, layer)`` pairs by rising score of a scale, ties by head, then layer."""
        scores = self.scores[scale]
        pairs = [(head, layer) for head in range(self.heads) for layer in range(self.layers)]
        return tuple(sorted(pairs, key=lambda pair: scores[pair[1]][pair[0]]))


class HeatCalibrator(Calibrator):
    """Sums up attention to each earlier scale."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._pictures = self._batch = self._scales = self._layers = 0

    def add(self, layer: int, scale: int, probabilities: Tensor, geometry: CacheGeometry) -> None:
        """Take note of what some queries of a scale saw of each scale before."""
        self._batch = len(probabilities)
        self._scales, self._layers = len(geometry.sizes), geometry.layers
        bounds = pairwise((0, *geometry.ends[:scale]))
        for source, (start, end) in enumerate(bounds):
            seen = probabilities[..., start:end].double().sum(dim=(0, 2, 3))
            mean = seen.cpu() / geometry.sizes[scale]
            self._sums[source, layer] = self._sums.get((source, layer), 0) + mean

    def end_run(self) -> None:
        """Count the pictures of a batch."""
        self._pictures += self._batch

    def finish(self) -> HeatCalibration:
        """Return averages over pictures and over the scales that look back.

        Raises:
            ConfigError: if nothing was measured, or the model writes one scale.
        """
        if not self._sums or not self._pictures:
            raise ConfigError("no picture of several scales was measured; give a condition")
        sources = range(self._scales - 1)
        means = [
            torch.stack([self._sums[s, layer] for layer in range(self._layers)])
            / (self._pictures * (self._scales - 1 - s))
            for s in sources
        ]
        scores = tuple(tuple(tuple(heads) for heads in mean.tolist()) for mean in means)
        return HeatCalibration(scores, self._pictures)


__all__ = ["HeatCalibration", "HeatCalibrator"]
