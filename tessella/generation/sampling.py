"""From logits to tokens: top-k, top-p, temperature, greedy, and soft mixtures of codes.

    logits (B, N, V) --/ temperature--top-k--top-p--softmax--multinomial--> indices (B, N)

Noise comes from an explicit ``torch.Generator``: one for the whole batch, or one a picture, so that
a picture does not depend on the others of its batch. A draw consumes the same noise whatever the
filters, one call of ``multinomial`` on ``(B N, V)`` probabilities (``(N, V)`` with one generator a
picture), so seeded tokens equal those of VAR's and Infinity's own code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tessella.errors import ConfigError, ShapeError

#: noise of a batch: one source for all pictures, or one a picture
Noise = torch.Generator | Sequence[torch.Generator] | None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn from logits.

    Args:
        top_k: draw among the k most likely (and their ties); 0 for all.
        top_p: draw among the fewest tokens that together have this probability; 0 or 1 for all.
        temperature: logits are divided by it.
        greedy: take the most likely token; nothing is drawn.
        smooth: feed mixtures of codes in place of drawn ones, for smoother pictures (VAR's
            ``more_smooth``, for demonstrations; not for figures).
    """

    top_k: int = 0
    top_p: float = 0.0
    temperature: float = 1.0
    greedy: bool = False
    smooth: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 0:
            raise ConfigError(f"top_k={self.top_k} given; expected 0 (all) or more")
        if not 0 <= self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p} given; expected 0 to 1")
        if self.temperature <= 0:
            raise ConfigError(
                f"temperature={self.temperature} given; expected more than 0 (greedy=True takes "
                "the most likely token)"
            )


def sampling_by_scale(
    sampling: Sampling | Sequence[Sampling] | None, scales: int
) -> tuple[Sampling, ...]:
    """Return how each scale is drawn, for one way for all scales or one a scale.

    Raises:
        ConfigError: if there are not as many as scales.
    """
    if sampling is None or isinstance(sampling, Sampling):
        return (sampling or Sampling(),) * scales
    if len(sampling) != scales:
        raise ConfigError(f"{len(sampling)} samplings given; expected {scales}, one a scale")
    return tuple(sampling)


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """Return logits ``(..., V)`` with those that must not be drawn at minus infinity."""
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    if sampling.top_k:
        least = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if 0 < sampling.top_p < 1:
        ascending, order = logits.sort(dim=-1)
        unlikely = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - sampling.top_p
        unlikely[..., -1] = False  # the most likely one always stays
        logits = logits.masked_fill(unlikely.scatter(-1, order, unlikely), -torch.inf)
    return logits


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Return the probabilities ``(..., V)`` that tokens are drawn with.

    Equal to the softmax of :func:`filtered`, but only the ``top_k`` candidates are sorted, not the
    whole vocabulary.
    """
    size = logits.shape[-1]
    if not 0 < sampling.top_k < size:
        return filtered(logits, sampling).softmax(dim=-1)
    scaled = logits / sampling.temperature if sampling.temperature != 1 else logits
    values, order = scaled.topk(sampling.top_k, dim=-1)
    if bool(((scaled >= values[..., -1:]).sum(dim=-1) > sampling.top_k).any()):
        return filtered(logits, sampling).softmax(dim=-1)  # ties at the cut all stay
    if 0 < sampling.top_p < 1:
        ascending = values.flip(-1)
        unlikely = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - sampling.top_p
        unlikely[..., -1] = False
        values = values.masked_fill(unlikely.flip(-1), -torch.inf)
    kept = values.softmax(dim=-1)
    return torch.zeros_like(logits).scatter_(-1, order, kept)


def draw(logits: Tensor, sampling: Sampling, noise: Noise) -> Tensor:
    """Draw indices ``(B, N)`` int64 from logits ``(B, N, V)``.

    Raises:
        ShapeError: if as many generators as pictures are expected, and others given.
    """
    if sampling.greedy:
        return logits.argmax(dim=-1)
    batch, positions, size = logits.shape
    chances = probabilities(logits.float(), sampling)
    if noise is None or isinstance(noise, torch.Generator):
        return _drawn(chances.view(-1, size), noise).view(batch, positions)
    check_noise(noise, batch)
    return torch.stack([_drawn(one, s) for one, s in zip(chances, noise, strict=True)])


def _drawn(chances: Tensor, source: torch.Generator | None) -> Tensor:
    """Draw one index a row ``(N, V)``, where the source of noise is: on the CPU for most seeds."""
    at = chances.device if source is None else source.device
    drawn = torch.multinomial(chances.to(at), 1, replacement=True, generator=source)
    return drawn.squeeze(1).to(chances.device)


def check_noise(noise: Noise, batch: int) -> None:
    """Check that there is a generator a picture, where there are several.

    Raises:
        ShapeError: if their number differs.
    """
    if isinstance(noise, Sequence) and len(noise) != batch:
        raise ShapeError(f"{len(noise)} generators given for {batch} pictures; expected one each")


def exponential(like: Tensor, noise: Noise) -> Tensor:
    """Draw Exp(1) noise of the shape and type of ``like`` ``(B, ...)``."""
    if noise is None or isinstance(noise, torch.Generator):
        return _spread(like, noise)
    check_noise(noise, like.shape[0])
    return torch.stack([_spread(row, source) for row, source in zip(like, noise, strict=True)])


def _spread(like: Tensor, source: torch.Generator | None) -> Tensor:
    at = like.device if source is None else source.device
    return torch.empty_like(like, device=at).exponential_(generator=source).to(like.device)


__all__ = [
    "Noise",
    "Sampling",
    "check_noise",
    "draw",
    "exponential",
    "filtered",
    "probabilities",
    "sampling_by_scale",
]
