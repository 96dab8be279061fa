"""Kept keys and values in 8 bits, each channel of a head with its own range.

::

    x (R, T, d) of a head --> absmax (R, d) float32,  codes = x / absmax * 127  in int8
                                                 or   x / absmax * 448  in fp8 (e4m3)

Tokens are coded again when those of a scale are added. As long as the range of a channel does not
change, codes stay what they are; else each time adds at most half a step of error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.generation.kv_cache.store import Storage

Format = Literal["int8", "fp8"]
_TINY = 1e-30  # the range of channels that are zero


class QuantizedStorage(Storage):
    """Holds 8-bit codes of kept keys or values.

    Args:
        form: ``int8``, or ``fp8`` (e4m3), which has finer steps near zero.

    Raises:
        ConfigError: for another form.
    """

    def __init__(self, form: Format = "int8") -> None:
        if form not in ("int8", "fp8"):
            raise ConfigError(f"form={form!r} given; expected 'int8' or 'fp8'")
        self._dtype = torch.int8 if form == "int8" else torch.float8_e4m3fn
        self._largest = 127.0 if form == "int8" else 448.0
        self._codes = self._absmax = torch.empty(0)
        self._lengths: tuple[int, ...] = ()
        self._given = torch.float32

    def put(self, kept: Tensor, lengths: tuple[int, ...]) -> None:
        """Code ``(R, sum of lengths, d)``."""
        self._given, self._lengths = kept.dtype, lengths
        values = kept.float()
        self._absmax = _absmax(values, lengths)
        steps = self._absmax.clamp_min(_TINY) / self._largest
        codes = values / steps[:, _heads_of(lengths, kept.device)]
        if self._dtype == torch.int8:
            codes = codes.round_()
        self._codes = codes.clamp_(-self._largest, self._largest).to(self._dtype)

    def get(self) -> Tensor:
        """Return the values of the codes, in the type that was given."""
        steps = self._absmax / self._largest
        values = self._codes.float() * steps[:, _heads_of(self._lengths, steps.device)]
        return values.to(self._given)

    def nbytes(self) -> int:
        """Bytes of the codes and of the ranges."""
        return sum(t.untyped_storage().nbytes() for t in (self._codes, self._absmax))


def _absmax(values: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """Return the range of every channel of a head, ``(R, H, d)``; 0 where a head has no token."""
    rows, _, width = values.shape
    if len(set(lengths)) == 1 and lengths[0]:
        equal = values.reshape(rows, len(lengths), lengths[0], width)
        return equal.abs().amax(dim=2)
    index = _heads_of(lengths, values.device).view(1, -1, 1).expand_as(values)
    ranges = values.new_zeros(rows, len(lengths), width)
    return ranges.scatter_reduce_(1, index, values.abs(), reduce="amax")


def _heads_of(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the head of every token, ``(sum of lengths,)``."""
    counts = torch.tensor(lengths)
    return torch.arange(len(lengths)).repeat_interleave(counts).to(device)


#: makers of storages by the name behind the plus sign
STORAGES: dict[str, Callable[[], Storage]] = {
    "int8": partial(QuantizedStorage, "int8"),
    "fp8": partial(QuantizedStorage, "fp8"),
}

__all__ = ["STORAGES", "Format", "QuantizedStorage"]
