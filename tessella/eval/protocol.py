"""How a figure was measured, stored with it: figures of unlike protocols are not compared.

The same reconstructions give reconstruction distances that differ by half when only the crop, the
resize to the network's size or the rounding to 8 bits differ. A protocol names each of them, and
the reference pictures and weights by their SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tessella.errors import ConfigError
from tessella.eval.pixels import Rounding, to_uint8
from tessella.eval.resizing import Crop, ResizeFilter, crop, resize
from tessella.eval.weights import file_digest


@dataclass(frozen=True, slots=True)
class Protocol:
    """What decides a figure besides the pictures of the tokenizer.

    Args:
        name: what it is called.
        crop: how references are cut to squares.
        size: side of those squares in pixels; 0 where pictures keep their size.
        resize_filter: how pictures come to the size of the network that measures them.
        rounding: from the decoder's floats to 8 bits.
        reference: digest of the reference set; empty where there is none.
        weights: SHA-256 of the network's file; empty where there is none.
        count: number of pictures measured; 0 before it is known.
    """

    name: str
    crop: Crop = "none"
    size: int = 0
    resize_filter: ResizeFilter = "tf1"
    rounding: Rounding = "round"
    reference: str = ""
    weights: str = ""
    count: int = 0

    def __post_init__(self) -> None:
        for field, allowed in (
            ("crop", get_args(Crop)),
            ("resize_filter", get_args(ResizeFilter)),
            ("rounding", get_args(Rounding)),
        ):
            if getattr(self, field) not in allowed:
                raise ConfigError(
                    f"{field}={getattr(self, field)!r} given; expected {', '.join(allowed)}"
                )
        if self.size < 0 or self.count < 0 or (self.crop != "none") != (self.size > 0):
            raise ConfigError(
                f"crop={self.crop!r}, size={self.size}, count={self.count} given; expected a size "
                "for a crop, 0 without one, and no negative count"
            )

    def prepare(self, picture: Image.Image) -> Tensor:
        """Crop an RGB picture; uint8 ``(3, H, W)``."""
        pixels = np.array(crop(picture, self.size, self.crop).convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def to_pixels(self, images: Tensor) -> Tensor:
        """Round a decoder's images in [-1, 1] to uint8."""
        return to_uint8(images, self.rounding)

    def resize(self, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize uint8 ``(B, 3, H, W)`` to floats in [0, 255] of ``size``."""
        return resize(pixels, size, self.resize_filter)

    def with_evidence(self, *, reference: str = "", weights: Path | None = None) -> Protocol:
        """Return the protocol with the reference set's digest and the hash of the weights."""
        digest = file_digest(weights) if weights is not None else ""
        return replace(self, reference=reference, weights=digest)

    def differences(self, other: Protocol) -> list[str]:
        """Return what differs, as ``field: ours against theirs``; the name does not count."""
        return [
            f"{field.name}: {ours!r} against {theirs!r}"
            for field in fields(self)
            if field.name != "name"
            and (ours := getattr(self, field.name)) != (theirs := getattr(other, field.name))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON value."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Protocol:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ConfigError: if a key is unknown or missing, or a value impossible.
        """
        try:
            return cls(**value)
        except TypeError as error:
            raise ConfigError(f"protocol {dict(value)} cannot be read: {error}") from error


PRESETS: Mapping[str, Protocol] = MappingProxyType(
    {
        # the evaluation of ADM (arXiv 2105.05233) and of generators that sample like it
        "adm": Protocol("adm", "adm", 256, "tf1", "trunc_128"),
        "torch-fidelity": Protocol("torch-fidelity", resize_filter="tf1"),
        "clean": Protocol("clean", resize_filter="clean"),  # arXiv 2104.11222
    }
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A figure with its protocol.

    Args:
        metric: what was measured.
        value: the figure.
        protocol: how.
    """

    metric: str
    value: float
    protocol: Protocol

    def minus(self, other: Measurement) -> float:
        """Return the difference to a figure of the same metric and protocol.

        Raises:
            ConfigError: if they are unlike; names every difference.
        """
        check_comparable([self, other])
        return self.value - other.value

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON value."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Measurement:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ConfigError: if a key is missing or a value impossible.
        """
        try:
            protocol = Protocol.from_dict(value["protocol"])
            return cls(str(value["metric"]), float(value["value"]), protocol)
        except KeyError as error:
            raise ConfigError(f"measurement {dict(value)} lacks {error}") from error


def check_comparable(measurements: Iterable[Measurement]) -> None:
    """Check that figures may stand in one column.

    Raises:
        ConfigError: if metric or protocol differ; names every difference.
    """
    first, *others = measurements
    for other in others:
        differences = first.protocol.differences(other.protocol)
        if first.metric != other.metric:
            differences.insert(0, f"metric: {first.metric!r} against {other.metric!r}")
        if differences:
            raise ConfigError(
                f"figures of unlike protocols given ({'; '.join(differences)}); expected one "
                "protocol: measure both in the same way"
            )


def reference_digest(paths: Iterable[str | Path]) -> str:
    """Return the SHA-256 over the files of a reference set, whatever their order and names."""
    digests = sorted(file_digest(path) for path in paths)
    return hashlib.sha256("".join(digests).encode("ascii")).hexdigest()


__all__ = ["PRESETS", "Measurement", "Protocol", "check_comparable", "reference_digest"]
