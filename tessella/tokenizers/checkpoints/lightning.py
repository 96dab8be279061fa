"""Averaged weights in Lightning checkpoints.

Trainers in the style of latent diffusion keep an exponential moving average of every trainable
parameter ``a.b.c`` under ``model_ema.abc``: without its dots, so names lead to averages but not the
other way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

_PREFIX = "model_ema."


def with_averages(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return every tensor's average where the file has one, the tensor itself elsewhere.

    Args:
        state: tensors by name; those under ``model_ema.`` are left out of the result.
    """
    return {
        name: state.get(_PREFIX + name.replace(".", ""), tensor)
        for name, tensor in state.items()
        if not name.startswith(_PREFIX)
    }


def count_averages(state: Mapping[str, Tensor], prefixes: Sequence[str]) -> int:
    """Count the tensors that :func:`with_averages` replaces.

    Args:
        state: tensors by name.
        prefixes: of the names that count: those of the tokenizer, not of its losses.
    """
    names = (name for name in state if name.startswith(tuple(prefixes)))
    return sum(_PREFIX + name.replace(".", "") in state for name in names)


__all__ = ["count_averages", "with_averages"]
