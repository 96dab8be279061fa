"""The training loss of next-scale generators: cross entropy over all tokens of a pyramid.

Every token weighs ``1 / N`` of the whole pyramid. In progressive training only the first scales are
trained at first, and a scale that was just added weighs less for a while (arXiv 2404.02905).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Progress:
    """How far progressive training is.

    Args:
        scales: the first so many scales are trained.
        newest_weight: factor of the last of them, 0 to 1.
    """

    scales: int
    newest_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.scales < 1 or not 0 <= self.newest_weight <= 1:
            raise ConfigError(
                f"scales={self.scales}, newest_weight={self.newest_weight} given; expected at "
                "least 1 scale and a weight of 0 to 1"
            )


@dataclass(frozen=True, slots=True)
class ScaleLoss:
    """Options of :func:`scale_loss`.

    Args:
        total: tokens ``N`` of the whole pyramid.
        label_smoothing: 0 to 1.
        progress: of progressive training; None where all scales are trained.
    """

    total: int
    label_smoothing: float = 0.0
    progress: Progress | None = None


def scale_loss(
    logits: Tensor, targets: Tensor, ends: Sequence[int], options: ScaleLoss
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the loss and the figures of a batch.

    Args:
        logits: ``(B, N, V)``.
        targets: ``(B, N)`` indices.
        ends: where each scale ends.
        options: weights.

    Returns:
        Losses ``{"cross_entropy"}`` and stats: cross entropy and accuracy without smoothing, over
        all tokens and over the last scale.
    """
    logits = logits.float()
    each = F.cross_entropy(
        logits.flatten(0, 1),
        targets.flatten(),
        reduction="none",
        label_smoothing=options.label_smoothing,
    ).view(targets.shape)
    weights = torch.full((targets.shape[1],), 1 / options.total, device=logits.device)
    last = slice(ends[-2] if len(ends) > 1 else 0, None)
    if options.progress is not None:
        weights[last] *= options.progress.newest_weight
    with torch.no_grad():
        plain = each
        if options.label_smoothing:
            plain = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(
                targets.shape
            )
        hits = (logits.argmax(dim=-1) == targets).float()
        stats = {
            "loss_mean": plain.mean(),
            "loss_tail": plain[:, last].mean(),
            "accuracy_mean": hits.mean(),
            "accuracy_tail": hits[:, last].mean(),
        }
    return {"cross_entropy": (each * weights).sum(dim=1).mean()}, stats


__all__ = ["Progress", "ScaleLoss", "scale_loss"]
