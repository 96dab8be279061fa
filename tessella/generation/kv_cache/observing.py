"""Attention that keys receive, summed over queries without ever holding a whole map."""

from __future__ import annotations

import torch
from torch import Tensor

#: most attention probabilities that exist at once: 4 MiB of float32
_MOST = 1 << 20


def received_attention(queries: Tensor, keys: Tensor, scale: float, *, most: int = _MOST) -> Tensor:
    """Return the attention that each key gets, summed over queries, float32 ``(R, H, T)``.

    ``sum_i softmax_j(scale q_i k_j)``; every query sees every key.

    Args:
        queries: ``(R, H, n, d)``.
        keys: ``(R, H, T, d)``.
        scale: factor of the products.
        most: elements of a map that exist at once; those of one query and row at least.
    """
    rows, heads, count, _ = queries.shape
    total = keys.shape[2]
    rows_at_once = max(1, most // (heads * count * total))
    queries_at_once = max(1, most // (heads * total * rows_at_once))
    received = keys.new_zeros(rows, heads, total, dtype=torch.float32)
    for start in range(0, rows, rows_at_once):
        some = slice(start, start + rows_at_once)
        transposed = keys[some].float().transpose(-1, -2)
        for chunk in torch.split(queries[some], queries_at_once, dim=2):
            received[some] += ((chunk.float() * scale) @ transposed).softmax(dim=-1).sum(dim=2)
    return received


__all__ = ["received_attention"]
