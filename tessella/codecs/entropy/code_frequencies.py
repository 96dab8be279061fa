"""A prior without pictures, from the code frequencies that some tokenizers average in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from tessella.codecs.entropy.prior import PRIOR_FILE, Prior
from tessella.tokenizers.base import Tokenizer

_SCALE = 2**24
_LEAST = 2**8  # averages forget codes within a hundred steps: none is rarer than 2^-16


def prior_of_frequencies(frequencies: Sequence[Tensor]) -> Prior:
    """Return the histograms of relative frequencies.

    Args:
        frequencies: ``(G, K)`` a level, each group with a sum of 1.
    """
    return Prior(
        {
            (i, g): np.maximum(np.rint(p * _SCALE), _LEAST).astype(np.int64)
            for i, level in enumerate(frequencies)
            for g, p in enumerate(level.detach().cpu().double().numpy())
        }
    )


def write_prior_of_frequencies(model: Tokenizer, folder: Path) -> None:
    """Write the prior of a tokenizer that counts its codes beside its weights, if it does.

    Args:
        model: any tokenizer.
        folder: where it is saved.
    """
    frequencies = model.code_frequencies()
    if frequencies:
        prior_of_frequencies(frequencies).save(folder / PRIOR_FILE)


__all__ = ["prior_of_frequencies", "write_prior_of_frequencies"]
