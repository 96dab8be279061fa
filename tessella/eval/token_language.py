"""Tokens read as a language, after arXiv 2411.05001: n-grams, innovation, compressibility.

Token arrays are ``(N, h, w)`` or ``(N, T)``, codes in [0, K), read row by row inside one picture
(rows follow each other, pictures do not). Entropies of n-grams are plug-in estimates: once more
than about 0.3 of them are distinct they say more about the size of the sample than about its
language, so the share is given with them, and Miller and Madow's correction on request.
"""

from __future__ import annotations

import heapq
import lzma
import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessella.eval.token_counts import Line, entropy_bits, fit_line

Tokens = NDArray[np.int64]


class NGrams(NamedTuple):
    """Sequences of n successive tokens.

    Args:
        total: how many.
        distinct: how many different ones.
        entropy: bits of one of them.
    """

    total: int
    distinct: int
    entropy: float

    @property
    def distinct_share(self) -> float:
        """Above about 0.3 the entropy is badly biased downwards."""
        return self.distinct / self.total if self.total else 0.0

    @property
    def corrected_entropy(self) -> float:
        """Entropy with Miller and Madow's correction, in bits."""
        if not self.total:
            return 0.0
        return self.entropy + (self.distinct - 1) / (2 * self.total * math.log(2))


class Huffman(NamedTuple):
    """The best code of whole bits a token.

    Args:
        total_bits: of all tokens, without the table.
        mean_bits: of one.
        ratio: of ``ceil(log2 K)`` bits to that.
        percent_saved: against ``ceil(log2 K)`` bits.
    """

    total_bits: int
    mean_bits: float
    ratio: float
    percent_saved: float


def ngrams(pictures: Sequence[Tokens], n: int) -> NGrams:
    """Count n-grams of successive tokens of each picture, which may differ in size."""
    keys = [np.asarray(p, dtype=np.int64).ravel() for p in pictures]
    keys = [k for k in keys if len(k) >= n]
    if not keys:
        return NGrams(0, 0, 0.0)
    found = np.concatenate([k[: len(k) - n + 1] for k in keys])
    size = max(int(k.max()) for k in keys) + 1
    for offset in range(1, n):
        following = np.concatenate([k[offset : len(k) - n + 1 + offset] for k in keys])
        # ranks of what was found so far keep the keys below distinct * K
        _, ranks = np.unique(found, return_inverse=True)
        found = ranks.ravel() * size + following
    _, counts = np.unique(found, return_counts=True)
    return NGrams(len(found), len(counts), entropy_bits(counts))


def mutual_information(first: ArrayLike, second: ArrayLike) -> float:
    """Return ``H(first) + H(second) - H(first, second)`` of paired tokens, in bits."""
    x, y = (np.asarray(v, dtype=np.int64).ravel() for v in (first, second))
    joint = x * (int(y.max()) + 1) + y
    counts = [np.unique(v, return_counts=True)[1] for v in (x, y, joint)]
    return entropy_bits(counts[0]) + entropy_bits(counts[1]) - entropy_bits(counts[2])


def neighbour_information(pictures: Sequence[Tokens]) -> tuple[float, float]:
    """Return the mutual information of horizontal and of vertical neighbours, in bits.

    Args:
        pictures: ``(h, w)`` each; a sequence counts as one row, and has no vertical neighbours.
    """
    found = []
    for first, second in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        sides = [np.concatenate([p[i].ravel() for p in pictures]) for i in (first, second)]
        found.append(mutual_information(*sides) if len(sides[0]) else 0.0)
    return found[0], found[1]


def huffman(counts: ArrayLike, codebook_size: int) -> Huffman:
    """Return the size of tokens with an optimal prefix code of their counts."""
    values = [int(c) for c in np.asarray(counts).ravel() if c > 0]
    tokens = sum(values)
    heapq.heapify(values)
    total = tokens if len(values) == 1 else 0  # a code needs a bit even for one symbol
    while len(values) > 1:
        merged = heapq.heappop(values) + heapq.heappop(values)
        total += merged
        heapq.heappush(values, merged)
    mean = total / tokens
    fixed = math.ceil(math.log2(codebook_size))
    return Huffman(total, mean, fixed / mean, 100 * (1 - mean / fixed))


def compressor_ratios(tokens: ArrayLike, codebook_size: int) -> tuple[float, float]:
    """Return raw over compressed bytes by zlib (level 9) and by xz (preset 9).

    Raw are 2 bytes a token, 4 where the codebook has more than 65,536 codes. Builds of the
    compressors differ by about 1 %.
    """
    dtype = "<u2" if codebook_size <= 1 << 16 else "<u4"
    raw = np.asarray(tokens).astype(dtype).tobytes()
    return len(raw) / len(zlib.compress(raw, 9)), len(raw) / len(lzma.compress(raw, preset=9))


def innovation(pictures: Sequence[Tokens]) -> NDArray[np.int64]:
    """Return how many different tokens the first 1, 2, ... pictures have, ``(N,)``."""
    lengths = np.array([p.size for p in pictures])
    tokens = np.concatenate([p.ravel() for p in pictures])
    _, first = np.unique(tokens, return_index=True)
    owner = np.repeat(np.arange(len(pictures)), lengths)[first]
    return np.cumsum(np.bincount(owner, minlength=len(pictures)))


def heaps_line(pictures: Sequence[Tokens]) -> Line:
    """Fit Heaps' law: ln of different tokens over ln of tokens, one point a picture."""
    tokens = np.cumsum([p.size for p in pictures])
    return fit_line(np.log(tokens), np.log(innovation(pictures)))


__all__ = [
    "Huffman",
    "NGrams",
    "compressor_ratios",
    "heaps_line",
    "huffman",
    "innovation",
    "mutual_information",
    "neighbour_information",
    "ngrams",
]
