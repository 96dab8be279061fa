"""Pictures inside tar shards (webdataset's convention), read by offset without unpacking.

A shard is an uncompressed tar with members such as ``000123.jpg``; other members (labels, JSON)
are left alone. The headers are walked once; a picture is then one seek and one read, from any
process.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import NamedTuple

from tessella.errors import PictureError
from tessella.images import PICTURE_SUFFIXES


class Member(NamedTuple):
    """A picture of a shard: its name and where its bytes lie."""

    name: str
    offset: int
    size: int


def is_picture(name: str) -> bool:
    """Whether a file name is that of a picture; hidden files are not."""
    path = Path(name)
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def picture_members(path: Path) -> list[Member]:
    """List the pictures of a tar shard, in the order of the shard.

    Raises:
        PictureError: if it is not an uncompressed tar, or cut short.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            members = [
                Member(member.name, member.offset_data, member.size)
                for member in archive
                if member.isreg() and not member.sparse and is_picture(member.name)
            ]
    except (tarfile.TarError, OSError) as error:
        raise PictureError(
            f"{path} cannot be read as a tar shard ({error}); expected a whole, uncompressed tar"
        ) from error
    end = max((member.offset + member.size for member in members), default=0)
    if end > path.stat().st_size:
        raise PictureError(
            f"{path} ends at byte {path.stat().st_size}, within a picture that reaches {end}: "
            "the shard is cut short, copy it again"
        )
    return members


__all__ = ["Member", "is_picture", "picture_members"]
