"""Inception score (arXiv 1606.03498): ``exp(mean_i KL(p_i | mean p))`` of predicted classes.

Published figures differ in how pictures are split: torch-fidelity shuffles with NumPy's
``RandomState(2020)`` and takes 10 parts; ADM takes consecutive parts of 5000; tokenizers' tables
take one part, which gives the largest value. Logits are those without the bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tessella.errors import ConfigError, ShapeError
from tessella.eval.metrics.base import Features, StreamingMetric, feature_rows, joined


class InceptionScoreResult(NamedTuple):
    """Mean and population deviation over parts.

    Args:
        mean: float64 scalar.
        deviation: float64 scalar.
    """

    mean: Tensor
    deviation: Tensor


def inception_score(
    logits: Tensor, *, splits: int = 10, split_size: int | None = None, seed: int | None = 2020
) -> InceptionScoreResult:
    """Return the score of logits ``(N, classes)``.

    Args:
        logits: unnormalised.
        splits: number of parts of nearly equal size.
        split_size: consecutive parts of this size instead; the last may be smaller.
        seed: of the shuffle; None keeps the order, which must then not be that of classes.

    Raises:
        ShapeError: if there are fewer pictures than parts.
    """
    count = len(logits)
    if count < splits:
        raise ShapeError(f"{count} pictures given for {splits} parts; expected as many at least")
    if seed is not None:
        order = np.random.RandomState(seed).permutation(count)
        logits = logits[torch.from_numpy(order).to(logits.device)]
    if split_size is not None:
        parts: Sequence[Tensor] = torch.split(logits.double(), split_size)
    else:
        edges = [i * count // splits for i in range(splits + 1)]
        parts = [logits.double()[a:b] for a, b in pairwise(edges)]
    values = torch.stack([_score(part) for part in parts])
    return InceptionScoreResult(values.mean(), values.std(correction=0))


class InceptionScore(StreamingMetric):
    """Inception score of generated pictures.

    Args:
        features: from what ``update`` is given to logits, such as ``InceptionFeatures().logits``;
            None if it is given logits.
        splits: number of parts.
        split_size: consecutive parts of this size instead.
        seed: of the shuffle; None keeps the order.
        options: of torchmetrics' ``Metric``.

    Raises:
        ConfigError: if a number is smaller than 1.
    """

    higher_is_better = True
    logits: list[Tensor]

    def __init__(
        self,
        features: Features | None = None,
        *,
        splits: int = 10,
        split_size: int | None = None,
        seed: int | None = 2020,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if splits < 1 or (split_size is not None and split_size < 1):
            raise ConfigError(f"splits={splits}, split_size={split_size} given; expected 1 or more")
        self.features, self.splits, self.split_size = features, splits, split_size
        self.seed = seed
        self.add_rows("logits")

    def update(self, pictures: Tensor) -> None:
        """Add pictures, or their logits ``(N, classes)``.

        Raises:
            ShapeError: if there are no logits ``(N, classes)``.
        """
        self.logits.append(feature_rows(self.features, pictures))

    def compute(self) -> InceptionScoreResult:
        """Return mean and deviation over parts.

        Raises:
            ShapeError: if there are fewer pictures than parts.
        """
        rows = joined(self.logits, "generated")
        splits = 1 if self.split_size is not None else self.splits
        return inception_score(rows, splits=splits, split_size=self.split_size, seed=self.seed)


def _score(logits: Tensor) -> Tensor:
    logs = logits.log_softmax(dim=1)
    mean = logs.exp().mean(dim=0, keepdim=True).log()
    return (logs.exp() * (logs - mean)).sum(dim=1).mean().exp()


__all__ = ["InceptionScore", "InceptionScoreResult", "inception_score"]
