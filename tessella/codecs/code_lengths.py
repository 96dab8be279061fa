"""What each token of a map costs by a prior, in bits, without coding it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.entropy.bit_state import BitState
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.entropy.tables import precision, rule_q
from tessella.codecs.token_levels import DEFAULT_EXPONENT, to_arrays
from tessella.errors import ShapeError
from tessella.tokens import Tokens


def code_lengths(tokens: Tokens, prior: Prior | None) -> NDArray[np.float64]:
    """Return the bits of each token ``(h, w, G)``; h is 1 for a sequence.

    By the context model, where the prior has one for such tokens; else by its histograms; without
    a prior all symbols of an alphabet cost the same.

    Args:
        tokens: one picture, one discrete level.
        prior: what the tokens are expected to be.

    Raises:
        ShapeError: if there are several levels or pictures, or the level is continuous.
    """
    levels, arrays = to_arrays(tokens, DEFAULT_EXPONENT, None)
    if len(levels) > 1 or levels[0].channels:
        raise ShapeError(f"{tokens!r} given; expected one discrete level")
    level, values = levels[0], arrays[0]
    if prior and prior.bit_model and prior.bit_model.suits(levels):
        state = BitState(prior.bit_model, level, values)
        columns = [state.code_lengths(g) for g in range(level.groups)]
    else:
        columns = [
            _by_histogram(values[:, g], size, prior.histogram(0, g, size) if prior else None)
            for g, size in enumerate(level.vocab_sizes)
        ]
    height, width = (1, *level.grid)[-2:]
    return np.stack(columns, axis=-1).reshape(height, width, level.groups)


def _by_histogram(
    symbols: NDArray[np.int64], size: int, counts: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    if counts is None:
        return np.full(symbols.shape, np.log2(size))
    bits = precision(size)
    lengths: NDArray[np.float64] = bits - np.log2(rule_q(counts, bits)[symbols])
    return lengths


__all__ = ["code_lengths"]
