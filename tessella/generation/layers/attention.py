"""Self-attention of next-scale transformers, with normalized queries and keys or without.

    q, k <- q / |q|, k / |k|;   q <- q exp(min(tau_h, ln 100));   softmax(q k^T) v

with a learned log temperature ``tau_h`` a head (VAR, arXiv 2404.02905); without normalisation the
products are scaled by ``0.25 / sqrt(d)``. In training, one call sees all scales, and a scale's
queries see the keys up to its end; in generation, what a cache shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.generation.kv_cache.base import KVCache, attend
from tessella.generation.layers.packed_linear import PackedLinear

_MAX_LOG_TEMPERATURE = math.log(100)
_FIRST_LOG_TEMPERATURE = math.log(4)
_EPS = 1e-12


class Rotation(NamedTuple):
    """Cosines and sines ``(N, d/2)`` that turn neighbouring pairs of channels."""

    cos: Tensor
    sin: Tensor


class ScaleAttention(nn.Module):
    """Attention among the tokens of a scale and those before it.

    Args:
        width: channels ``C``.
        heads: number of heads ``H``.
        is_normalized: normalize queries and keys to length one.
    """

    def __init__(self, width: int, heads: int, *, is_normalized: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.is_normalized = is_normalized
        self.qkv = PackedLinear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        if is_normalized:
            start = torch.full((heads,), _FIRST_LOG_TEMPERATURE)
            self.log_temperature = nn.Parameter(start)
        self.proj = PackedLinear(width, width)
        self.scale = 1.0 if is_normalized else 0.25 / math.sqrt(width // heads)

    def forward(self, x: Tensor, ends: Sequence[int], rotation: Rotation | None = None) -> Tensor:
        """Attend within a sequence of whole scales, ``(B, N, C)``.

        Args:
            x: ``(B, N, C)``.
            ends: where each scale ends in the sequence; the last is N.
            rotation: rotary positions of the N tokens.
        """
        queries, keys, values = self._heads(x, rotation)
        scales = [
            F.scaled_dot_product_attention(
                queries[:, :, start:end], keys[:, :, :end], values[:, :, :end], scale=self.scale
            )
            for start, end in zip((0, *ends), ends, strict=False)
        ]
        return self._joined(torch.cat(scales, dim=2))

    def step(
        self, x: Tensor, layer: int, cache: KVCache, rotation: Rotation | None = None
    ) -> Tensor:
        """Attend from one scale ``(R, n_k, C)`` to itself and to what the cache shows."""
        queries, keys, values = self._heads(x, rotation)
        visible = cache.update(layer, keys, values, queries)
        return self._joined(attend(queries, visible, self.scale))

    def _joined(self, out: Tensor) -> Tensor:
        rows, _, tokens, _ = out.shape
        joined: Tensor = self.proj(out.transpose(1, 2).reshape(rows, tokens, -1))
        return joined

    def _heads(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values ``(B, H, N, d)``."""
        batch, tokens, width = x.shape
        parts = self.qkv(x).view(batch, tokens, 3, width)
        if torch.is_grad_enabled():
            bias = torch.stack([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
            parts = parts + bias
        else:
            parts[:, :, 0] += self.q_bias
            parts[:, :, 2] += self.v_bias
        queries, keys, values = (
            part.view(batch, tokens, self.heads, -1).transpose(1, 2) for part in parts.unbind(2)
        )
        if self.is_normalized:
            temperature = self.log_temperature.clamp(max=_MAX_LOG_TEMPERATURE).exp()
            queries = _unit(queries) * temperature.view(-1, 1, 1).to(queries.dtype)
            keys = _unit(keys)
        if rotation is not None:
            queries, keys = rotated(queries, rotation), rotated(keys, rotation)
        return queries, keys, values


def _unit(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.clamp_min(_EPS)


def rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn channel pairs (2j, 2j+1) of ``(B, H, N, d)`` by the angles of each token."""
    a, b = x[..., 0::2], x[..., 1::2]
    cos, sin = rotation.cos.to(x.dtype), rotation.sin.to(x.dtype)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


__all__ = ["Rotation", "ScaleAttention", "rotated"]
