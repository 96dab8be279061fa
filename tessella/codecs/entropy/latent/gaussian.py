"""Frequencies of rounded Gaussians: constants of the format, stored and never computed.

Row ``f`` and place ``i`` belong to a Gaussian of mean ``(f - 4) / 8`` and standard deviation
``0.11 (256 / 0.11)^(i / 63)``. Symbol 0 is the escape; symbol k is the whole number
``first + k - 1``, with the probability of the unit interval around it. Either tail beyond the
numbers of a row is below 2^-17 and goes to the escape. Weights are ``floor(2^30 p + 1/2)``,
frequencies those of rule Q. Rows 5 to 7 mirror rows 3 to 1.

They are stored because a library's erf may differ in the last digit from machine to machine.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.entropy.tables import FrequencyTable, precision, table_from_frequencies
from tessella.errors import CheckpointError

ESCAPE = 0
ROWS = 8
PLACES = 64

_FILE = Path(__file__).with_name("gaussian_tables.safetensors")
_SHA256 = "d7a85d1cc68e95d9490db7f9cf5f4804bd5526a72062c283dd4efeadafd4a328"


class GaussianTables(NamedTuple):
    """All tables, row by row: table ``64 f + i``.

    Args:
        tables: frequency tables.
        first: the whole number of symbol 1, ``(512,)``.
        last: the whole number of the last symbol, ``(512,)``.
    """

    tables: tuple[FrequencyTable, ...]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


@cache
def gaussian_tables() -> GaussianTables:
    """Read the tables.

    Raises:
        CheckpointError: if the file is not the one that belongs to the format.
    """
    from safetensors.numpy import load

    content = _FILE.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise CheckpointError(f"{_FILE} is damaged: its SHA-256 is not {_SHA256}; install again")
    arrays = load(content)
    stored = arrays["first"].astype(np.int64)
    sizes = arrays["size"].astype(np.int64)
    ends = np.cumsum(sizes)
    rows = np.split(arrays["frequency"].astype(np.int64), ends[:-1].tolist())
    tables: list[FrequencyTable] = []
    first = np.empty((ROWS, PLACES), dtype=np.int64)
    for f in range(ROWS):
        source = min(f, ROWS - f)
        for place in range(PLACES):
            row = rows[source * PLACES + place]
            low = int(stored[source, place])
            if source != f:
                row = np.concatenate([row[:1], row[:0:-1]])
                low = -(low + row.size - 2)
            tables.append(table_from_frequencies(row, precision(row.size)))
            first[f, place] = low
    counts = np.array([table.size - 1 for table in tables])
    return GaussianTables(tuple(tables), first.ravel(), first.ravel() + counts - 1)


__all__ = ["ESCAPE", "PLACES", "ROWS", "GaussianTables", "gaussian_tables"]
