"""Pictures that a report shows beside their reconstructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """A reconstruction that stands out.

    Args:
        dataset: name of the set.
        picture: its file in the set.
        subject: label of what made it.
        why: at which end of the metric it is.
        metric: name of the metric.
        value: of the reconstruction.
        num_bytes: of the compressed file.
        original: an encoded picture.
        reconstruction: an encoded picture of the same size.
        media_type: of both, such as ``image/png``.
    """

    dataset: str
    picture: str
    subject: str
    why: Literal["worst", "best"]
    metric: str
    value: float
    num_bytes: int
    original: bytes
    reconstruction: bytes
    media_type: str


__all__ = ["ShownPicture"]
