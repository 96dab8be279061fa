"""Class labels as a condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tessella.errors import ShapeError


def check_classes(labels: Any, classes: int, device: torch.device) -> Tensor:
    """Return labels as ``(B,)`` int64; none of the classes has the number ``classes``.

    Args:
        labels: an integer, a list of them, or a tensor ``(B,)``; negative for no class.
        classes: number of classes.
        device: where the labels shall be.

    Raises:
        ShapeError: if a label is not an integer, or no class has it.
    """
    if isinstance(labels, int):
        labels = [labels]
    if isinstance(labels, Sequence) and all(type(label) is int for label in labels):
        labels = torch.tensor(labels, dtype=torch.int64)
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point():
        raise ShapeError(f"class labels {labels!r} given; expected integers, one a picture")
    if not len(labels):
        raise ShapeError("no class labels given; expected one a picture")
    unknown = labels[labels >= classes].tolist()
    if unknown:
        raise ShapeError(
            f"class {unknown[0]} given; this model knows 0 to {classes - 1} (-1 stands for none)"
        )
    labels = labels.to(device, torch.int64)
    return torch.where(labels < 0, classes, labels)


def drop_classes(
    labels: Tensor, none: int, rate: float, generator: torch.Generator | None
) -> Tensor:
    """Replace labels by that of no class at a rate, for classifier-free guidance."""
    if not rate:
        return labels
    chance = torch.rand(len(labels), generator=generator, device=_device_of(generator))
    return torch.where(chance.to(labels.device) < rate, none, labels)


def _device_of(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


__all__ = ["check_classes", "drop_classes"]
