"""A modulated transformer block that attends to a text between its two branches.

    x += gamma1 * attention(LN(x) (1 + scale1) + shift1)
    x += gamma_text * cross_attention(LN'(x), text)
    x += gamma2 * mlp(LN(x) (1 + scale2) + shift2)

``LN'`` has weights of its own; the condition does not gate the text (Infinity, arXiv 2412.04431).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tessella.errors import ShapeError
from tessella.generation.layers.blocks import BlockContext, ModulatedBlock
from tessella.generation.layers.cross_attention import CrossAttention
from tessella.generation.layers.modulated import add_branch


class TextBlock(ModulatedBlock):
    """Attention, cross attention and a perceptron.

    Args:
        width: channels ``C``.
        heads: attention heads, of both attentions.
        text_gamma: first value of a learned factor of the text's branch; None for no factor.
        sizes: the other arguments of :class:`ModulatedBlock`.
    """

    def __init__(self, width: int, heads: int, *, text_gamma: float | None, **sizes: Any) -> None:
        super().__init__(width, heads, **sizes)
        self.text_norm = nn.LayerNorm(width, eps=self.eps)
        self.cross_attention = CrossAttention(width, heads)
        self.text_gamma: nn.Parameter | None = None
        if text_gamma is not None:
            self.text_gamma = nn.Parameter(torch.full((width,), text_gamma))

    def _read(self, x: Tensor, context: BlockContext) -> Tensor:
        """Add what the tokens find in the text."""
        if context.text is None:
            raise ShapeError("no text given; expected keys and values of one a picture")
        branch: Tensor = self.cross_attention(self.text_norm(x), context.text)
        if self.text_gamma is not None:
            return add_branch(x, self.text_gamma, branch)
        return x + branch if torch.is_grad_enabled() else x.add_(branch)


__all__ = ["TextBlock"]
