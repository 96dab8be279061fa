"""Classifier-free guidance: how far from the unconditional prediction each scale goes.

    logits = w_k conditional + (1 - w_k) unconditional        (arXiv 2207.12598)

VAR ramps ``w_k = 1 + g k / (K - 1)`` for guidance ``g``; Infinity holds ``w_k = g``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tessella.errors import ConfigError

Ramp = Literal["linear", "constant"]


def guidance_weights(
    scale: float | Sequence[float] | None, ramp: Ramp, scales: int
) -> tuple[float, ...]:
    """Return ``w_k`` of every scale; all are 1 where nothing guides.

    Args:
        scale: guidance ``g``; or the weights themselves, one a scale; None for no guidance.
        ramp: "linear": ``1 + g k / (K - 1)``, 0 for none; "constant": ``g``, 1 for none.
        scales: number of scales ``K`` of the whole schedule.

    Raises:
        ConfigError: if the weights given are not as many as the scales, or negative.

    Example:
        >>> guidance_weights(1.5, "linear", 4)
        (1.0, 1.5, 2.0, 2.5)
    """
    if scale is None:
        return (1.0,) * scales
    if isinstance(scale, Sequence):
        if len(scale) != scales:
            raise ConfigError(f"{len(scale)} guidance weights given; expected {scales}, one each")
        return tuple(float(weight) for weight in scale)
    if scale < 0:
        raise ConfigError(f"guidance_scale={scale} given; expected 0 or more")
    if ramp == "constant":
        return (float(scale),) * scales
    return tuple(1 + scale * k / max(1, scales - 1) for k in range(scales))


__all__ = ["Ramp", "guidance_weights"]
