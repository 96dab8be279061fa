"""Profile 1: integer histograms that ship with the model, one a level and group."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from tessella.codecs.container_errors import LimitError
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.entropy.segments import TableCoder, Values, symbol_count
from tessella.codecs.entropy.tables import FrequencyTable, table_from_weights
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.stored_layout import StoredLevel


class StaticCoder(TableCoder):
    """Codes parts by the histograms of a prior.

    Args:
        levels: the stored layout.
        values: one array a level.
        prior: the histograms.
        limits: bounds the size of tables.
    """

    def __init__(
        self,
        levels: Sequence[StoredLevel],
        values: Values,
        prior: Prior,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        @cache
        def table_of(level: int, group: int) -> FrequencyTable:
            size = symbol_count(levels[level], group)
            if size > limits.table_alphabet:
                raise LimitError(
                    f"an alphabet of {size} needs a table; the limit is {limits.table_alphabet} "
                    "(Limits.table_alphabet)"
                )
            return table_from_weights(prior.histogram(level, group, size))

        super().__init__(levels, values, table_of)


__all__ = ["StaticCoder"]
