"""Softmax assignments of vectors to a learned codebook, streamed over tokens.

A straightforward version keeps several tensors of tokens x codes for the backward pass. Here one
block of tokens at a time is processed and recomputed when gradients are needed, so memory is
O(block x K).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tessella.tokenizers.quantizers.distributed import global_mean
from tessella.tokenizers.quantizers.entropy import Entropies, EntropyConfig, entropy_of

_BLOCK_FLOATS = 2**22

BlockFunction = Callable[[Tensor, Tensor], Tensor]


def assignment_entropies(
    z: Tensor, codebook: Tensor, config: EntropyConfig, *, euclidean: bool
) -> Entropies:
    """Compute token and codebook entropy of ``softmax(affinity / T)``.

    Args:
        z: ``(N, D)``.
        codebook: ``(K, D)``.
        config: temperature, logarithm and whether processes are joined; its reductions over
            groups do not apply.
        euclidean: affinity is the negative squared distance; otherwise the dot product.
    """
    size = codebook.shape[0]

    def block_sums(block: Tensor, table: Tensor) -> Tensor:
        log_p = torch.log_softmax(_affinity(block, table, euclidean) / config.temperature, dim=-1)
        p = log_p.exp()
        return torch.cat([p.sum(dim=0), -(p * log_p).sum().view(1)])

    sums = torch.stack(_map_blocks(block_sums, z, codebook)).sum(dim=0)
    mean = global_mean(sums[:size], z.shape[0], reduce=config.reduce_marginal)
    codebook_entropy = entropy_of(mean, log_form=config.log_form, log_eps=config.log_eps)
    return Entropies(sums[size] / z.shape[0], codebook_entropy)


def soft_codes(z: Tensor, codebook: Tensor) -> Tensor:
    """Read the codebook out softly, ``softmax(z . e) @ E``.

    Gradients reach ``z`` and the table through the probabilities alone: the table that is read
    is held constant.

    Args:
        z: ``(N, D)``.
        codebook: ``(K, D)``.
    """

    def block_codes(block: Tensor, table: Tensor) -> Tensor:
        return torch.softmax(block @ table.T, dim=-1) @ table.detach()

    return torch.cat(_map_blocks(block_codes, z, codebook))


def _affinity(z: Tensor, codebook: Tensor, euclidean: bool) -> Tensor:
    if not euclidean:
        return z @ codebook.T
    # |z|^2 is the same for all codes of a token: the softmax does not see it
    return torch.addmm(-codebook.square().sum(dim=1), z, codebook.T, alpha=2)


def _map_blocks(function: BlockFunction, z: Tensor, codebook: Tensor) -> list[Tensor]:
    rows = max(1, _BLOCK_FLOATS // codebook.shape[0])
    return [
        checkpoint(function, block, codebook, use_reentrant=False, preserve_rng_state=False)
        for block in torch.split(z, rows)
    ]


__all__ = ["assignment_entropies", "soft_codes"]
