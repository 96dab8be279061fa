"""Tokens of bits: how they are drawn, and how a generator learns them (arXiv 2412.04431).

A token of ``d`` bits has ``2 d`` logits, two a bit, in place of the ``2^d`` of a codebook. In
training a part of the bits that a generator reads is flipped, and the bits that it shall predict
are those of what is then left over: so it learns to correct its own mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ShapeError
from tessella.generation.sampling import Noise, Sampling, draw
from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.multiscale_bsq import MultiScaleBSQTokenizer, SelfCorrection
from tessella.tokens import Tokens


class Flips(NamedTuple):
    """How many bits are flipped in training.

    Args:
        strength: largest rate; that of a scale is drawn, one of 0, 0.01, .. up to it.
        scales: number of first scales with flips.
    """

    strength: float
    scales: int


def check_bitwise(tokenizer: Tokenizer) -> MultiScaleBSQTokenizer:
    """Check that the tokens of a tokenizer are bits.

    Raises:
        ShapeError: if they are not.
    """
    if not isinstance(tokenizer, MultiScaleBSQTokenizer):
        raise ShapeError(
            f"a {tokenizer.family} tokenizer given; expected one whose tokens are bits: "
            "multiscale_bsq"
        )
    return tokenizer


@torch.no_grad()
def example(
    tokenizer: MultiScaleBSQTokenizer,
    tokens: Tokens,
    features: Tensor | None,
    flips: Flips | None,
    generator: torch.Generator | None,
) -> SelfCorrection:
    """Return the bits that a generator shall predict and what it reads for them.

    Args:
        tokenizer: whose tokens they are.
        tokens: of all scales.
        features: ``(B, D, h, w)`` that the tokens were made of; with them the bits are found anew,
            of what the flips left over. Without them nothing is flipped.
        flips: how many bits are flipped; None for none.
        generator: of the CPU, noise of the flips.

    Raises:
        ShapeError: if the features are not those of so many pictures of that size.
    """
    grids = tuple((level.grid[0], level.grid[1]) for level in tokens.layout.levels)
    if features is None:
        return SelfCorrection(tokens.levels, tokenizer.scale_inputs(tokens.levels, grids))
    batch, expected = tokens.batch_size, (tokenizer.quantizer.dim, *tokenizer.fine(grids)[-1])
    if tuple(features.shape) != (batch, *expected):
        raise ShapeError(
            f"features {tuple(features.shape)} given; expected {(batch, *expected)} for these "
            "tokens: tokenizer.images_to_features() of the same pictures"
        )
    drawn: list[Tensor] = []
    if flips is not None:
        drawn = tokenizer.draw_flips(
            batch, grids, strength=flips.strength, scales=flips.scales, generator=generator
        )
    return tokenizer.self_correction(features.to(tokens.device), drawn, grids)


def draw_bits(logits: Tensor, sampling: Sampling, noise: Noise) -> Tensor:
    """Draw bits ``(B, N, d)`` int64 from logits ``(B, N, d, 2)``.

    Noise is consumed in the order of pictures, tokens and bits, one draw for all of them.
    """
    flat = logits.flatten(1, 2)
    return draw(flat, sampling, noise).view(logits.shape[:3])


def token_weights(sizes: Sequence[int], is_balanced: bool) -> Tensor:
    """Return the weights ``(N,)`` of the tokens of all scales; they add up to one.

    Args:
        sizes: tokens of each scale, ``n_k``.
        is_balanced: proportional to ``sqrt(n_last / n_k)``, so that the few tokens of coarse scales
            count more; otherwise ``1 / N``.

    Example:
        >>> token_weights((1, 4), is_balanced=True)
        tensor([0.3333, 0.1667, 0.1667, 0.1667, 0.1667])
    """
    counts = torch.tensor(sizes)
    each = (counts[-1] / counts).sqrt() if is_balanced else torch.ones(len(sizes))
    return each.repeat_interleave(counts) / (each * counts).sum()


def bit_loss(
    logits: Tensor, targets: Tensor, sizes: Sequence[int], *, is_balanced: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the loss and the figures of a batch.

    Args:
        logits: ``(B, N, d, 2)``.
        targets: bits ``(B, N, d)``.
        sizes: tokens of each scale.
        is_balanced: see :func:`token_weights`.

    Returns:
        Losses ``{"cross_entropy"}``, in nats a bit; and stats: cross entropy and accuracy a bit
        over all tokens, and over the last scale.
    """
    zero, one = logits.float().unbind(-1)
    margin = one - zero
    each = F.binary_cross_entropy_with_logits(margin, targets.float(), reduction="none")
    weights = token_weights(sizes, is_balanced).to(each.device)
    loss = (each.mean(dim=-1) * weights).sum(dim=1).mean()
    with torch.no_grad():
        hits = ((margin > 0) == targets.bool()).float()
        last = slice(targets.shape[1] - sizes[-1], None)
        stats = {
            "loss_mean": each.detach().mean(),
            "loss_tail": each.detach()[:, last].mean(),
            "accuracy_mean": hits.mean(),
            "accuracy_tail": hits[:, last].mean(),
        }
    return {"cross_entropy": loss}, stats


__all__ = ["Flips", "bit_loss", "check_bitwise", "draw_bits", "example", "token_weights"]
