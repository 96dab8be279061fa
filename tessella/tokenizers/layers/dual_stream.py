"""Selftok's encoder blocks (arXiv 2505.07538): queries read an image that never sees them.

::

    image tokens  --norm--> self-attention, perceptron --> image tokens of the next block
                     |
    queries --norm--> attention to image and queries, perceptron --> queries, modulated per query

Each query is modulated (adaptive normalisation with gates, arXiv 2212.09748) by an embedding of
the diffusion time that it stands for. The image stream of the last block would feed nothing, so
that block has only what its queries read.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6
_FREQUENCIES = 256  # width of the sinusoidal embedding of time
_PERIOD = 10_000.0


class DualStreamBlock(nn.Module):
    """One block over image tokens ``(B, N, D)`` and queries ``(B, K, Q)``.

    Args:
        width: channels ``D`` of the image tokens.
        heads: heads of their attention.
        query_width: channels ``Q`` of the queries.
        query_heads: heads of the queries' attention.
        is_last: whether no later block reads the image tokens.
    """

    def __init__(
        self, width: int, heads: int, *, query_width: int, query_heads: int, is_last: bool
    ) -> None:
        super().__init__()
        self.heads, self.query_heads = heads, query_heads
        self.attn = nn.ModuleDict(
            {
                "to_query_kv": nn.Linear(width, 2 * query_width),
                "query_linear": nn.Linear(query_width, 3 * query_width),
                "query_proj": nn.Linear(query_width, query_width),
            }
        )
        self.mlp: nn.Module | None = None
        if not is_last:
            self.attn["qkv"] = nn.Linear(width, 3 * width)
            self.attn["proj"] = nn.Linear(width, width)
            self.mlp = _perceptron(width)
        self.q_mlp = _perceptron(query_width)
        self.t_embedder = nn.Sequential(
            nn.Linear(_FREQUENCIES, query_width), nn.SiLU(), nn.Linear(query_width, query_width)
        )
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(query_width, 6 * query_width))

    def forward(self, x: Tensor, queries: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return image tokens and queries.

        Args:
            x: image tokens ``(B, N, D)``.
            queries: ``(B, K, Q)``.
            times: sinusoids of the queries' times ``(K, 256)``.
        """
        modulation = self.modulation(self.t_embedder(times)).chunk(6, dim=-1)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation
        seen = _normalised(x)
        read = self._read(seen, _normalised(queries) * (1 + scale) + shift)
        queries = queries + gate * read
        moved = _normalised(queries) * (1 + mlp_scale) + mlp_shift
        queries = queries + mlp_gate * self.q_mlp(moved)
        if self.mlp is not None:
            q, k, v = _heads(self.attn["qkv"](seen), 3, self.heads)
            x = x + self.attn["proj"](_attended(q, k, v))
            x = x + self.mlp(_normalised(x))
        return x, queries

    def _read(self, seen: Tensor, queries: Tensor) -> Tensor:
        q, k, v = _heads(self.attn["query_linear"](queries), 3, self.query_heads)
        image_k, image_v = _heads(self.attn["to_query_kv"](seen), 2, self.query_heads)
        keys, values = torch.cat([image_k, k], dim=2), torch.cat([image_v, v], dim=2)
        result: Tensor = self.attn["query_proj"](_attended(q, keys, values))
        return result


def time_sinusoids(times: Tensor) -> Tensor:
    """Embed times ``(K,)`` as ``(K, 256)`` cosines, then sines, in float32."""
    half = _FREQUENCIES // 2
    steps = torch.arange(half, dtype=torch.float32, device=times.device)
    angles = times.float()[:, None] * torch.exp(-math.log(_PERIOD) * steps / half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def sinusoids_1d(length: int, width: int, device: torch.device, *, start: int = 0) -> Tensor:
    """Embed positions ``start, start + 1, ...`` as ``(length, width)`` sines, then cosines."""
    steps = torch.arange(width // 2, dtype=torch.float64, device="cpu")
    places = torch.arange(start, start + length, dtype=torch.float64, device="cpu")
    angles = places[:, None] * _PERIOD ** (-2 * steps / width)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float().to(device)


def sinusoids_2d(grid: tuple[int, int], width: int, side: int, device: torch.device) -> Tensor:
    """Embed the middle ``(h, w)`` of a table of ``side x side`` positions.

    Returns:
        ``(h w, width)`` float32 in raster order: the column's sinusoids, then the row's.
    """
    rows, columns = (
        sinusoids_1d(count, width // 2, device, start=(side - count) // 2) for count in grid
    )
    cells = [columns.expand(grid[0], -1, -1), rows[:, None].expand(-1, grid[1], -1)]
    return torch.cat(cells, dim=-1).flatten(0, 1)


def _perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
    )


def _normalised(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=EPS)


def _heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Split ``(B, N, parts D)`` into tensors ``(B, heads, N, d)``."""
    return torch.unflatten(x, -1, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _attended(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    out = F.scaled_dot_product_attention(queries, keys, values)
    return out.transpose(1, 2).flatten(2)


__all__ = ["EPS", "DualStreamBlock", "sinusoids_1d", "sinusoids_2d", "time_sinusoids"]
