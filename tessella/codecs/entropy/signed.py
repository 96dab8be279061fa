"""Signed integers by a table over ``[-M, M - 1]`` and an escape, whose index is the last, ``2 M``.

A value v in range has index v + M. After an escape follows, in Exp-Golomb code of order 0,
``2 (v - M)`` for v >= M and ``2 (-M - 1 - v) + 1`` for v < -M.
"""

from __future__ import annotations

from collections.abc import Sequence

from tessella.codecs.entropy.range_coder import RangeDecoder, RangeEncoder
from tessella.codecs.entropy.tables import FrequencyTable


def encode_signed(encoder: RangeEncoder, values: Sequence[int], table: FrequencyTable) -> None:
    """Encode signed values by a table of ``2 M + 1`` symbols."""
    escape = table.size - 1
    bound = escape // 2
    begin = 0
    symbols = [v + bound if -bound <= v < bound else escape for v in values]
    for i, (value, symbol) in enumerate(zip(values, symbols, strict=True)):
        if symbol == escape:
            encoder.encode_run(symbols[begin : i + 1], (table,))
            beyond = 2 * (value - bound) if value >= bound else 2 * (-bound - 1 - value) + 1
            encoder.encode_exp_golomb(beyond)
            begin = i + 1
    encoder.encode_run(symbols[begin:], (table,))


def decode_signed(decoder: RangeDecoder, count: int, table: FrequencyTable) -> list[int]:
    """Decode ``count`` signed values.

    Raises:
        TokenFileError: if an escaped value has more than 33 bits.
    """
    escape = table.size - 1
    bound = escape // 2
    values: list[int] = []
    while len(values) < count:
        symbols = decoder.decode_run(count - len(values), (table,), stop_at=escape)
        escaped = bool(symbols) and symbols[-1] == escape
        values.extend(s - bound for s in (symbols[:-1] if escaped else symbols))
        if escaped:
            beyond, sign = divmod(decoder.decode_exp_golomb(), 2)
            values.append(-bound - 1 - beyond if sign else bound + beyond)
    return values


__all__ = ["decode_signed", "encode_signed"]
