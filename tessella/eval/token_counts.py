"""How the codes of a codebook are used: usage, entropy, perplexity, inequality, rank and frequency.

Counts ``c_k`` of K codes over a whole set, ``p = c / n``::

    usage = #{c_k > 0} / K        entropy = -sum p log2 p bits        perplexity = 2^entropy
    gini  = 2 sum_i i c_(i) / (K n) - (K + 1) / K                     counts ascending, zeros too

Zipf's law ``p(r) ~ r^-s`` over ranks of used codes has three estimates that disagree: a line
through all ranks of the log-log plot, one through the first hundred, and maximum likelihood on
1..R, which is the default. Usage grows with the number of pictures: say how many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessella.errors import ShapeError

_TOP = 100
_MOST_JOINT_BITS = 24

Counts = NDArray[np.int64]


class Line(NamedTuple):
    """A least-squares line.

    Args:
        slope: of y over x.
        intercept: y at x = 0.
        r2: share of variance explained.
    """

    slope: float
    intercept: float
    r2: float


class CodebookStatistics(NamedTuple):
    """Use of one codebook over a set.

    Args:
        tokens: how many were counted.
        used: codes that occur.
        usage: share of codes that occur.
        entropy: bits a token.
        perplexity: two to the power of that.
        normalised_entropy: entropy over ``log2 K``.
        gini: 0 when all codes are equally frequent, towards 1 when few are.
        zipf: exponent by maximum likelihood.
        zipf_line: exponent by the line through all ranks.
        zipf_line_r2: of that line.
        zipf_top: exponent by the line through the first hundred ranks.
    """

    tokens: int
    used: int
    usage: float
    entropy: float
    perplexity: float
    normalised_entropy: float
    gini: float
    zipf: float
    zipf_line: float
    zipf_line_r2: float
    zipf_top: float


def codebook_statistics(counts: ArrayLike) -> CodebookStatistics:
    """Return the statistics of the counts of all K codes, zeros included.

    Raises:
        ShapeError: if there are fewer than two codes, or no token.
    """
    counts = np.asarray(counts, dtype=np.int64)
    total = int(counts.sum())
    if counts.ndim != 1 or len(counts) < 2 or total < 1:
        raise ShapeError(
            f"counts of shape {counts.shape} with {total} tokens given; expected (K,), K at least "
            "2, and at least one token"
        )
    used = int((counts > 0).sum())
    bits = entropy_bits(counts)
    line, top = zipf_line(counts), zipf_line(counts, ranks=_TOP)
    return CodebookStatistics(
        tokens=total,
        used=used,
        usage=used / len(counts),
        entropy=bits,
        perplexity=2.0**bits,
        normalised_entropy=bits / math.log2(len(counts)),
        gini=gini(counts),
        zipf=zipf_exponent(counts),
        zipf_line=-line.slope,
        zipf_line_r2=line.r2,
        zipf_top=-top.slope,
    )


def entropy_bits(counts: ArrayLike) -> float:
    """Return the plug-in entropy of counts in bits; zeros do not count."""
    values = np.asarray(counts, dtype=np.float64)
    shares = values[values > 0] / values.sum()
    return abs(float((shares * np.log2(shares)).sum()))  # a sum of terms of one sign


def gini(counts: ArrayLike) -> float:
    """Return the Gini coefficient of counts, zeros included."""
    values = np.sort(np.asarray(counts, dtype=np.float64))
    size = len(values)
    weighted = (np.arange(1, size + 1) * values).sum()
    return float(2 * weighted / (size * values.sum()) - (size + 1) / size)


def ranked(counts: ArrayLike) -> Counts:
    """Return the counts of used codes, most frequent first: the rank-frequency curve."""
    values = np.asarray(counts, dtype=np.int64)
    return np.asarray(np.sort(values[values > 0])[::-1])


def zipf_line(counts: ArrayLike, *, ranks: int | None = None) -> Line:
    """Fit ``ln count`` over ``ln rank``; the exponent is minus the slope.

    Args:
        counts: of all codes.
        ranks: how many of the first; all if None.
    """
    frequencies = ranked(counts)[:ranks]
    return fit_line(np.log(np.arange(1, len(frequencies) + 1)), np.log(frequencies))


def zipf_exponent(counts: ArrayLike) -> float:
    """Return the exponent s that maximises the likelihood of ``p(r) ~ r^-s`` on used ranks."""
    frequencies = ranked(counts).astype(np.float64)
    logs = np.log(np.arange(1, len(frequencies) + 1))
    target = float((frequencies * logs).sum() / frequencies.sum())
    low, high = -50.0, 50.0
    exponent = 1.0
    # the mean of ln r falls with s: Newton's steps, kept inside a bracket that shrinks
    for _ in range(100):
        weights = np.exp(-exponent * logs - (-exponent * logs).max())
        weights /= weights.sum()
        mean = float((weights * logs).sum())
        variance = float((weights * logs**2).sum() - mean**2)
        low, high = (exponent, high) if mean > target else (low, exponent)
        step = exponent + (mean - target) / variance if variance > 1e-300 else low
        step = step if low < step < high else (low + high) / 2
        if abs(step - exponent) < 1e-12:
            break
        exponent = step
    return exponent


def fit_line(x: ArrayLike, y: ArrayLike) -> Line:
    """Fit y over x by least squares; a flat line where x does not vary."""
    xs, ys = (np.asarray(v, dtype=np.float64) for v in (x, y))
    dx, dy = xs - xs.mean(), ys - ys.mean()
    spread = float((dx * dx).sum())
    slope = float((dx * dy).sum()) / spread if spread > 0 else 0.0
    total = float((dy * dy).sum())
    r2 = 1 - float(((dy - slope * dx) ** 2).sum()) / total if total > 0 else 1.0
    return Line(slope, float(ys.mean() - slope * xs.mean()), r2)


def joint_codes(tokens: NDArray[np.int64], vocab_sizes: Sequence[int]) -> NDArray[np.int64]:
    """Join the groups ``(..., G)`` of product codes to single codes ``(...)``, the first highest.

    Raises:
        ShapeError: if the sizes do not fit, or the joint codebook exceeds 24 bits.
    """
    if tokens.shape[-1] != len(vocab_sizes) or math.prod(vocab_sizes) > 1 << _MOST_JOINT_BITS:
        raise ShapeError(
            f"tokens {tokens.shape} with vocab_sizes {tuple(vocab_sizes)} given; expected as many "
            f"sizes as groups and a product of at most 2^{_MOST_JOINT_BITS}: count groups alone"
        )
    joint = np.zeros(tokens.shape[:-1], dtype=np.int64)
    for group, size in enumerate(vocab_sizes):
        joint = joint * size + tokens[..., group]
    return joint


__all__ = [
    "CodebookStatistics",
    "Line",
    "codebook_statistics",
    "entropy_bits",
    "fit_line",
    "gini",
    "joint_codes",
    "ranked",
    "zipf_exponent",
    "zipf_line",
]
