"""Features of prompts as a condition: what a text encoder says of each token.

A prompt is ``(T_i, C_text)`` floats. Prompts of unlike lengths are padded for the batch, and the
padding is masked, so that a picture does not depend on the others of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tessella.errors import ConfigError, ShapeError

#: features of prompts: one ``(T_i, C)`` tensor each, or ``(B, T, C)``
Features = Tensor | Sequence[Tensor]


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts, and what guidance does with them.

    Args:
        features: one ``(T_i, C_text)`` tensor a prompt, or padded ``(B, T, C_text)``.
        mask: bool ``(B, T)`` of padded features: True where there is a token; None for everywhere.
        negative: features of what the pictures shall not be, one a prompt or one for all; guidance
            leads away from them in place of the learned null text.
        negative_mask: of padded negative features.
        guidance_layers: where guidance mixes the two predictions: 0 stands for the logits, -i for
            the output of the i-th block from the end.
    """

    features: Features
    mask: Tensor | None = None
    negative: Features | None = None
    negative_mask: Tensor | None = None
    guidance_layers: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if self.negative is None and self.negative_mask is not None:
            raise ShapeError("negative_mask given without negative; expected both or none")
        if not self.guidance_layers or max(self.guidance_layers) > 0:
            raise ConfigError(
                f"guidance_layers={self.guidance_layers} given; expected 0 (the logits) or -1, -2, "
                "... (outputs of blocks, from the end)"
            )


class TextBatch(NamedTuple):
    """Prompts of a batch.

    Args:
        features: ``(B, T, C_text)``; whatever lies behind the end of a prompt is not read.
        lengths: tokens of each prompt.
    """

    features: Tensor
    lengths: tuple[int, ...]

    @property
    def mask(self) -> Tensor | None:
        """Bool ``(B, 1, 1, T)``, True where there is a token; None if that is everywhere."""
        longest = self.features.shape[1]
        if min(self.lengths) == longest:
            return None
        device = self.features.device
        ends = torch.tensor(self.lengths, device=device).view(-1, 1, 1, 1)
        return torch.arange(longest, device=device) < ends

    @classmethod
    def padded(cls, prompts: Sequence[Tensor]) -> TextBatch:
        """Join prompts ``(T_i, C_text)``."""
        features = torch.nn.utils.rnn.pad_sequence(list(prompts), batch_first=True)
        return cls(features, tuple(len(prompt) for prompt in prompts))

    def joined(self, other: TextBatch) -> TextBatch:
        """Put another batch behind this one."""
        if self.features.shape == other.features.shape:
            features = torch.cat([self.features, other.features])
            return TextBatch(features, self.lengths + other.lengths)
        both = (self, other)
        rows = [
            (row, n) for batch in both for row, n in zip(batch.features, batch.lengths, strict=True)
        ]
        return TextBatch.padded([row[:length] for row, length in rows])


def check_features(
    features: Features, mask: Tensor | None, *, channels: int, longest: int, like: Tensor
) -> TextBatch:
    """Return prompts as a batch without padding that is not needed.

    Args:
        features: see :class:`Prompts`.
        mask: see :class:`Prompts`.
        channels: ``C_text``.
        longest: most tokens of a prompt.
        like: a tensor of the device and type that the features shall have.

    Raises:
        ShapeError: if they are of another shape or kind, empty, or too long.
    """
    prompts = _rows(features, mask)
    if not prompts:
        raise ShapeError("no prompts given; expected features (T, C) of at least one")
    for i, prompt in enumerate(prompts):
        if prompt.ndim != 2 or prompt.shape[1] != channels or not prompt.is_floating_point():
            raise ShapeError(
                f"features of prompt {i} with shape {tuple(prompt.shape)} and type {prompt.dtype} "
                f"given; expected floats (T, {channels}): use the text encoder that the generator "
                "was trained with"
            )
        if not 1 <= len(prompt) <= longest:
            raise ShapeError(
                f"prompt {i} of {len(prompt)} tokens given; expected 1 to {longest}: "
                + ("shorten it" if len(prompt) else "an empty prompt has at least an end token")
            )
    return TextBatch.padded([prompt.to(like.device, like.dtype) for prompt in prompts])


def _rows(features: Features, mask: Tensor | None) -> list[Tensor]:
    """Return one tensor a prompt."""
    if mask is None:
        return list(features)
    if not isinstance(features, Tensor) or features.ndim != 3:
        raise ShapeError("a mask given with features that are not one (B, T, C) tensor")
    if mask.dtype != torch.bool or mask.shape != features.shape[:2]:
        raise ShapeError(
            f"a mask of shape {tuple(mask.shape)} and type {mask.dtype} given; expected bool "
            f"{tuple(features.shape[:2])}"
        )
    return [row[kept] for row, kept in zip(features, mask.to(features.device), strict=True)]


def check_prompts(condition: Prompts | Features) -> Prompts:
    """Return a condition as :class:`Prompts`.

    Raises:
        ShapeError: if it is something else.
    """
    if isinstance(condition, Prompts):
        return condition
    is_list = isinstance(condition, list | tuple) and all(
        isinstance(row, Tensor) for row in condition
    )
    if not is_list and not (isinstance(condition, Tensor) and condition.ndim == 3):
        raise ShapeError(
            f"a condition of type {type(condition).__name__} given; expected text features: "
            "a list of (T, C) tensors, one (B, T, C) tensor, or Prompts"
        )
    return Prompts(condition)


__all__ = ["Features", "Prompts", "TextBatch", "check_features", "check_prompts"]
