"""The continuous bottleneck of latent diffusion (arXiv 2112.10752): a diagonal Gaussian.

``z`` holds mean and log-variance side by side; the token is a sample (training) or the mean
(evaluation). There are no indices: ``vocab_sizes`` is empty and ``indices`` has ``G = 0``.

    loss = w KL(N(mu, sigma^2) || N(0, 1)) = w/2 sum(mu^2 + sigma^2 - 1 - log sigma^2)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.tokenizers.quantizers.base import Bottleneck, Quantized

Reduction = Literal["sum", "mean"]

_LOG_VARIANCE_RANGE = (-30.0, 20.0)  # as in latent diffusion: keeps exp() finite in float32


class Gaussian(NamedTuple):
    """Mean and log-variance, ``(..., D)`` float32."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one value with the reparametrisation's gradient."""
        device = generator.device if generator is not None else self.mean.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """Return the divergence from N(0, 1) of every element, in nats."""
        variance = self.log_variance.exp()
        return 0.5 * (self.mean.square() + variance - 1 - self.log_variance)


class GaussianKL(Bottleneck):
    """Sample from ``N(mean, variance)`` with a KL penalty.

    Args:
        dim: width ``D`` of the tokens; the input holds ``2 D`` channels.
        kl_weight: factor of the KL term.
        reduction: "sum" over all elements of a picture, averaged over the first axis (latent
            diffusion), or "mean" over all elements.
    """

    def __init__(self, dim: int, *, kl_weight: float = 1e-6, reduction: Reduction = "sum") -> None:
        super().__init__(2 * dim, dim)
        if reduction not in ("sum", "mean"):
            raise ConfigError(f"reduction={reduction!r} given; expected 'sum' or 'mean'")
        self.kl_weight = kl_weight
        self.reduction: Reduction = reduction

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Empty: tokens are floats."""
        return ()

    def distribution(self, z: Tensor) -> Gaussian:
        """Split ``(..., 2 D)`` into mean and log-variance, the latter clamped to [-30, 20]."""
        mean, log_variance = z.float().chunk(2, dim=-1)
        return Gaussian(mean, log_variance.clamp(*_LOG_VARIANCE_RANGE))

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        gaussian = self.distribution(z)
        indices = torch.empty((*z.shape[:-1], 0), dtype=torch.int64, device=z.device)
        if not self.training:
            return Quantized(gaussian.mean, indices, {}, {})
        elements = gaussian.kl()
        kl = elements.sum() / z.shape[0] if self.reduction == "sum" else elements.mean()
        stats = {"kl": kl.detach(), "std": torch.exp(0.5 * gaussian.log_variance).detach().mean()}
        return Quantized(gaussian.sample(generator), indices, {"kl": self.kl_weight * kl}, stats)


__all__ = ["Gaussian", "GaussianKL"]
