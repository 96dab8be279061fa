"""Plain transformer blocks, full or causal; causal ones can run token by token.

    x + attention(norm x),   x + perceptron(norm x)

A gated perceptron is ``w3(SiLU(u) v)`` with ``[u, v] = w12 x`` and two thirds of the hidden width,
rounded up to a multiple of 8 (SwiGLU, arXiv 2002.05202). With a cache, keys and values of earlier
tokens are kept, and feeding a sequence in pieces gives what feeding it whole gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError

EPS = 1e-6


class LayerCache:
    """Keys and values of the tokens that a block has seen, ``(B, heads, N, d)`` each."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append tokens, and return those of all."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Attention(nn.Module):
    """Self-attention with one projection for queries, keys and values.

    Args:
        width: channels ``D``.
        heads: number of heads.
        is_causal: whether a token sees itself and those before it only.
    """

    def __init__(self, width: int, heads: int, *, is_causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.is_causal = is_causal
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        """Attend over ``(B, N, D)``, and over the tokens of the cache."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv.unbind(0)
        if cache is not None:
            keys, values = cache.extend(keys, values)
        mask = None
        if self.is_causal:
            # the last of the queries sees every key
            seen = torch.ones(tokens, keys.shape[2], dtype=torch.bool, device=x.device)
            mask = seen.tril(keys.shape[2] - tokens)
        out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        result: Tensor = self.proj(out.transpose(1, 2).reshape(batch, tokens, width))
        return result


class Perceptron(nn.Module):
    """Two layers with exact GELU, hidden width four times the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(..., D)``."""
        result: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return result


class GatedPerceptron(nn.Module):
    """SwiGLU with both inner projections in one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 8 * ((int(4 * width * 2 / 3) + 7) // 8)
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(..., D)``."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        result: Tensor = self.w3(F.silu(gate) * value)
        return result


class Block(nn.Module):
    """Attention and a perceptron, each after a normalisation and beside a residual path."""

    def __init__(self, width: int, heads: int, *, is_causal: bool, is_gated: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads, is_causal=is_causal)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = GatedPerceptron(width) if is_gated else Perceptron(width)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        """Transform ``(B, N, D)``."""
        x = x + self.attn(self.norm1(x), cache)
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class Transformer(nn.Module):
    """A stack of blocks, without positions and without a last normalisation.

    Args:
        width: channels ``D``.
        depth: number of blocks.
        head_dim: channels of a head.
        is_causal: whether a token sees itself and those before it only.
        is_gated: whether perceptrons are gated.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        *,
        head_dim: int = 64,
        is_causal: bool = False,
        is_gated: bool = False,
    ) -> None:
        super().__init__()
        if depth < 1 or head_dim < 1 or width % head_dim:
            raise ConfigError(
                f"width={width}, depth={depth}, head_dim={head_dim} given; expected at least one "
                "block and a width that is a multiple of head_dim"
            )
        self.blocks = nn.ModuleList(
            Block(width, width // head_dim, is_causal=is_causal, is_gated=is_gated)
            for _ in range(depth)
        )
        self.is_causal = is_causal

    def forward(self, x: Tensor, cache: Sequence[LayerCache] | None = None) -> Tensor:
        """Transform ``(B, N, D)``.

        Args:
            x: tokens; with a cache, those that follow the ones it has seen.
            cache: one entry a block, of :meth:`new_cache`; it is extended.

        Raises:
            ShapeError: if a cache is given to blocks that are not causal.
        """
        if cache is not None and not self.is_causal:
            raise ShapeError("a cache given to full attention; expected causal blocks")
        for i, block in enumerate(self.blocks):
            x = block(x, cache[i] if cache is not None else None)
        return x

    def new_cache(self) -> list[LayerCache]:
        """Return an empty cache for a new sequence."""
        return [LayerCache() for _ in self.blocks]


__all__ = ["EPS", "LayerCache", "Transformer"]
