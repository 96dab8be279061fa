"""Face engines by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from tessella.errors import ConfigError, MissingDependencyError
from tessella.eval.tokbench.face_engines.base import EXTRA, FaceEngine

FaceEngineName = Literal["auto", "dlib", "hog", "arcface-onnx"]


def face_engine(name: str = "auto", *, weights: str | Path | None = None) -> FaceEngine:
    """Return an engine.

    Args:
        name: ``dlib``, ``hog``, ``arcface-onnx``, or ``auto``: dlib if it is installed, else hog.
        weights: ``arcface-onnx``: the ONNX file; ``dlib``: the folder of its files.

    Raises:
        ConfigError: if there is no such engine, or weights are given to one that takes none.
        MissingDependencyError: if its packages are not installed; names the extra.
        MissingWeightsError: if its weights are not found.
        CheckpointError: if they are damaged.
    """
    if name == "dlib":
        from tessella.eval.tokbench.face_engines.dlib_engine import DlibEngine

        return DlibEngine(weights=weights)
    if name == "arcface-onnx":
        from tessella.eval.tokbench.face_engines.arcface_engine import ArcFaceEngine

        return ArcFaceEngine(weights=weights)
    if name not in get_args(FaceEngineName):
        raise ConfigError(
            f"face engine {name!r} given; expected {', '.join(get_args(FaceEngineName))}"
        )
    if weights is not None:
        raise ConfigError(
            f"weights {weights} given to face engine {name!r}, which takes none; expected them "
            "with dlib or arcface-onnx"
        )
    if name == "auto":
        return _first_installed()
    from tessella.eval.tokbench.face_engines.hog_engine import HogEngine

    return HogEngine()


def _first_installed() -> FaceEngine:
    for name in ("dlib", "hog"):
        try:
            return face_engine(name)
        except MissingDependencyError:
            continue
    raise MissingDependencyError(
        f"no face engine is installed; expected dlib with its models, or scikit-image: {EXTRA}"
    )


__all__ = ["FaceEngineName", "face_engine"]
