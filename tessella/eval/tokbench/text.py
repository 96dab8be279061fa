"""Words read from a reconstruction against their labels (TokBench, arXiv 2505.18142).

::

    T-ACC = share of words read exactly, case and all
    T-NED = mean of 1 - levenshtein / longer length
"""

from __future__ import annotations


def is_equal(label: str, read: str, *, ignores_case: bool = False) -> bool:
    """Return whether a word was read exactly."""
    return label.lower() == read.lower() if ignores_case else label == read


def text_similarity(label: str, read: str, *, ignores_case: bool = False) -> float:
    """Return ``1 - edits / longer length`` in [0, 1]; 1 when both are empty."""
    longest = max(len(label), len(read))
    if not longest:
        return 1.0
    if ignores_case:
        label, read = label.lower(), read.lower()
    return 1 - levenshtein(label, read) / longest


def levenshtein(first: str, second: str) -> int:
    """Return the least number of insertions, deletions and substitutions between two strings."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        above_left, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            cost = min(row[j] + 1, row[j - 1] + 1, above_left + (a != b))
            above_left, row[j] = row[j], cost
    return row[-1]


__all__ = ["is_equal", "levenshtein", "text_similarity"]
