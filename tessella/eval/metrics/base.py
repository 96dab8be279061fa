"""What the streaming metrics share. The only module that imports torchmetrics.

It is imported when a metric is used; ``tessella.eval`` does not import it. States are sums in
float64 or rows to be joined, so that several processes, or several parts of a data set, give what
one gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tessella.errors import MissingDependencyError, ShapeError

try:
    from torchmetrics import Metric
except ImportError as error:
    raise MissingDependencyError("metrics need torchmetrics: pip install torchmetrics") from error

Features = Callable[[Tensor], Tensor]


class StreamingMetric(Metric):
    """A metric whose states of parts add up; never differentiable."""

    is_differentiable = False
    full_state_update = False

    def add_sum(self, name: str, *shape: int, dtype: torch.dtype = torch.float64) -> None:
        """Add a state that is summed over processes."""
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def add_rows(self, name: str) -> None:
        """Add a state whose rows are joined over processes."""
        self.add_state(name, [], dist_reduce_fx="cat")


class TwoSets(StreamingMetric):
    """Keeps the features of real and of generated pictures.

    Args:
        features: from what ``update`` is given to ``(N, D)``, such as ``InceptionFeatures().pool``
            for uint8 pixels; None if ``update`` is given features.
        options: of torchmetrics' ``Metric``.
    """

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, features: Features | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.features = features
        self.add_rows("real")
        self.add_rows("fake")

    def update(self, pictures: Tensor, *, real: bool) -> None:
        """Add pictures, or their features ``(N, D)``.

        Raises:
            ShapeError: if there are no features ``(N, D)``.
        """
        rows = feature_rows(self.features, pictures)
        (self.real if real else self.fake).append(rows)

    def both(self) -> tuple[Tensor, Tensor]:
        """Return real and generated features in float64.

        Raises:
            ShapeError: if one of the sets is empty.
        """
        return joined(self.real, "real").double(), joined(self.fake, "generated").double()


def feature_rows(features: Features | None, pictures: Tensor) -> Tensor:
    """Return features ``(N, D)``, computed or as given.

    Raises:
        ShapeError: if they are not floats ``(N, D)``.
    """
    with torch.no_grad():
        rows = pictures if features is None else features(pictures)
    if rows.ndim != 2 or not rows.is_floating_point():
        raise ShapeError(
            f"features of shape {tuple(rows.shape)} and dtype {rows.dtype} given; expected floats "
            "(N, D): give the metric a function from pictures to features"
        )
    return rows


def joined(rows: list[Tensor] | Tensor, name: str) -> Tensor:
    """Return the rows of a state, which synchronisation turns from a list into a tensor.

    Raises:
        ShapeError: if there are none.
    """
    if isinstance(rows, list) and not rows:
        raise ShapeError(f"no {name} pictures given; expected update() before compute()")
    return torch.cat(rows) if isinstance(rows, list) else rows


__all__ = ["Features", "Metric", "StreamingMetric", "TwoSets", "feature_rows", "joined"]
