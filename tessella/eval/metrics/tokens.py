"""Streaming statistics of tokens: how codebooks are used, and what language tokens speak."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tessella.errors import ShapeError
from tessella.eval.metrics.base import StreamingMetric, joined
from tessella.eval.token_counts import CodebookStatistics, codebook_statistics, joint_codes
from tessella.eval.token_language import (
    Huffman,
    NGrams,
    compressor_ratios,
    heaps_line,
    huffman,
    innovation,
    neighbour_information,
    ngrams,
)

_LONGEST = 4


class CodebookUse(StreamingMetric):
    """Usage, entropy and rank-frequency statistics of each group of codes.

    Args:
        vocab_sizes: K of each of the G groups.
        joint: count product codes too, as one codebook of up to 2^24 codes.
        options: of torchmetrics' ``Metric``.

    Raises:
        ShapeError: if the joint codebook is larger.
    """

    higher_is_better = None
    counts: Tensor
    joint_counts: Tensor

    def __init__(self, vocab_sizes: Sequence[int], *, joint: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.vocab_sizes, self.joint = tuple(vocab_sizes), joint
        if joint:  # refuses what is too large
            joint_codes(np.zeros((0, len(self.vocab_sizes)), dtype=np.int64), self.vocab_sizes)
        self.add_sum("counts", sum(self.vocab_sizes), dtype=torch.int64)
        size = math.prod(self.vocab_sizes) if joint else 0
        self.add_sum("joint_counts", size, dtype=torch.int64)

    def update(self, tokens: Tensor) -> None:
        """Add indices ``(..., G)``.

        Raises:
            ShapeError: if the groups differ or an index is outside its codebook.
        """
        check_codes(tokens, self.vocab_sizes)
        rows = tokens.reshape(-1, len(self.vocab_sizes)).long()
        sizes = torch.tensor(self.vocab_sizes, device=rows.device)
        starts = sizes.cumsum(0) - sizes
        flat = (rows + starts).flatten().to(self.counts.device)
        self.counts += torch.bincount(flat, minlength=len(self.counts))
        if self.joint:
            codes = torch.from_numpy(joint_codes(rows.cpu().numpy(), self.vocab_sizes))
            codes = codes.to(self.joint_counts.device)
            self.joint_counts += torch.bincount(codes, minlength=len(self.joint_counts))

    def compute(self) -> list[CodebookStatistics]:
        """Return the statistics of each group, then of the joint codes if they are counted.

        Raises:
            ShapeError: if no tokens were given.
        """
        groups = list(torch.split(self.counts, list(self.vocab_sizes)))
        groups += [self.joint_counts] if self.joint else []
        return [codebook_statistics(counts.cpu().numpy()) for counts in groups]


class LanguageStatistics(NamedTuple):
    """Tokens of one group, read row by row.

    Args:
        ngrams: of 1 to 4 tokens.
        conditional_entropies: bits of a token after 1, 2, 3 others.
        horizontal_information: of horizontal neighbours, bits.
        vertical_information: of vertical neighbours, bits.
        huffman: an optimal prefix code.
        zlib_ratio: raw over compressed bytes.
        lzma_ratio: raw over compressed bytes.
        innovation: different tokens in the first 1, 2, ... pictures.
        heaps_exponent: of Heaps' law.
        heaps_r2: of its line.
    """

    ngrams: list[NGrams]
    conditional_entropies: list[float]
    horizontal_information: float
    vertical_information: float
    huffman: Huffman
    zlib_ratio: float
    lzma_ratio: float
    innovation: list[int]
    heaps_exponent: float
    heaps_r2: float


class TokenLanguage(StreamingMetric):
    """The statistics of "Analyzing the Language of Visual Tokens" (arXiv 2411.05001).

    Args:
        codebook_size: K.
        options: of torchmetrics' ``Metric``.
    """

    higher_is_better = None
    tokens: list[Tensor]
    shapes: list[Tensor]

    def __init__(self, codebook_size: int, **options: Any) -> None:
        super().__init__(**options)
        self.codebook_size = codebook_size
        self.add_rows("tokens")
        self.add_rows("shapes")

    def update(self, tokens: Tensor) -> None:
        """Add indices of one group, ``(B, h, w)`` or ``(B, T)``; batches may differ in size.

        Raises:
            ShapeError: if the shape differs or an index is outside the codebook.
        """
        if tokens.ndim not in (2, 3):
            raise ShapeError(
                f"tokens of shape {tuple(tokens.shape)} given; expected one group, (B, h, w) or "
                "(B, T)"
            )
        check_codes(tokens[..., None], (self.codebook_size,))
        height = tokens.shape[1] if tokens.ndim == 3 else 1
        shape = torch.tensor([[height, tokens.shape[-1]]], device=tokens.device)
        self.tokens.append(tokens.long().flatten())
        self.shapes.append(shape.expand(len(tokens), 2))

    def compute(self) -> LanguageStatistics:
        """Return the statistics.

        Raises:
            ShapeError: if no tokens were given.
        """
        pictures = self.pictures()
        stream = np.concatenate([p.ravel() for p in pictures])
        grams = [ngrams(pictures, n) for n in range(1, _LONGEST + 1)]
        horizontal, vertical = neighbour_information(pictures)
        by_zlib, by_lzma = compressor_ratios(stream, self.codebook_size)
        heaps = heaps_line(pictures)
        return LanguageStatistics(
            ngrams=grams,
            conditional_entropies=[long.entropy - short.entropy for short, long in pairwise(grams)],
            horizontal_information=horizontal,
            vertical_information=vertical,
            huffman=huffman(np.bincount(stream), self.codebook_size),
            zlib_ratio=by_zlib,
            lzma_ratio=by_lzma,
            innovation=innovation(pictures).tolist(),
            heaps_exponent=heaps.slope,
            heaps_r2=heaps.r2,
        )

    def pictures(self) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
        """Return the tokens of each picture, ``(h, w)``.

        Raises:
            ShapeError: if no tokens were given.
        """
        stream = joined(self.tokens, "tokenized").cpu().numpy()
        shapes = joined(self.shapes, "tokenized").cpu().numpy()
        parts = np.split(stream, np.cumsum(shapes.prod(axis=1))[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def check_codes(tokens: Tensor, vocab_sizes: Sequence[int]) -> None:
    """Check that indices ``(..., G)`` lie inside their codebooks.

    Raises:
        ShapeError: saying what does not fit.
    """
    if tokens.is_floating_point() or tokens.shape[-1] != len(vocab_sizes):
        raise ShapeError(
            f"tokens of shape {tuple(tokens.shape)} and dtype {tokens.dtype} given; expected "
            f"integers (..., {len(vocab_sizes)})"
        )
    rows = tokens.reshape(-1, len(vocab_sizes))
    sizes = torch.tensor(vocab_sizes, device=rows.device)
    if bool(((rows < 0) | (rows >= sizes)).any()):
        raise ShapeError(
            f"tokens from {int(rows.min())} to {int(rows.max())} given; expected indices below "
            f"{tuple(vocab_sizes)} and none negative"
        )


__all__ = ["CodebookUse", "LanguageStatistics", "TokenLanguage", "check_codes"]
