"""dlib's five landmarks of a face, and the files of the package face_recognition_models.

dlib comes as ``dlib`` (built on the user's machine) or ``dlib-bin`` (built before); both are
imported as ``dlib``. The package of models cannot be imported without pkg_resources, so that its
folder is looked up and the files are given to dlib directly.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from tessella.errors import CheckpointError, MissingDependencyError, MissingWeightsError
from tessella.eval.tokbench.face_annotations import Box, Points
from tessella.eval.tokbench.face_engines.base import EXTRA
from tessella.eval.tokbench.faces import Pixels

LANDMARKS_FILE = "shape_predictor_5_face_landmarks.dat"
_MODELS = "face_recognition_models"


class DlibLandmarks:
    """dlib's model of five landmarks: corners of both eyes and the base of the nose.

    Args:
        weights: folder of dlib's files; that of face_recognition_models if None.

    Raises:
        MissingDependencyError: if dlib or the package of models is not installed.
        MissingWeightsError: if the folder does not hold the file.
        CheckpointError: if the file is damaged.
    """

    def __init__(self, *, weights: str | Path | None = None) -> None:
        self.dlib = import_dlib()
        self.file = model_file(LANDMARKS_FILE, weights)
        self._predictor = read_model(self.dlib.shape_predictor, self.file)

    def find(self, picture: Pixels, box: Box) -> Points:
        """Return five ``(x, y)``, whole numbers, of the face in a box."""
        rectangle = self.dlib.rectangle(*(round(value) for value in box))
        return tuple((float(p.x), float(p.y)) for p in self._predictor(picture, rectangle).parts())


def import_dlib() -> Any:
    """Return the module ``dlib``.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    try:
        import dlib
    except ImportError as error:
        raise MissingDependencyError(
            f"landmarks of faces need the package dlib or dlib-bin: {EXTRA}"
        ) from error
    return dlib


def model_file(name: str, folder: str | Path | None = None) -> Path:
    """Return the path of one of dlib's files.

    Args:
        name: of the file.
        folder: that holds it; that of face_recognition_models if None.

    Raises:
        MissingDependencyError: if the package is not installed.
        MissingWeightsError: if the folder does not hold the file.
    """
    if folder is None:
        spec = importlib.util.find_spec(_MODELS)
        if spec is None or not spec.submodule_search_locations:
            raise MissingDependencyError(
                f"dlib's weights come with the package {_MODELS}: {EXTRA}, or give a folder that "
                f"holds {name}"
            )
        folder = Path(spec.submodule_search_locations[0]) / "models"
    file = Path(folder).expanduser() / name
    if not file.is_file():
        raise MissingWeightsError(
            f"{file} does not exist; expected a folder of dlib's files, such as the package "
            f"{_MODELS} holds: {EXTRA}"
        )
    return file


def read_model(kind: Any, file: Path) -> Any:
    """Return a model of dlib.

    Args:
        kind: its class.
        file: of its weights.

    Raises:
        CheckpointError: if the file is damaged or of another model.
    """
    try:
        return kind(str(file))
    except RuntimeError as error:
        raise CheckpointError(f"{file} cannot be read by dlib: {error}") from error


__all__ = ["LANDMARKS_FILE", "DlibLandmarks", "import_dlib", "model_file", "read_model"]
