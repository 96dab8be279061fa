"""From the features of a prompt to what a transformer reads of it.

::

    features (T, C_text) --RMSNorm--+--attention pool--> one vector: first token and modulation
                                    '--two layers------> (T, C): keys and values of all blocks

A learned null text stands for no prompt; its first T rows replace the features of one of length T
(Infinity, arXiv 2412.04431).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tessella.generation.layers.cross_attention import AttentionPool
from tessella.generation.layers.packed_linear import PackedLinear
from tessella.generation.text import TextBatch

_EPS = 1e-6


class TextMemory(NamedTuple):
    """What a transformer reads of a batch of prompts.

    Args:
        pooled: ``(R, C)``.
        tokens: ``(R, T, C)``.
        mask: bool ``(R, 1, 1, T)``, True where there is a token; None if that is everywhere.
    """

    pooled: Tensor
    tokens: Tensor
    mask: Tensor | None


class TextConditioner(nn.Module):
    """Brings text features to the width of a transformer.

    Args:
        text_channels: channels ``C_text`` of the features.
        longest: most tokens of a prompt.
        width: channels ``C``.
        heads: of the pool.
    """

    def __init__(self, text_channels: int, longest: int, width: int, heads: int) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.empty(longest, text_channels))
        nn.init.trunc_normal_(self.null, std=text_channels**-0.5)
        self.norm = nn.RMSNorm(text_channels, eps=_EPS)
        self.pool = AttentionPool(text_channels, width, heads)
        self.inner = PackedLinear(text_channels, width)
        self.outer = PackedLinear(width, width)

    def forward(self, text: TextBatch) -> TextMemory:
        """Transform a batch of prompts."""
        normed, mask = self.norm(text.features), text.mask
        tokens = self.outer(self.inner(normed, "gelu_tanh"))
        return TextMemory(self.pool(normed, mask), tokens, mask)

    def without_prompt(self, text: TextBatch, chosen: Tensor | None = None) -> TextBatch:
        """Replace the features of prompts by the null text of their lengths.

        Args:
            text: the prompts.
            chosen: bool ``(B,)``: which ones; all by default.
        """
        null = self.null[: text.features.shape[1]].expand_as(text.features)
        if chosen is None:
            return TextBatch(null, text.lengths)
        features = torch.where(chosen.view(-1, 1, 1), null, text.features)
        return TextBatch(features, text.lengths)


__all__ = ["TextConditioner", "TextMemory"]
