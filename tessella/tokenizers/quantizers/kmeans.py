"""Lloyd's k-means over the joint batch of all processes, to start a codebook from data."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tessella.errors import ShapeError
from tessella.tokenizers.quantizers.distributed import all_sum, sample_rows
from tessella.tokenizers.quantizers.nearest import nearest_codes


class Clusters(NamedTuple):
    """Means ``(K, D)`` and the number of vectors ``(K,)`` behind each of them."""

    means: Tensor
    counts: Tensor


@torch.no_grad()
def kmeans(
    vectors: Tensor,
    clusters: int,
    *,
    iterations: int = 10,
    cosine: bool = False,
    initial: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Clusters:
    """Cluster the joint batch; every process gets the same result.

    Args:
        vectors: ``(N, D)`` of this process.
        clusters: ``K``.
        iterations: Lloyd iterations; an empty cluster keeps its mean.
        cosine: whether to assign by dot product and renormalise the means; the vectors are
            expected to be unit.
        initial: ``(K, D)`` first means; drawn from the vectors when None.
        generator: source of randomness for that draw.

    Returns:
        The means and the counts of the assignment that they average.

    Raises:
        ShapeError: if ``vectors`` is not a matrix or ``iterations`` is below 1.
    """
    if vectors.ndim != 2 or iterations < 1:
        raise ShapeError(
            f"vectors of shape {tuple(vectors.shape)} and iterations={iterations} given; "
            "expected (N, D) and at least 1"
        )
    means = sample_rows(vectors, clusters, generator=generator) if initial is None else initial
    counts = means.new_zeros(clusters)
    for _ in range(iterations):
        indices = nearest_codes(vectors, means, metric="dot" if cosine else "euclidean")
        counts, sums = cluster_sums(vectors, indices, clusters)
        updated = sums / counts.clamp_min(1).unsqueeze(1)
        if cosine:
            updated = nn.functional.normalize(updated, dim=1)
        means = torch.where(counts.unsqueeze(1) > 0, updated, means)
    return Clusters(means, counts)


def cluster_sums(vectors: Tensor, indices: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Count and sum the vectors of each cluster over all processes.

    Args:
        vectors: ``(N, D)``.
        indices: ``(N,)`` int64.
        clusters: ``K``.

    Returns:
        Float counts ``(K,)`` and sums ``(K, D)``.
    """
    packed = vectors.new_zeros(clusters, vectors.shape[1] + 1)
    packed[:, 0] = torch.bincount(indices, minlength=clusters)
    packed[:, 1:].index_add_(0, indices, vectors.detach())
    packed = all_sum(packed)
    return packed[:, 0], packed[:, 1:]


__all__ = ["Clusters", "cluster_sums", "kmeans"]
