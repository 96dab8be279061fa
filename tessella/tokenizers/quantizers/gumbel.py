"""Codes drawn by the Gumbel-max trick, with straight-through gradients (arXiv 1611.01144).

    l_k = -s |u - e_k|^2,   g_k = -log(-log U_k),   y = softmax(l + g),   k* = argmax_k(l_k + g_k)
    q = e_{k*}   with gradients to e_{k*} by the one-hot choice, to u and s through y

The table that y reads out is held constant: forwards the choice is one-hot, so only the code that
was drawn moves. Blocks of vectors are recomputed in the backward pass, noise included: memory is
O(block x K).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_BLOCK_FLOATS = 2**22
_TINY = torch.finfo(torch.float32).eps

#: ``(first row, last row + 1) -> uniforms (rows, K)``; the same block gives the same numbers
Uniforms = Callable[[int, int], Tensor]


def gumbel_codes(
    vectors: Tensor,
    codebook: Tensor,
    scale: Tensor,
    uniforms: Uniforms,
    *,
    max_scores: int = _BLOCK_FLOATS,
) -> tuple[Tensor, Tensor]:
    """Draw a code for every vector.

    Args:
        vectors: ``(N, D)`` float32.
        codebook: ``(K, D)`` float32.
        scale: ``s``, a scalar above 0.
        uniforms: noise of a block of rows, from 0 to 1; called again for the gradients.
        max_scores: most floats of one block.

    Returns:
        Codes ``(N, D)`` with gradients, and their indices ``(N,)``.
    """

    def block(rows: Tensor, table: Tensor, s: Tensor, start: int) -> tuple[Tensor, Tensor]:
        noise = uniforms(start, start + len(rows)).clamp(_TINY, 1 - _TINY)
        # |u|^2 is the same for all codes of a vector: neither softmax nor argmax sees it
        affinity = torch.addmm(-table.square().sum(dim=1), rows, table.T, alpha=2)
        scores = s * affinity - (-noise.log()).log()
        indices = scores.argmax(dim=1)
        soft = torch.softmax(scores, dim=1) @ table.detach()
        return nn.functional.embedding(indices, table) + (soft - soft.detach()), indices

    size = max(1, max_scores // len(codebook))
    pieces = [
        checkpoint(
            block, rows, codebook, scale, i * size, use_reentrant=False, preserve_rng_state=False
        )
        for i, rows in enumerate(torch.split(vectors, size))
    ]
    return torch.cat([codes for codes, _ in pieces]), torch.cat([found for _, found in pieces])


def seeded_uniforms(size: int, device: torch.device, generator: torch.Generator | None) -> Uniforms:
    """Return noise that can be drawn again, on a device, from a generator of any other.

    Args:
        size: ``K``.
        device: where the numbers are needed.
        generator: source of the seed; None is torch's global one.
    """
    source = generator.device if generator is not None else torch.device("cpu")
    seed = int(torch.randint(2**62, (), generator=generator, device=source))

    def draw(start: int, stop: int) -> Tensor:
        # a generator of its own for every block, so that blocks can be recomputed in any order
        noise = torch.Generator(device).manual_seed(seed ^ start)
        return torch.rand(stop - start, size, generator=noise, device=device)

    return draw


__all__ = ["Uniforms", "gumbel_codes", "seeded_uniforms"]
