"""What a policy may know of a model beforehand, measured from its attention, and files of it.

A file holds one section a method and is strict JSON, so that
``kv_cache="head:0.5:calibration.json"`` and ``kv_cache="heat:0.1:calibration.json"`` can share
one::

    {"format": "tessella-kv-calibration", "version": 1, "head": {...}, "heat": {...}}
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

from torch import Tensor

from tessella.config import from_dict, to_dict
from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import CacheGeometry
from tessella.images.writing import atomic_file

_FORMAT, _VERSION = "tessella-kv-calibration", 1
Self = TypeVar("Self", bound="Calibration")


class Calibration:
    """Base of the dataclasses of numbers that a method has measured."""

    #: name of the section in a file, and of the policy that reads it
    method: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return to_dict(self)

    @classmethod
    def from_dict(cls: type[Self], data: dict[str, Any]) -> Self:
        """Build a calibration from :meth:`to_dict`'s values, strictly.

        Raises:
            ConfigError: if a value is missing, unknown or impossible.
        """
        return from_dict(cls, data, path=cls.method)

    def save(self, path: str | Path) -> None:
        """Write a file with this section alone."""
        save_calibrations(path, [self])

    @classmethod
    def load(cls: type[Self], path: str | Path) -> Self:
        """Read this method's section of a file.

        Raises:
            ConfigError: if the file is missing, damaged, or lacks the section.
        """
        sections = read_sections(path)
        if cls.method not in sections:
            found = ", ".join(sections) or "none"
            raise ConfigError(
                f"{path} holds no calibration for {cls.method!r} (found: {found}); make one with "
                f"`tessella calibrate-kv --method {cls.method}`"
            )
        try:
            return cls.from_dict(sections[cls.method])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def check_model(method: str, layers: int, heads: int, geometry: CacheGeometry) -> None:
    """Check that a calibration was made with a model of a run's shape.

    Raises:
        ConfigError: if it was another.
    """
    if (layers, heads) != (geometry.layers, geometry.heads):
        raise ConfigError(
            f"a {method!r} calibration of {layers} layers with {heads} heads given; this model has "
            f"{geometry.layers} layers with {geometry.heads}: calibrate this model"
        )


class Calibrator(ABC):
    """Measures attention of a model run after run."""

    @abstractmethod
    def add(self, layer: int, scale: int, probabilities: Tensor, geometry: CacheGeometry) -> None:
        """Take note of the attention of some queries of a scale.

        Layers and scales come in the order of generation. A scale of many queries comes in
        pieces, one call after the other, each query once; a query's row is always whole.

        Args:
            layer: from 0.
            scale: from 0, the last included.
            probabilities: ``(P, H, q, T)`` float32: of P conditional rows, one a picture, and q of
                the ``n_k`` queries, to all T tokens so far in the order of generation.
            geometry: of the run.
        """

    @abstractmethod
    def end_run(self) -> None:
        """Take note that a batch of pictures is complete."""

    @abstractmethod
    def finish(self) -> Calibration:
        """Return what was measured over all runs.

        Raises:
            ConfigError: if there was none.
        """


def save_calibrations(path: str | Path, calibrations: Sequence[Calibration]) -> None:
    """Write a file with one section a calibration."""
    content: dict[str, Any] = {"format": _FORMAT, "version": _VERSION}
    content |= {found.method: found.to_dict() for found in calibrations}
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    with atomic_file(path) as stream:
        stream.write(text.encode() + b"\n")


def read_sections(path: str | Path) -> dict[str, Any]:
    """Return the sections of a file by method, unchecked.

    Raises:
        ConfigError: if the file is missing or not a calibration.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_refuse)
    except OSError as error:
        raise ConfigError(f"calibration {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"calibration {path} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ConfigError(f"{path} is no calibration; expected a file of `tessella calibrate-kv`")
    if content.get("version") != _VERSION:
        raise ConfigError(
            f"{path} has version {content.get('version')!r}; this library reads {_VERSION}: make "
            "it again with `tessella calibrate-kv`"
        )
    return {key: value for key, value in content.items() if key not in ("format", "version")}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


__all__ = ["Calibration", "Calibrator", "check_model", "read_sections", "save_calibrations"]
