"""Profile 3: scalar latents by their prior.

::

    level 0       one bit: all qualities alike? then one quality, else one a cell
    level 1       hyper-latents, channel by channel, by the histograms of the nearest point
    level 2 ...   a slice: one bit (are latents left out that are not zero?), then its two passes,
                  channel by channel: symbols of rounded Gaussians, and escapes

Slices of a file whose end is missing are absent, not guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.container_errors import MalformedError, UnknownModelError
from tessella.codecs.entropy.latent.gaussian import ESCAPE, PLACES, gaussian_tables
from tessella.codecs.entropy.latent.integer_network import Code, Pass
from tessella.codecs.entropy.latent.integers import Whole
from tessella.codecs.entropy.latent.model import LatentModel
from tessella.codecs.entropy.range_coder import BINARY_BITS, RangeDecoder, RangeEncoder
from tessella.codecs.entropy.segments import Values
from tessella.codecs.entropy.tables import FrequencyTable, uniform_table
from tessella.codecs.stored_layout import Part, StoredLevel
from tessella.tokenizers.scalar_latent import HYPER_RANGE, LATENT_RANGE, QUALITIES

_HALF = 1 << BINARY_BITS - 1
_MEAN_BITS = 3
_HALF_STEP = 4


class LatentCoder:
    """Codes the levels of one picture, in order.

    Args:
        levels: the stored layout.
        values: one array a level, read by :meth:`encode` and written by :meth:`decode`.
        model: the prior's integers.

    Raises:
        UnknownModelError: if the model is of other levels.
    """

    def __init__(self, levels: Sequence[StoredLevel], values: Values, model: LatentModel) -> None:
        if not model.suits(levels):
            raise UnknownModelError(
                f"levels {[(level.grid, level.groups) for level in levels]} given with a prior of "
                f"slices {model.network.config.slices}; use the prior of their tokenizer"
            )
        self._values = values
        self._model = model
        height, width = levels[0].grid[0], levels[0].grid[-1]
        self._grid = (height, width)
        channels = sum(model.network.config.slices)
        self._latents = np.zeros((channels, 4 * height, 4 * width), dtype=np.int64)
        self._features: Whole | None = None

    def encode(self, part: Part) -> bytes:
        """Return the bytes of one part."""
        encoder = RangeEncoder()
        for run in part.runs:
            values = self._values[run.level]
            if run.level == 0:
                is_alike = bool((values == values[0]).all())
                encoder.encode_bits((int(is_alike),), (_HALF,))
                column = values[:1, 0] if is_alike else values[:, 0]
                encoder.encode_run(column.tolist(), (uniform_table(QUALITIES),))
            elif run.level == 1:
                for channel, column in enumerate(values.T):
                    encoder.encode_run(column.tolist(), self._hyper_tables(channel))
            else:
                self._encode_slice(run.level, encoder)
        return encoder.finish()

    def decode(self, part: Part, segment: bytes | memoryview, padding: int | None = None) -> None:
        """Fill the values of one part."""
        decoder = RangeDecoder(segment, padding or 0)
        for run in part.runs:
            values = self._values[run.level]
            if run.level == 0:
                count = 1 if decoder.decode_bits((_HALF,))[0] else len(values)
                values[:, 0] = decoder.decode_run(count, (uniform_table(QUALITIES),))
            elif run.level == 1:
                for channel in range(values.shape[1]):
                    tables = self._hyper_tables(channel)
                    values[:, channel] = decoder.decode_run(len(values), tables)
            else:
                self._decode_slice(run.level, decoder)
        if padding is None:
            decoder.check_end()

    def _hyper_tables(self, channel: int) -> list[FrequencyTable]:
        qualities = self._values[0][:, 0].tolist()
        return [self._model.hyper_table(quality, channel) for quality in qualities]

    def _encode_slice(self, level: int, encoder: RangeEncoder) -> None:
        own = self._values[level].T - LATENT_RANGE
        passes: list[tuple[Pass, NDArray[np.int64]]] = []

        def collect(of: Pass) -> NDArray[np.int64]:
            given: NDArray[np.int64] = own[:, of.positions]
            passes.append((of, given))
            return given

        self._walk(level, collect)
        is_exact = any(bool((given[~self._model.is_coded(of)] != 0).any()) for of, given in passes)
        encoder.encode_bits((int(is_exact),), (_HALF,))
        for of, given in passes:
            chosen, base, rows = self._coded(of, is_exact=is_exact)
            encode_escaped(encoder, given[chosen] - base, rows)

    def _decode_slice(self, level: int, decoder: RangeDecoder) -> None:
        values = self._values[level]
        is_exact = bool(decoder.decode_bits((_HALF,))[0])

        def code(of: Pass) -> NDArray[np.int64]:
            chosen, base, rows = self._coded(of, is_exact=is_exact)
            found = np.zeros_like(of.mean)
            found[chosen] = decode_escaped(decoder, rows) + base
            values[of.positions] = found.T + LATENT_RANGE
            return found

        self._walk(level, code)
        if int(values.min()) < 0 or int(values.max()) >= 2 * LATENT_RANGE:
            raise MalformedError(
                f"a latent of level {level} outside {-LATENT_RANGE}..{LATENT_RANGE - 1}"
            )

    def _walk(self, level: int, code: Code) -> None:
        network = self._model.network
        if self._features is None:
            hyper = self._values[1].T.reshape(-1, *self._grid) - HYPER_RANGE
            self._features = network.features(hyper)
        quality = self._values[0].reshape(self._grid)
        network.code_slice(level - 2, self._features, quality, self._latents, code)

    def _coded(self, of: Pass, *, is_exact: bool) -> _Coded:
        chosen = np.ones_like(of.mean, dtype=bool) if is_exact else self._model.is_coded(of)
        mean, place = of.mean[chosen], of.place[chosen]
        base = (mean + _HALF_STEP) >> _MEAN_BITS
        rows = (mean - (base << _MEAN_BITS) + _HALF_STEP) * PLACES + place
        return _Coded(chosen, base, rows)


class _Coded(NamedTuple):
    """Which latents of a pass are coded, the whole part of their means, and their tables."""

    chosen: NDArray[np.bool_]
    base: NDArray[np.int64]
    rows: NDArray[np.int64]


def encode_escaped(
    encoder: RangeEncoder, values: NDArray[np.int64], rows: NDArray[np.int64]
) -> None:
    """Encode whole numbers ``(n,)``, each by a row of the Gaussian tables or beyond its ends.

    A number beyond is the escape, then in Exp-Golomb code twice its distance from the number after
    the last, or twice that from the one before the first and 1 more.
    """
    all_tables, first, last = gaussian_tables()
    low, high = first[rows], last[rows]
    is_inside = (values >= low) & (values <= high)
    symbols: list[int] = np.where(is_inside, values - low + 1, ESCAPE).tolist()
    tables = iter([all_tables[row] for row in rows.tolist()])
    begin = 0
    for i in np.flatnonzero(~is_inside).tolist():
        encoder.encode_run(symbols[begin : i + 1], tables)
        above, below = int(values[i] - high[i]) - 1, int(low[i] - values[i]) - 1
        encoder.encode_exp_golomb(2 * above if above >= 0 else 2 * below + 1)
        begin = i + 1
    encoder.encode_run(symbols[begin:], tables)


def decode_escaped(decoder: RangeDecoder, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Decode what :func:`encode_escaped` wrote, ``(n,)``.

    Raises:
        TokenFileError: if an escaped value has more than 33 bits.
    """
    all_tables, first, last = gaussian_tables()
    tables = iter([all_tables[row] for row in rows.tolist()])
    found = np.empty(len(rows), dtype=np.int64)
    begin = 0
    while begin < len(rows):
        symbols = decoder.decode_run(len(rows) - begin, tables, stop_at=ESCAPE)
        end = begin + len(symbols)
        found[begin:end] = first[rows[begin:end]] - 1 + np.array(symbols)
        if symbols[-1] == ESCAPE:
            beyond, is_below = divmod(decoder.decode_exp_golomb(), 2)
            row = rows[end - 1]
            found[end - 1] = first[row] - 1 - beyond if is_below else last[row] + 1 + beyond
        begin = end
    return found


__all__ = ["LatentCoder", "decode_escaped", "encode_escaped"]
