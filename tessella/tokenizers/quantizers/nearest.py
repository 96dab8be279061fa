"""Nearest-code search in bounded memory.

``argmin_k |z - e_k|^2 = argmax_k (z . e_k - |e_k|^2 / 2)``: the norm of ``z`` drops out and the
half norms enter the matrix product as its bias. Scores exist for one block of vectors and codes at
a time; a running maximum joins the blocks. One million vectors against 16 384 codes need a few
megabytes beyond input and result instead of 64 GB.

Products follow torch's global float32 precision. Keep it at "highest" (the default) where tokens
must be reproducible: TensorFloat-32 has 10 bits of mantissa and flips near-ties.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tessella.errors import ShapeError

Metric = Literal["euclidean", "dot"]

MAX_SCORES = 2**21  # floats of one block of scores: 8 MB, so that the reduction reads from cache
_CODES_A_BLOCK = 4096


@torch.no_grad()
def nearest_codes(
    z: Tensor, codebook: Tensor, *, metric: Metric = "euclidean", max_scores: int = MAX_SCORES
) -> Tensor:
    """Find the nearest (or most aligned) code of every vector; ties go to the lowest index.

    Args:
        z: ``(..., D)`` vectors.
        codebook: ``(K, D)`` codes.
        metric: "euclidean" distance, or "dot" for the largest dot product.
        max_scores: most floats of one block of scores; the result does not depend on it beyond
            the rounding of near-ties.

    Returns:
        ``(...)`` int64.

    Raises:
        ShapeError: if the widths differ or the codebook is empty.
    """
    if codebook.ndim != 2 or codebook.shape[0] < 1 or z.shape[-1:] != codebook.shape[1:]:
        raise ShapeError(
            f"vectors {tuple(z.shape)} and a codebook {tuple(codebook.shape)} given; "
            "expected (..., D) and (K, D) with K at least 1"
        )
    flat = z.reshape(-1, z.shape[-1]).float()
    table = codebook.float()
    bias = -0.5 * table.square().sum(dim=1) if metric == "euclidean" else None
    width = min(table.shape[0], _CODES_A_BLOCK, max_scores)
    rows = max(1, max_scores // width)
    best = torch.empty(flat.shape[0], dtype=torch.int64, device=z.device)
    for start in range(0, flat.shape[0], rows):
        block = flat[start : start + rows]
        best[start : start + rows] = _best_of_block(block, table, bias, width)
    return best.view(z.shape[:-1])


@torch.no_grad()
def match_codes(codes: Tensor, codebook: Tensor, *, max_scores: int = MAX_SCORES) -> Tensor:
    """Find the rows of a codebook that equal given codes.

    Codes far shorter than their distances' rounding defeat the expanded form of
    :func:`nearest_codes`; rows that it does not recover exactly are compared again by plain
    differences, so vectors that are no codes at all still get their nearest one.

    Args:
        codes: ``(..., D)``.
        codebook: ``(K, D)``.
        max_scores: most floats of one block of differences.

    Returns:
        ``(...)`` int64.
    """
    best = nearest_codes(codes, codebook, max_scores=max_scores).flatten()
    flat, table = codes.reshape(-1, codes.shape[-1]).float(), codebook.float()
    missed = (table[best] != flat).any(dim=1).nonzero().squeeze(1)
    for rows in torch.split(missed, max(1, max_scores // table.numel())):
        best[rows] = (flat[rows, None] - table).square().sum(dim=2).argmin(dim=1)
    return best.view(codes.shape[:-1])


def _best_of_block(block: Tensor, table: Tensor, bias: Tensor | None, width: int) -> Tensor:
    """Scan all codes, ``width`` at a time, for one block of vectors."""
    best_score, best = _best_of_codes(block, table[:width], bias, 0)
    for first in range(width, table.shape[0], width):
        score, index = _best_of_codes(block, table[first : first + width], bias, first)
        better = score > best_score  # strict, so that the lowest index keeps a tie
        best_score = torch.where(better, score, best_score)
        best = torch.where(better, index + first, best)
    return best


def _best_of_codes(
    block: Tensor, codes: Tensor, bias: Tensor | None, first: int
) -> tuple[Tensor, Tensor]:
    if bias is None:
        scores = block @ codes.T
    else:
        scores = torch.addmm(bias[first : first + codes.shape[0]], block, codes.T)
    score, index = scores.max(dim=1)
    return score, index


__all__ = ["MAX_SCORES", "Metric", "match_codes", "nearest_codes"]
