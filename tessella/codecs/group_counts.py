"""How many groups each position of a ragged level keeps, as bytes of the chunk ``kept``.

::

    side u8 | counts of the tiles of 2^side x 2^side positions, range coded, raster order

A count c from 1 to G (the groups of the stored layout) is written as decisions "more than i?" for
i = 1, 2, ... until one is no, or i = G - 1 is yes. Each learns like those of adaptive frequencies
(:class:`~tessella.codecs.entropy.frequency.AdaptiveBit`); its context is i, how many of the left
and the upper neighbour are above i, and how many of the upper left and the upper right one are.
A neighbour outside the map counts as 0.

Refused are smaller tiles than fit, counts that are all alike, and counts of which none is G.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tessella.codecs.chunks import MOST_SIDE
from tessella.codecs.container_errors import MalformedError
from tessella.codecs.entropy.frequency import AdaptiveBit
from tessella.codecs.entropy.range_coder import RangeDecoder, RangeEncoder
from tessella.codecs.entropy.segments import check_least, least_bytes
from tessella.codecs.stored_layout import StoredLevel
from tessella.errors import ShapeError

Counts = NDArray[np.int64]
_Decide = Callable[[AdaptiveBit, int], int]


def write_counts(counts: Counts, groups: int) -> bytes:
    """Return the chunk of counts ``(h, w)`` from 1 to ``groups``, which is the largest of them.

    Raises:
        ShapeError: if no position keeps all groups, or one keeps none.
    """
    if int(counts.max()) != groups or int(counts.min()) < 1:
        raise ShapeError(
            f"counts from {counts.min()} to {counts.max()} given for {groups} groups; expected 1 "
            f"to {groups}: truncate the tokens to the groups that they have"
        )
    side = tile_side(counts)
    tiles = counts[:: 1 << side, :: 1 << side]
    encoder = RangeEncoder()

    def decide(decision: AdaptiveBit, bit: int) -> int:
        encoder.encode_bits((bit,), (decision.zero_frequency,))
        return bit

    _code(tiles.copy(), groups, decide)
    return bytes([side]) + encoder.finish(least_bytes(tiles.size))


def read_counts(data: bytes, level: StoredLevel) -> Counts:
    """Return the counts ``(h, w)`` of a chunk; h is 1 for a sequence.

    Args:
        data: the chunk.
        level: the level that the file holds.

    Raises:
        TokenFileError: if the chunk is not what a writer makes of such a level.
    """
    if level.ordered != "groups" or level.channels or level.groups < 2:
        raise MalformedError(
            f"chunk kept for {level}; expected one discrete level of two or more ordered groups"
        )
    height, width = (1, *level.grid)[-2:]
    side = data[0]
    shape = -(-height // (1 << side)), -(-width // (1 << side))
    least = least_bytes(shape[0] * shape[1])
    check_least(len(data) - 1, least)
    decoder = RangeDecoder(data[1:])
    tiles = np.zeros(shape, dtype=np.int64)

    def decide(decision: AdaptiveBit, _: int) -> int:
        return decoder.decode_bits((decision.zero_frequency,))[0]

    _code(tiles, level.groups, decide)
    decoder.check_end(least)
    counts = tiles.repeat(1 << side, 0).repeat(1 << side, 1)[:height, :width]
    if counts.max() != level.groups or counts.min() == level.groups or tile_side(counts) != side:
        raise MalformedError(
            f"chunk kept has counts from {counts.min()} to {counts.max()} in tiles of side "
            f"{1 << side}; expected unlike ones up to {level.groups} in the largest tiles that fit"
        )
    return counts


def tile_side(counts: Counts) -> int:
    """Return the largest s, at most 7, for which tiles of ``2^s x 2^s`` positions are even."""
    side = 0
    while side < MOST_SIDE:
        step = 2 << side
        tiles = counts[::step, ::step].repeat(step, 0).repeat(step, 1)
        if not np.array_equal(tiles[: counts.shape[0], : counts.shape[1]], counts):
            break
        side += 1
    return side


def _code(tiles: Counts, groups: int, decide: _Decide) -> None:
    """Go through all decisions; ``decide`` gets what a tile holds and says what it is to hold."""
    height, width = tiles.shape
    decisions = [[[AdaptiveBit() for _ in range(3)] for _ in range(3)] for _ in range(groups)]
    above = [0] * (width + 2)
    for y in range(height):
        given, left = tiles[y].tolist(), 0
        row = [0] * (width + 2)
        for x in range(width):
            top, corner, right = above[x + 1], above[x], above[x + 2]
            count = 1
            while count < groups:
                near = (left > count) + (top > count)
                decision = decisions[count][near][(corner > count) + (right > count)]
                bit = decide(decision, int(given[x] > count))
                decision.update(bit)
                if not bit:
                    break
                count += 1
            row[x + 1] = left = count
        tiles[y] = row[1:-1]
        above = row


__all__ = ["Counts", "read_counts", "tile_side", "write_counts"]
