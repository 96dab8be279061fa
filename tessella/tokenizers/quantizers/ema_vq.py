"""Vector quantization whose codebook follows running averages (VQ-VAE appendix, arXiv 1711.00937).

With counts and sums over the joint batch of all processes,

    n_k <- g n_k + (1-g) count_k,   s_k <- g s_k + (1-g) sum of assigned u
    e_k  = s_k / n'_k,   n'_k = n (n_k + eps) / (n + K eps),   n = sum_k n_k

A training step quantizes with the codebook of the step before, then updates it, then replaces dead
codes (SoundStream, arXiv 2107.03312) by vectors of the batch. Only the commitment term is a loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tessella.errors import ConfigError
from tessella.tokenizers.quantizers.base import Quantized, Quantizer
from tessella.tokenizers.quantizers.distributed import sample_rows
from tessella.tokenizers.quantizers.estimators import rotate_to, straight_through
from tessella.tokenizers.quantizers.kmeans import cluster_sums, kmeans
from tessella.tokenizers.quantizers.nearest import match_codes, nearest_codes
from tessella.tokenizers.quantizers.usage import usage_stats


@dataclass(frozen=True, slots=True)
class EMAConfig:
    """How a codebook follows the vectors.

    Args:
        decay: ``g`` of the running averages.
        eps: smoothing of the counts.
        kmeans_iterations: Lloyd iterations on the first training batch; 0 keeps the random
            codebook.
        dead_code_threshold: codes whose running count of hits *per batch* is lower are replaced;
            0 never replaces. It must stay well below tokens / codes, or everything is replaced
            at every step.
    """

    decay: float = 0.99
    eps: float = 1e-5
    kmeans_iterations: int = 0
    dead_code_threshold: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1 or self.eps <= 0:
            raise ConfigError(
                f"decay={self.decay}, eps={self.eps} given; expected 0 <= decay < 1 and eps > 0"
            )
        if self.kmeans_iterations < 0 or self.dead_code_threshold < 0:
            raise ConfigError(
                f"kmeans_iterations={self.kmeans_iterations}, dead_code_threshold="
                f"{self.dead_code_threshold} given; expected 0 (off) or more"
            )


class EMAVQ(Quantizer):
    """Nearest code of a running-average table.

    State (all in the state dict): ``codebook`` (K, D), ``counts`` (K,), ``sums`` (K, D) and
    ``initialised``, false until k-means has run where it is asked for.

    Args:
        dim: width ``D``.
        codebook_size: ``K``.
        cosine: whether vectors are normalised first and codes are unit vectors chosen by dot
            product; the output is the unit code.
        commitment_weight: factor of ``mean((u - sg c)^2)``.
        rotation: whether gradients take the rotation trick in place of straight-through.
        ema: decay, initialisation and dead codes.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    initialised: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        cosine: bool = False,
        commitment_weight: float = 0.25,
        rotation: bool = False,
        ema: EMAConfig | None = None,
    ) -> None:
        super().__init__(dim, (codebook_size,))
        self.cosine = cosine
        self.commitment_weight = commitment_weight
        self.rotation = rotation
        self.ema = ema if ema is not None else EMAConfig()
        codebook = torch.empty(codebook_size, dim)
        nn.init.kaiming_uniform_(codebook)
        codebook = self._normalized(codebook)
        self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.ones(codebook_size))
        self.register_buffer("sums", codebook.clone())
        self.register_buffer("initialised", torch.tensor(self.ema.kmeans_iterations == 0))

    def extra_repr(self) -> str:
        """Name the sizes in the module's printout."""
        return f"dim={self.dim}, codebook_size={self.vocab_sizes[0]}, cosine={self.cosine}"

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        if not self.training:
            return self.assign(z)
        self.initialise(z, generator=generator)
        out = self.assign(z)
        self.fold(z, out.indices)
        self.refresh(z, generator=generator)
        return out

    def assign(self, z: Tensor) -> Quantized:
        """Quantize ``(..., D)`` float32 vectors without touching the codebook."""
        u = self._normalized(z)
        table = self.codebook.float()
        indices = nearest_codes(u, table, metric="dot" if self.cosine else "euclidean")
        codes = table[indices]
        z_q = rotate_to(u, codes) if self.rotation else straight_through(u, codes)
        if not self.training:
            return Quantized(z_q, indices.unsqueeze(-1), {}, {})
        commitment = (u - codes).square().mean()
        stats = {"commitment": commitment.detach(), **usage_stats(indices, self.vocab_sizes[0])}
        losses = {"commitment": self.commitment_weight * commitment}
        return Quantized(z_q, indices.unsqueeze(-1), losses, stats)

    @torch.no_grad()
    def initialise(self, z: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Start the codebook from the clusters of a batch, once, where k-means is asked for."""
        if self.ema.kmeans_iterations == 0 or bool(self.initialised):
            return
        means, counts = kmeans(
            self._rows(z),
            self.vocab_sizes[0],
            iterations=self.ema.kmeans_iterations,
            cosine=self.cosine,
            generator=generator,
        )
        self.codebook.copy_(means)
        self.counts.copy_(counts)
        self.sums.copy_(means * counts.unsqueeze(1))
        self.initialised.fill_(True)

    @torch.no_grad()
    def fold(self, z: Tensor, indices: Tensor) -> None:
        """Fold one assignment into the running counts and sums; the table stays."""
        counts, sums = cluster_sums(self._rows(z), indices.flatten(), self.vocab_sizes[0])
        self.counts.lerp_(counts, 1 - self.ema.decay)
        self.sums.lerp_(sums, 1 - self.ema.decay)

    @torch.no_grad()
    def refresh(self, z: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Recompute the table from the running averages, then replace dead codes from ``z``."""
        total, size, eps = self.counts.sum(), self.vocab_sizes[0], self.ema.eps
        smoothed = total * (self.counts + eps) / (total + size * eps)
        self.codebook.copy_(self._normalized(self.sums / smoothed.unsqueeze(1)))
        dead = self.counts < self.ema.dead_code_threshold
        replaced = int(dead.sum()) if self.ema.dead_code_threshold > 0 else 0
        if replaced:
            vectors = sample_rows(self._rows(z), replaced, generator=generator)
            self.codebook[dead] = vectors
            self.counts[dead] = self.ema.dead_code_threshold
            self.sums[dead] = vectors * self.ema.dead_code_threshold

    def _normalized(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1) if self.cosine else vectors

    def _rows(self, z: Tensor) -> Tensor:
        return self._normalized(z.detach().reshape(-1, self.dim))

    def _decode(self, indices: Tensor) -> Tensor:
        return self.codebook.float()[indices.squeeze(-1)]

    def _index(self, codes: Tensor) -> Tensor:
        return match_codes(codes, self.codebook).unsqueeze(-1)


__all__ = ["EMAVQ", "EMAConfig"]
