"""Profile 2: models that learn from the tokens already coded, starting at what the prior says.

Grids of bitwise codes for which the prior holds a context model go through
:mod:`tessella.codecs.entropy.bit_state`; everything else through adaptive frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tessella.codecs.container_errors import LimitError
from tessella.codecs.entropy.bit_state import BitState
from tessella.codecs.entropy.frequency import FrequencyModel
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.entropy.range_coder import RangeDecoder, RangeEncoder
from tessella.codecs.entropy.segments import Values, check_least, least_bytes, symbol_count
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.stored_layout import Part, Run, StoredLevel


class _RunModel(Protocol):
    def encode(self, run: Run, encoder: RangeEncoder) -> None: ...

    def decode(self, run: Run, decoder: RangeDecoder) -> None: ...

    def costly_symbols(self, run: Run) -> int: ...


class AdaptiveCoder:
    """Codes parts in order, learning on the way.

    Args:
        levels: the stored layout.
        values: one array a level.
        prior: where learning starts.
        limits: bounds the size of tables.
    """

    def __init__(
        self,
        levels: Sequence[StoredLevel],
        values: Values,
        prior: Prior,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._model: _RunModel
        if prior.bit_model and prior.bit_model.suits(levels):
            self._model = BitState(prior.bit_model, levels[0], values[0])
            return
        for level in levels:
            largest = max(symbol_count(level, g) for g in range(level.groups))
            if largest > limits.table_alphabet:
                raise LimitError(
                    f"an alphabet of {largest} needs a table; the limit is "
                    f"{limits.table_alphabet} (Limits.table_alphabet)"
                )
        self._model = FrequencyModel(levels, values, prior)

    def encode(self, part: Part) -> bytes:
        """Return the bytes of one part."""
        encoder = RangeEncoder()
        for run in part.runs:
            self._model.encode(run, encoder)
        return encoder.finish(self._least(part))

    def decode(self, part: Part, segment: bytes | memoryview, padding: int | None = None) -> None:
        """Fill the values of one part."""
        least = self._least(part)
        if padding is None:
            check_least(len(segment), least)
        decoder = RangeDecoder(segment, padding or 0)
        for run in part.runs:
            self._model.decode(run, decoder)
        if padding is None:
            decoder.check_end(least)

    def _least(self, part: Part) -> int:
        return least_bytes(sum(self._model.costly_symbols(run) for run in part.runs))


__all__ = ["AdaptiveCoder"]
