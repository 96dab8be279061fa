"""Limits that follow from the largest picture somebody wants to accept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tessella.codecs.container import TokenFileHeader, parse_header
from tessella.codecs.container_errors import LimitError
from tessella.codecs.container_writer import write
from tessella.codecs.limits import DEFAULT_LIMITS
from tessella.codecs.picture_limits import limits_for


def header_of(width: int, height: int) -> bytes:
    return write(TokenFileHeader(bytes(8), width, height), [b""], limits=limits_for(None))


@pytest.mark.parametrize(
    ("size", "smallest"),
    [((30, 20), 600), ((12_000, 12_000), 144_000_000), ((200_000, 1000), 200_000_000)],
)
def test_a_picture_passes_from_its_own_size_on(size: tuple[int, int], smallest: int) -> None:
    data = header_of(*size)
    for accepted in (smallest, 2 * smallest, None):
        header = parse_header(data, limits=limits_for(accepted))
        assert (header.width, header.height) == size
    with pytest.raises(LimitError):
        parse_header(data, limits=limits_for(smallest - 1))


def test_other_limits_stay() -> None:
    for limits in (limits_for(10), limits_for(2**40), limits_for(None)):
        same = {"side": 0, "pixels": 0, "tokens": 0}
        assert replace(limits, **same) == replace(DEFAULT_LIMITS, **same)
