"""Profile 2: models that learn from the tokens already coded, starting at what the prior says.

Grids of bitwise codes for which the prior holds a context model go through
:mod:`tessella.codecs.entropy.bit_model`; everything else through adaptive frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence

from tessella.codecs.entropy.bit_model import BitState
from tessella.codecs.entropy.frequency import FrequencyModel
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.entropy.range_coder import RangeDecoder, RangeEncoder
from tessella.codecs.entropy.segments import Values, check_work
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.stored_layout import Part, StoredLevel


class AdaptiveCoder:
    """Codes parts in order, learning on the way.

    Args:
        levels: the stored layout.
        values: one array a level.
        prior: where learning starts.
        limits: bounds the work of decoding.
    """

    def __init__(
        self,
        levels: Sequence[StoredLevel],
        values: Values,
        prior: Prior,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._limits = limits
        self._frequencies = FrequencyModel(levels, values, prior, limits)
        model = prior.bit_model
        suits = model is not None and len(levels) == 1 and model.suits(levels[0])
        self._bits = BitState(model, levels[0], values[0]) if suits and model else None

    def encode(self, part: Part) -> bytes:
        """Return the bytes of one part."""
        encoder = RangeEncoder()
        for run in part.runs:
            if self._bits:
                self._bits.encode(run, encoder)
            else:
                self._frequencies.encode(run, encoder)
        return encoder.finish()

    def decode(self, part: Part, segment: bytes | memoryview, padding: int | None = None) -> None:
        """Fill the values of one part."""
        decoder = RangeDecoder(segment, padding or 0)
        for run in part.runs:
            if self._bits:
                check_work(run.stop - run.start, len(segment), self._limits)
                self._bits.decode(run, decoder)
            else:
                self._frequencies.decode(run, decoder, len(segment))
        if padding is None:
            decoder.check_end()


__all__ = ["AdaptiveCoder"]
