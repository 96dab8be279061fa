"""How a tokenizer's codebooks are used on a set of pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessella.eval.results import TokenRecord
from tessella.eval.token_counts import codebook_statistics
from tessella.tokens import Tokens

_LARGEST = 1 << 20  # codes of a codebook that is counted
_PARTS = 64  # codebooks of a tokenizer that are reported
_POINTS = 160  # of a rank-frequency curve


class TokenUse:
    """Counts codes over pictures: each level and group by itself.

    Continuous levels and codebooks of more than 2^20 codes are left out.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._language: Any = None  # a TokenLanguage: torchmetrics is slow to import
        self._spoken: tuple[int, int] | None = None

    def add(self, tokens: Tokens) -> None:
        """Add the tokens of a picture."""
        finest = len(tokens.levels) - 1
        for i, (level, layout) in enumerate(zip(tokens.levels, tokens.layout.levels, strict=True)):
            for j, size in enumerate(layout.vocab_sizes or ()):
                if size > _LARGEST or (len(self._counts) >= _PARTS and (i, j) not in self._counts):
                    continue
                codes = level[..., j].cpu().numpy().astype(np.int64)
                counts = self._counts.setdefault((i, j), np.zeros(size, np.int64))
                counts += np.bincount(codes.ravel(), minlength=size)
                if i == finest and j == 0:
                    self._speak(tokens, i, size)

    def records(self, subject: str, dataset: str) -> list[TokenRecord]:
        """Return one record a codebook; n-grams and neighbours of the finest level's first."""
        found = []
        for (i, j), counts in self._counts.items():
            use = codebook_statistics(counts)
            statistics = {
                name: float(value)
                for name, value in use._asdict().items()
                if isinstance(value, (int, float))
            }
            if (i, j) == self._spoken:
                statistics |= self._of_language()
            ranks, shares = _curve(counts)
            record = TokenRecord(
                subject,
                dataset,
                self._part(i, j),
                len(counts),
                {name: value for name, value in statistics.items() if math.isfinite(value)},
                ranks,
                shares,
            )
            found.append(record)
        return found

    def _speak(self, tokens: Tokens, i: int, size: int) -> None:
        from tessella.eval.metrics.tokens import TokenLanguage

        if self._language is None:
            self._language, self._spoken = TokenLanguage(size), (i, 0)
        self._language.update(tokens.levels[i][..., 0].cpu())

    def _of_language(self) -> dict[str, float]:
        found = self._language.compute()
        return {
            "bigram entropy": found.ngrams[1].entropy,
            "entropy after one": found.conditional_entropies[0],
            "horizontal information": found.horizontal_information,
            "vertical information": found.vertical_information,
            "zlib ratio": found.zlib_ratio,
            "lzma ratio": found.lzma_ratio,
            "Heaps exponent": found.heaps_exponent,
        }

    def _part(self, i: int, j: int) -> str:
        names = []
        if len({level for level, _ in self._counts}) > 1:
            names.append(f"level {i + 1}")
        if len({group for _, group in self._counts}) > 1:
            names.append(f"group {j + 1}")
        return ", ".join(names) or "codebook"


def _curve(counts: NDArray[np.int64]) -> tuple[list[int], list[float]]:
    """Return ranks, evenly spread on a logarithmic axis, and the shares of their codes."""
    shares = np.sort(counts)[::-1] / max(counts.sum(), 1)
    used = int(np.count_nonzero(shares))
    ranks = np.unique(np.geomspace(1, max(used, 1), _POINTS).round().astype(int))
    return ranks.tolist(), [float(f"{shares[rank - 1]:.6g}") for rank in ranks]


def use_of(pictures: Iterable[Tokens]) -> TokenUse:
    """Count the tokens of pictures."""
    use = TokenUse()
    for tokens in pictures:
        use.add(tokens)
    return use


__all__ = ["TokenUse", "use_of"]
