"""How much a token representation costs, and what it buys.

::

    bits per pixel     = 8 bytes of the whole file / (H W), of the picture before padding
    fixed rate         = tokens log2 K / (H W)
    compression ratio  = 24 H W / (tokens log2 K), of tokenizers' tables, against 24-bit RGB
    TokDense           = accuracy of a task in percent / tokens kept (VQToken, arXiv 2503.16980)
    perplexity         = exp(mean negative log-likelihood of a token), of a model of tokens
"""

from __future__ import annotations

import math

from torch import Tensor

from tessella.errors import ShapeError
from tessella.tokens import TokenLayout


def bits_per_pixel(num_bytes: int, height: int, width: int) -> float:
    """Return bits per pixel of a file that holds a picture of that size.

    Raises:
        ShapeError: if the picture has no pixels.
    """
    if height < 1 or width < 1:
        raise ShapeError(f"a picture of {height} x {width} given; expected at least 1 x 1")
    return 8 * num_bytes / (height * width)


def fixed_rate(layout: TokenLayout) -> float:
    """Return bits per pixel of tokens stored without entropy coding."""
    height, width = layout.image_size
    return layout.bits / (height * width)


def rgb_ratio(layout: TokenLayout) -> float:
    """Return the compression ratio of uncoded tokens against 24-bit RGB."""
    return 24 / fixed_rate(layout)


def token_density(accuracy: float, tokens: float) -> float:
    """Return TokDense: percent of accuracy that each kept token contributes.

    Args:
        accuracy: of a task that reads the tokens, in percent.
        tokens: mean number of tokens kept for a sample.

    Raises:
        ShapeError: if there are no tokens.
    """
    if tokens <= 0:
        raise ShapeError(f"tokens={tokens} given; expected a positive number")
    return accuracy / tokens


def sequence_perplexity(negative_log_likelihoods: Tensor) -> float:
    """Return the perplexity of tokens from the model's nats for each, of any shape."""
    return math.exp(float(negative_log_likelihoods.double().mean()))


def likelihood_bits_per_pixel(negative_log_likelihoods: Tensor, height: int, width: int) -> Tensor:
    """Return the rate ``(B,)`` at which an ideal coder stores each picture's tokens.

    Args:
        negative_log_likelihoods: nats ``(B, tokens)``.
        height: of the pictures in pixels.
        width: of the pictures in pixels.
    """
    nats = negative_log_likelihoods.double().flatten(1).sum(dim=1)
    return nats / (math.log(2) * height * width)


__all__ = [
    "bits_per_pixel",
    "fixed_rate",
    "likelihood_bits_per_pixel",
    "rgb_ratio",
    "sequence_perplexity",
    "token_density",
]
