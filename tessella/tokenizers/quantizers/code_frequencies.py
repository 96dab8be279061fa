"""How often codes are chosen, and new places for those that never are (McQuic, arXiv 2203.10897).

A moving average of relative frequencies serves twice: it is the entropy model of the codec, and it
says which codes are dead. Those become copies of codes that are in use, drawn without replacement;
training then tells the twins apart.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tessella.tokenizers.quantizers.distributed import all_sum, broadcast_draw

#: ``n -> a random permutation of 0 .. n-1``
Permutation = Callable[[int], Tensor]


def relative_counts(indices: Tensor, codebook_size: int) -> Tensor:
    """Return the relative frequencies ``(G, K)`` of codes over the joint batch.

    Args:
        indices: ``(N, G)`` int64.
        codebook_size: ``K``.
    """
    counts = torch.stack([torch.bincount(c, minlength=codebook_size) for c in indices.unbind(-1)])
    joint = all_sum(counts).float()
    return joint / joint.sum(dim=-1, keepdim=True).clamp_min(1)


def random_permutation(device: torch.device, generator: torch.Generator | None) -> Permutation:
    """Return permutations that are the same in all processes.

    Args:
        device: where they are needed.
        generator: source of randomness of the first process; None is torch's global one.
    """
    source = generator.device if generator is not None else torch.device("cpu")

    def draw(count: int) -> Tensor:
        return broadcast_draw(torch.randperm(count, generator=generator, device=source).to(device))

    return draw


@torch.no_grad()
def without_dead_codes(
    codebook: Tensor, frequencies: Tensor, least: float, permutation: Permutation
) -> Tensor:
    """Return a codebook whose dead codes are copies of codes in use.

    At most half of the codes are replaced: if more are dead, the others of them, drawn at random,
    stay where they are.

    Args:
        codebook: ``(K, D)``.
        frequencies: relative frequencies ``(K,)``; left alone.
        least: codes that are rarer are dead.
        permutation: where random order comes from; it is asked for one of the codes in use even if
            none is dead.
    """
    size = len(codebook)
    weights = frequencies / frequencies.sum()
    dead = (weights < least).nonzero().squeeze(1)
    if len(dead) > size // 2:
        spared = dead[permutation(len(dead))[size // 2 :]]
        weights[spared] = 1.0  # as if common, so that they may be copied too
        dead = (weights < least).nonzero().squeeze(1)
    by_frequency = torch.sort(weights, descending=True, stable=True).indices
    kept = by_frequency[weights[by_frequency] >= least]
    copied = kept[permutation(len(kept))[: len(dead)]]
    renewed = codebook.clone()
    renewed[dead] = codebook[copied]
    return renewed


__all__ = ["Permutation", "random_permutation", "relative_counts", "without_dead_codes"]
