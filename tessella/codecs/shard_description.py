"""What is in a shard, told without its model and without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tessella.codecs.description import PROFILES
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.shard import ShardReader
from tessella.codecs.shard_format import MAGIC
from tessella.hub import find


@dataclass(frozen=True, slots=True)
class ShardDescription:
    """A shard.

    Args:
        size: bytes of the file.
        pictures: number of pictures.
        pixels: pixels of all pictures.
        coded_size: bytes of their coded tokens; the rest names, checks and finds them.
        space_id: stored part of the token space's identity, hexadecimal digits.
        model: name of its model here; empty if it is not known.
        profile: how its tokens are coded.
        prior_id: stored part of the prior's identity, hexadecimal digits.
    """

    size: int
    pictures: int
    pixels: int
    coded_size: int
    space_id: str
    model: str
    profile: str
    prior_id: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def is_shard(path: Path) -> bool:
    """Return whether a file begins like a shard."""
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def describe_shard(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> ShardDescription:
    """Describe a shard, reading no more than its headers.

    Raises:
        TokenFileError: saying what is wrong with it, and where.
    """
    pixels = coded = 0
    with ShardReader.open(path, limits=limits) as reader:
        header, count = reader.header, len(reader)
        for record in reader:
            pixels += record.width * record.height
            coded += sum(record.lengths)
    known = find(header.space_id, may_load=False) if any(header.space_id) else None
    return ShardDescription(
        size=path.stat().st_size,
        pictures=count,
        pixels=pixels,
        coded_size=coded,
        space_id=header.space_id.hex(),
        model=known.name if known else "",
        profile=PROFILES[header.profile],
        prior_id=header.prior_id.hex(),
    )


__all__ = ["ShardDescription", "describe_shard", "is_shard"]
