"""Which layers ScaleKV lets remember much, measured from their attention (arXiv 2505.19602).

For layer l at scale k, with probabilities ``a_ij`` of queries i, the scale's own keys C and
earlier keys P::

    ASI(l, k) = mean_i (sum_{j in C} a_ij) * mean_i (sum of the K' largest a_ij, j in P)
    Z(l, k)   = (ASI(l, k) - mean_l ASI) / (std_l ASI + eps)                within each scale

A low value means attention spread widely over history: the pairs (layer, scale) of lowest Z are
*drafters*, which get large budgets. Means run over heads and queries, and the product is averaged
over pictures. K', the number of drafters and eps are not published; one picture or ten give the
same.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from tessella.config import nearest
from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.calibration import Calibration, Calibrator
from tessella.generation.kv_cache.scale_kv_budgets import LAYERS_A_DRAFTER

_EPS = 1e-8
_PUBLISHED = "scale_kv_published.json"


@dataclass(frozen=True, slots=True)
class ScaleKVCalibration(Calibration):
    """The drafters of a model.

    Args:
        layers: of the model.
        scales: that it writes.
        drafters: pairs (layer, scale), from 0: the layer gets a large budget when that scale is
            written.
        selectivity: attention selectivity index ``[layer][scale]``, where it was measured.
        pictures: how many were measured.
    """

    method: ClassVar[str] = "scale"
    layers: int
    scales: int
    drafters: tuple[tuple[int, int], ...]
    selectivity: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    pictures: int = 0

    def __post_init__(self) -> None:
        for layer, scale in self.drafters:
            if not (0 <= layer < self.layers and 0 <= scale < self.scales):
                raise ConfigError(
                    f"scale.drafters: layer {layer} at scale {scale} given; expected one of "
                    f"{self.layers} layers and {self.scales} scales, from 0"
                )
        shape = [len(row) for row in self.selectivity]
        if self.selectivity and shape != [self.scales] * self.layers:
            raise ConfigError(
                f"scale.selectivity: expected {self.layers} layers of {self.scales} scales each"
            )
        if not all(math.isfinite(value) for row in self.selectivity for value in row):
            raise ConfigError("scale.selectivity: expected finite numbers")

    def check(self, geometry: CacheGeometry) -> None:
        """Check that this is of the model of a run, and of as many scales.

        Raises:
            ConfigError: if not.
        """
        layers, scales = geometry.layers, len(geometry.grids)
        if self.layers != layers or self.scales < scales:
            raise ConfigError(
                f"a 'scale' calibration of {self.layers} layers and {self.scales} scales given; "
                f"this model has {layers} and {scales}: calibrate this model"
            )

    def drafters_by_scale(self) -> tuple[tuple[int, ...], ...]:
        """Return the layers that are drafters at each scale, ascending."""
        return tuple(
            tuple(sorted({layer for layer, at in self.drafters if at == scale}))
            for scale in range(self.scales)
        )


def published_models() -> dict[str, Any]:
    """Return what was published of each model: layers, drafters, and its budgets at 10 %."""
    text = resources.files(__package__).joinpath(_PUBLISHED).read_text(encoding="utf-8")
    models: dict[str, Any] = json.loads(text)
    return models


def load_calibration(source: str | Path | ScaleKVCalibration) -> ScaleKVCalibration:
    """Return a calibration: itself, that of a published model, or that of a file.

    Raises:
        ConfigError: if there is no such model nor file, or the file holds something else.
    """
    if isinstance(source, ScaleKVCalibration):
        return source
    models = published_models()
    if str(source) in models:
        return ScaleKVCalibration.from_dict(models[str(source)]["calibration"])
    if not Path(source).exists():
        hint = nearest(str(source), list(models))
        raise ConfigError(f"calibration {str(source)!r} given, which is no file; {hint}")
    return ScaleKVCalibration.load(source)


# ---- measuring -----------------------------------------------------------------------------


def selectivity_factors(own: Tensor, history: Tensor, top: int) -> Tensor:
    """Return both factors of the selectivity index of each row, float64 ``(2, R)``.

    Args:
        own: probabilities of the scale's own keys, ``(R, H, q, n_k)``.
        history: probabilities of earlier keys, ``(R, H, q, T - n_k)``; without any, the second
            factor is 0.
        top: ``K'``, how many of the earlier keys count.
    """
    largest = history.topk(min(top, history.shape[-1]), dim=-1).values
    sums = [part.double().sum(dim=-1).mean(dim=(1, 2)) for part in (own, largest)]
    return torch.stack(sums).cpu()


def selectivity_scores(selectivity: Tensor, first_scale: int) -> Tensor:
    """Return z-scores over the layers, ``(D, K)``; NaN before ``first_scale``.

    Args:
        selectivity: indices ``(D, K)``.
        first_scale: first scale whose layers are compared.
    """
    std, mean = torch.std_mean(selectivity, dim=0, correction=0, keepdim=True)
    scores = (selectivity - mean) / (std + _EPS)
    scores[:, :first_scale] = torch.nan
    return scores


def choose_drafters(scores: Tensor, count: int) -> tuple[tuple[int, int], ...]:
    """Return the pairs (layer, scale) of lowest z-score, ascending; ties by (layer, scale).

    Args:
        scores: ``(D, K)``, NaN where a pair cannot be chosen.
        count: how many.
    """
    order = scores.flatten().nan_to_num(nan=torch.inf).argsort(stable=True)
    count = min(count, int(scores.isfinite().sum()))
    return tuple(divmod(int(place), scores.shape[1]) for place in order[:count])


class ScaleKVCalibrator(Calibrator):
    """Measures selectivity, and chooses drafters.

    Args:
        top: ``K'``, how many earlier keys count.
        first_scale: scales before it are not compared: they are small, and always kept whole.
        drafters: how many pairs (layer, scale) to choose; by default one of sixteen.
    """

    def __init__(self, *, top: int = 16, first_scale: int = 2, drafters: int | None = None) -> None:
        if top < 1 or first_scale < 0 or (drafters is not None and drafters < 0):
            raise ConfigError(
                f"top={top}, first_scale={first_scale}, drafters={drafters} given; expected at "
                "least 1 key, and no negative numbers"
            )
        self.top, self.first_scale, self.drafters = top, first_scale, drafters
        self._indices: dict[tuple[int, int], float] = {}
        self._factors = torch.empty(0)
        self._queries = self._pictures = self._batch = 0

    def add(self, layer: int, scale: int, probabilities: Tensor, geometry: CacheGeometry) -> None:
        """Add up both factors over the queries of a scale."""
        new = geometry.sizes[scale]
        history, own = probabilities[..., :-new], probabilities[..., -new:]
        count = probabilities.shape[2]
        factors = selectivity_factors(own, history, self.top) * count
        self._factors = self._factors + factors if self._queries else factors
        self._queries += count
        if self._queries == new:
            found = float((self._factors / new).prod(dim=0).sum())
            self._indices[layer, scale] = self._indices.get((layer, scale), 0.0) + found
            self._batch, self._queries = len(probabilities), 0

    def end_run(self) -> None:
        """Count the pictures of a batch."""
        self._pictures += self._batch

    def finish(self) -> ScaleKVCalibration:
        """Choose the drafters.

        Raises:
            ConfigError: if nothing was measured.
        """
        if not self._pictures:
            raise ConfigError("no picture was measured; give at least one condition")
        layers, scales = (1 + max(pair[i] for pair in self._indices) for i in (0, 1))
        sums = [[self._indices[i, k] for k in range(scales)] for i in range(layers)]
        selectivity = torch.tensor(sums, dtype=torch.float64) / self._pictures
        scores = selectivity_scores(selectivity, self.first_scale)
        count = self.drafters
        if count is None:
            count = max(1, round(int(scores.isfinite().sum()) / LAYERS_A_DRAFTER))
        rows = tuple(tuple(row) for row in selectivity.tolist())
        return ScaleKVCalibration(
            layers, scales, choose_drafters(scores, count), rows, self._pictures
        )


__all__ = [
    "ScaleKVCalibration",
    "ScaleKVCalibrator",
    "choose_drafters",
    "load_calibration",
    "published_models",
    "selectivity_factors",
    "selectivity_scores",
]
