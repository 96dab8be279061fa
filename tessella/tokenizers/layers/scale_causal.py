"""A transformer over the scales of a pyramid, in which coarse scales do not see finer ones.

The tokens of all scales form one sequence, coarse to fine, row by row inside a scale. With s(i) the
scale of position i, i may look at j if ``s(j) <= s(i)``: everything inside a scale, only coarser
ones outside. Computed as one unmasked attention a scale, against the keys up to its end. With one
scale this is an ordinary vision transformer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError

_EPS = 1e-6
_MLP_RATIO = 4
_LONGEST_PERIOD = 10_000.0

KeysValues = tuple[Tensor, Tensor]


class ScaleCausalBlock(nn.Module):
    """Pre-norm block: ``x += attention(norm(x))``, ``x += mlp(norm(x))``.

    Args:
        width: channels ``D``.
        head_dim: channels of an attention head.
    """

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = nn.Sequential(
            nn.Linear(width, _MLP_RATIO * width),
            nn.GELU(),
            nn.Linear(_MLP_RATIO * width, width),
        )

    def forward(
        self, x: Tensor, ends: Sequence[int], past: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Transform a sequence of whole scales.

        Args:
            x: ``(B, N, D)``.
            ends: where each scale ends in the sequence; the last is N.
            past: keys and values of the coarser scales that came before; None for none.

        Returns:
            ``(B, N, D)``, and the keys and values of all scales so far.
        """
        attended, present = self._attention(self.norm1(x), ends, past)
        x = x + self.proj(attended)
        return x + cast(Tensor, self.mlp(self.norm2(x))), present

    def _attention(
        self, x: Tensor, ends: Sequence[int], past: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        batch, length = x.shape[:2]
        parts = self.qkv(x).view(batch, length, 3, -1, self.head_dim)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        before = 0
        if past is not None:
            before = past[0].shape[2]
            keys, values = (
                torch.cat(pair, dim=2) for pair in zip(past, (keys, values), strict=True)
            )
        scales = [
            F.scaled_dot_product_attention(
                queries[:, :, start:end],
                keys[:, :, : before + end],
                values[:, :, : before + end],
            )
            for start, end in zip((0, *ends), ends, strict=False)
        ]
        return torch.cat(scales, dim=2).transpose(1, 2).reshape(x.shape), (keys, values)


class ScaleCausalTransformer(nn.Module):
    """Blocks over a pyramid of maps, with embeddings of scale and place; :attr:`norm` comes after.

    Args:
        width: channels ``D``, a multiple of 4 and of the head's.
        depth: number of blocks.
        scales: number of scales ``S``; with one there is no embedding of it.
        head_dim: channels of an attention head.

    Raises:
        ConfigError: if the width does not fit.
    """

    def __init__(self, width: int, depth: int, scales: int, *, head_dim: int = 64) -> None:
        super().__init__()
        if width % 4 or width % head_dim:
            raise ConfigError(
                f"width={width}, head_dim={head_dim} given; expected a multiple of 4 and of the "
                "head's width"
            )
        self.scale_embedding: nn.Parameter | None = None
        if scales > 1:
            self.scale_embedding = nn.Parameter(torch.randn(scales, width) * 0.02)
        self.blocks = nn.ModuleList(ScaleCausalBlock(width, head_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=_EPS)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Transform a pyramid.

        Args:
            maps: ``(B, h, w, D)`` of every scale, the finest last.

        Returns:
            Maps of the same shapes, to which :attr:`norm` is not yet applied.
        """
        x = torch.cat([self._embedded(i, maps) for i in range(len(maps))], dim=1)
        lengths = [level.shape[1] * level.shape[2] for level in maps]
        ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
        for block in self.blocks:
            x, _ = block(x, ends)
        parts = torch.split(x, lengths, dim=1)
        return [part.view(level.shape) for part, level in zip(parts, maps, strict=True)]

    def steps(self, maps: Sequence[Tensor]) -> Iterator[Tensor]:
        """Transform a pyramid scale by scale, with the keys and values of earlier ones at hand.

        Yields:
            What :meth:`forward` returns, one map at a time.
        """
        past: list[KeysValues | None] = [None] * len(self.blocks)
        for i, level in enumerate(maps):
            x = self._embedded(i, maps)
            for j, block in enumerate(self.blocks):
                x, past[j] = block(x, [x.shape[1]], past[j])
            yield x.view(level.shape)

    def _embedded(self, scale: int, maps: Sequence[Tensor]) -> Tensor:
        """Return the sequence ``(B, h w, D)`` of one scale."""
        level, finest = maps[scale], maps[-1]
        _, rows, columns, width = level.shape
        places = sincos_positions(
            cell_centres(rows, finest.shape[1], level.device),
            cell_centres(columns, finest.shape[2], level.device),
            width,
        )
        x = level.flatten(1, 2) + places.to(level.dtype)
        return x if self.scale_embedding is None else x + self.scale_embedding[scale]


def cell_centres(cells: int, finest: int, device: torch.device) -> Tensor:
    """Return the centres ``(cells,)`` of equal cells in units of the finest grid.

    Example:
        >>> cell_centres(2, 8, torch.device("cpu"))
        tensor([1.5000, 5.5000])
    """
    places = torch.arange(cells, device=device, dtype=torch.float32)
    return (places + 0.5) * (finest / cells) - 0.5


def sincos_positions(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Return sines and cosines ``(h w, D)`` of places, half of the channels for rows.

    Args:
        rows: ``(h,)`` places.
        columns: ``(w,)`` places.
        width: ``D``, a multiple of 4.
    """
    count = width // 4
    steps = torch.arange(count, device=rows.device, dtype=torch.float32) / count
    rates = _LONGEST_PERIOD**-steps
    down, across = rows[:, None] * rates, columns[:, None] * rates
    of_rows = torch.cat((down.sin(), down.cos()), dim=-1)[:, None].expand(-1, len(columns), -1)
    of_columns = torch.cat((across.sin(), across.cos()), dim=-1).expand(len(rows), -1, -1)
    return torch.cat((of_rows, of_columns), dim=-1).flatten(0, 1)


__all__ = ["KeysValues", "ScaleCausalBlock", "ScaleCausalTransformer", "sincos_positions"]
