"""Multi-codebook vector quantization with sampled codes (McQuic, arXiv 2203.10897).

Consecutive parts of the channels have a codebook each. In evaluation a part takes its nearest code;
in training it draws one, the nearer the likelier:

    p(k) ~ exp(-max(T, 1e-4) |u - e_k|^2 / sqrt(K)),   T learned, one a codebook

so that gradients reach codes, vectors and temperature through the choice. There is no loss beyond
the reconstruction's. Frequencies of the *nearest* codes are averaged over steps: they are the
entropy model, the mean code, and what tells dead codes, which are renewed every so many steps.
Codebooks stay float32 when the model is cast: they are what tokens mean.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tessella.errors import ConfigError
from tessella.tokenizers.layers.lower_bound import at_least
from tessella.tokenizers.quantizers.base import Quantized, Quantizer
from tessella.tokenizers.quantizers.code_frequencies import (
    random_permutation,
    relative_counts,
    without_dead_codes,
)
from tessella.tokenizers.quantizers.estimators import straight_through
from tessella.tokenizers.quantizers.gumbel import Uniforms, gumbel_codes, seeded_uniforms
from tessella.tokenizers.quantizers.nearest import match_codes, nearest_codes

_LEAST_TEMPERATURE = 1e-4
_MOVED = 1e-6  # squared distance


class MultiCodebookVQ(Quantizer):
    """One index for each of ``G`` codebooks a position.

    Args:
        dim: width ``D`` of all parts together, a multiple of ``groups``.
        codebook_size: ``K`` of each codebook.
        groups: number ``G`` of codebooks.
        decay: share of the old frequencies that a step keeps.
        renew_every: training steps from one renewal of dead codes to the next; 0 for never.
        dead_below: a code is dead if it is rarer than this share of ``1/K``.
        permutation_rate: share of positions that take a random code in training.
    """

    frequencies: Tensor
    steps: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        groups: int,
        *,
        decay: float = 0.9,
        renew_every: int = 0,
        dead_below: float = 0.01,
        permutation_rate: float = 0.0,
    ) -> None:
        if groups < 1 or dim % groups:
            raise ConfigError(f"dim={dim}, groups={groups} given; expected a multiple of groups")
        super().__init__(dim, (codebook_size,) * groups)
        self.decay = decay
        self.renew_every = renew_every
        self.dead_below = dead_below
        self.permutation_rate = permutation_rate
        width = dim // groups
        codes = torch.empty(groups, codebook_size, width)
        self.codebook = nn.Parameter(nn.init.normal_(codes, std=(2 / (5 * width)) ** 0.5))
        self.temperature = nn.Parameter(torch.ones(groups))
        self.register_buffer("frequencies", torch.full((groups, codebook_size), 1 / codebook_size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def extra_repr(self) -> str:
        """Name the sizes in the module's printout."""
        return f"dim={self.dim}, codebook_size={self.vocab_sizes[0]}, groups={self.groups}"

    @property
    def probabilities(self) -> Tensor:
        """Relative frequencies ``(G, K)`` of the codes, float32."""
        return self.frequencies / self.frequencies.sum(dim=-1, keepdim=True)

    def mean_code(self) -> Tensor:
        """Return the mean of the codes by their frequencies, ``(D,)`` float32."""
        return torch.einsum("gk,gkd->gd", self.probabilities, self.codebook).flatten()

    @torch.no_grad()
    def count(self, indices: Tensor) -> None:
        """Take indices ``(..., G)`` into the averaged frequencies, over all processes."""
        found = relative_counts(indices.reshape(-1, self.groups), self.vocab_sizes[0])
        self.frequencies.mul_(self.decay).add_(found, alpha=1 - self.decay)

    @torch.no_grad()
    def renew(self, generator: torch.Generator | None = None) -> Tensor:
        """Replace dead codes by copies of others; return the share of codes that moved."""
        least = self.dead_below / self.vocab_sizes[0]
        permutation = random_permutation(self.codebook.device, generator)
        pairs = zip(self.codebook, self.probabilities, strict=True)
        renewed = torch.stack([without_dead_codes(*pair, least, permutation) for pair in pairs])
        distance = (renewed - self.codebook).square().sum(dim=-1)
        self.codebook.copy_(renewed)
        return (distance > _MOVED).float().mean()

    def draw(self, group: int, part: Tensor, noise: Uniforms) -> tuple[Tensor, Tensor]:
        """Draw codes as training does.

        Args:
            group: which codebook.
            part: ``(N, D/G)`` float32, the group's part of the vectors.
            noise: see :func:`~tessella.tokenizers.quantizers.gumbel.gumbel_codes`.

        Returns:
            Codes ``(N, D/G)`` with gradients to the part, the codebook and the temperature, and
            indices ``(N,)``.
        """
        scale = at_least(self.temperature[group], _LEAST_TEMPERATURE)
        scale = scale / self.vocab_sizes[group] ** 0.5
        return gumbel_codes(part, self.codebook[group], scale, noise)

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        stats: dict[str, Tensor] = {}
        if self.training and self.renew_every:
            stats["renewed"] = self._renew_in_time(generator)
        parts = z.reshape(-1, self.dim).chunk(self.groups, dim=-1)
        pairs = zip(parts, self.codebook, strict=True)
        nearest = torch.stack([nearest_codes(*pair) for pair in pairs], dim=-1)
        if not self.training:
            indices = nearest.view(*z.shape[:-1], self.groups)
            return Quantized(straight_through(z, self._decode(indices)), indices, {}, stats)
        self.count(nearest)
        self.steps += 1
        drawn = []
        for g, part in enumerate(parts):
            noise = seeded_uniforms(self.vocab_sizes[g], part.device, generator)
            codes, found = self.draw(g, part, noise)
            if self.permutation_rate:
                codes, found = self._permuted(g, codes, found, generator)
            drawn.append((codes, found))
        z_q = torch.cat([codes for codes, _ in drawn], dim=-1).view(z.shape)
        indices = torch.stack([found for _, found in drawn], dim=-1)
        p = self.probabilities
        stats["usage"] = (p * p.shape[1] > self.dead_below).float().mean()
        stats["perplexity"] = (-torch.special.xlogy(p, p).sum(dim=-1)).exp().mean()
        return Quantized(z_q, indices.view(*z.shape[:-1], self.groups), {}, stats)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MultiCodebookVQ:
        """Move to a device, but keep the type when the model is cast."""

        def moved(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            return tensor.to(new.device) if new.dtype != tensor.dtype else new

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self

    def _renew_in_time(self, generator: torch.Generator | None) -> Tensor:
        done = int(self.steps)
        if done and done % self.renew_every == 0:
            return self.renew(generator)
        return self.frequencies.new_zeros(())

    def _permuted(
        self,
        group: int,
        codes: Tensor,
        indices: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Replace some of the codes ``(N, D/G)`` that were drawn by any others."""
        size = self.vocab_sizes[group]
        draw = seeded_uniforms(2, codes.device, generator)(0, len(codes))
        is_random = draw[:, 0] < self.permutation_rate
        indices = torch.where(is_random, (draw[:, 1] * size).long(), indices)
        anywhere = nn.functional.embedding(indices, self.codebook[group])
        return torch.where(is_random[:, None], anywhere, codes), indices

    def _decode(self, indices: Tensor) -> Tensor:
        pairs = zip(indices.unbind(dim=-1), self.codebook, strict=True)
        return torch.cat([nn.functional.embedding(*pair) for pair in pairs], dim=-1)

    def _index(self, codes: Tensor) -> Tensor:
        pairs = zip(codes.chunk(self.groups, dim=-1), self.codebook, strict=True)
        return torch.stack([match_codes(*pair) for pair in pairs], dim=-1)


__all__ = ["MultiCodebookVQ"]
