"""Attention to a text: from every token of a picture, or from one learned query.

    softmax(q k^T / sqrt(d)) v,   k, v = W text + (0, b)

The text is the same at every scale, so its keys and values are made once a picture (Infinity,
arXiv 2412.04431, makes them anew at every scale; the numbers are the same).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.generation.layers.packed_linear import PackedLinear


class TextKeys(NamedTuple):
    """Keys and values of a batch of texts.

    Args:
        keys: ``(R, H, T, d)``.
        values: ``(R, H, T, d)``.
        mask: bool ``(R, 1, 1, T)``, True where there is a token; None if that is everywhere.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None


class TextProjection(nn.Module):
    """Makes keys and values of texts.

    Args:
        text_channels: channels of the text.
        width: channels ``C`` of keys and of values.
        heads: number of heads ``H``.
    """

    def __init__(self, text_channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key_value = PackedLinear(text_channels, 2 * width, bias=False)
        self.v_bias = nn.Parameter(torch.zeros(width))

    def forward(self, text: Tensor, mask: Tensor | None) -> TextKeys:
        """Project ``(R, T, C_text)`` with the mask of :class:`TextKeys`."""
        keys, values = self.key_value(text).chunk(2, dim=-1)
        return TextKeys(_split(keys, self.heads), _split(values + self.v_bias, self.heads), mask)


class CrossAttention(nn.Module):
    """Attention from the tokens of pictures to their texts.

    Args:
        width: channels ``C`` of pictures and texts.
        heads: number of heads ``H``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query = PackedLinear(width, width)
        self.text = TextProjection(width, width, heads)
        self.proj = PackedLinear(width, width)

    def forward(self, x: Tensor, text: TextKeys) -> Tensor:
        """Attend from ``(R, N, C)``."""
        queries = _split(self.query(x), self.text.heads)
        out: Tensor = self.proj(_attended(queries, text))
        return out


class AttentionPool(nn.Module):
    """One vector of a text, by attention from a learned query.

    Args:
        text_channels: channels of the text.
        width: channels ``C`` of the vector.
        heads: number of heads ``H``.
    """

    def __init__(self, text_channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(heads, width // heads))
        nn.init.trunc_normal_(self.query, std=(3 * width) ** -0.5)
        self.text = TextProjection(text_channels, width, heads)
        self.proj = PackedLinear(width, width)

    def forward(self, text: Tensor, mask: Tensor | None) -> Tensor:
        """Pool ``(R, T, C_text)`` to ``(R, C)``."""
        queries = self.query.unsqueeze(1).expand(len(text), -1, -1, -1)
        pooled: Tensor = self.proj(_attended(queries, self.text(text, mask)))
        return pooled.squeeze(1)


def _split(x: Tensor, heads: int) -> Tensor:
    """Split ``(R, N, C)`` into ``(R, H, N, d)``."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _attended(queries: Tensor, text: TextKeys) -> Tensor:
    """Attend from ``(R, H, N, d)``; the heads come back joined, ``(R, N, C)``."""
    out = F.scaled_dot_product_attention(queries, text.keys, text.values, attn_mask=text.mask)
    return out.transpose(1, 2).flatten(2)


__all__ = ["AttentionPool", "CrossAttention", "TextKeys", "TextProjection"]
