"""ArcFace from the user's ONNX file (arXiv 1801.07698): TokBench's own measure with glintr100.

The face is aligned to 112 pixels by five landmarks and described by 512 numbers; the score is their
cosine. Faces without annotated landmarks are aligned by dlib's. The pack antelopev2 that holds
``glintr100.onnx`` is for non-commercial research alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tessella.errors import CheckpointError, MissingDependencyError, MissingWeightsError
from tessella.eval.tokbench.face_annotations import Face
from tessella.eval.tokbench.face_engines.alignment import aligned_square, face_transform
from tessella.eval.tokbench.face_engines.base import (
    Embedding,
    FaceEngine,
    Located,
    picture_size,
)
from tessella.eval.tokbench.face_engines.dlib_landmarks import DlibLandmarks
from tessella.eval.tokbench.face_engines.onnx_nodes import first_node_kinds
from tessella.eval.tokbench.faces import SIDE, Pixels, recogniser_input


class ArcFaceEngine(FaceEngine):
    """See the module; 1 is the same face, about 0 a stranger, and it may be negative.

    Args:
        weights: ONNX file of a recogniser of aligned faces, 112 x 112.

    Raises:
        MissingDependencyError: if onnxruntime is not installed.
        MissingWeightsError: if no file is given, or it does not exist.
        CheckpointError: if it is no such recogniser.
    """

    name: ClassVar[str] = "arcface-onnx"

    def __init__(self, *, weights: str | Path | None = None) -> None:
        file = _given(weights)
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError(
                "ArcFace needs the package onnxruntime: pip install 'tessella[text]'"
            ) from error
        # files exported by mxnet subtract and scale by themselves
        self._is_normalised_inside = {"Sub", "Mul"} <= set(first_node_kinds(file))
        self._session = _session(onnxruntime, file)
        self._input = self._session.get_inputs()[0].name
        self._landmarks: DlibLandmarks | None = None
        self._check(file)
        super().__init__({"onnxruntime": onnxruntime.__version__}, [file])

    def _locate(self, picture: Pixels, face: Face) -> Located | None:
        size = picture_size(picture)
        if face.landmarks is not None:
            located = Located(face.box, face.landmarks, "annotation", size)
        else:
            located = Located(face.box, self._dlib().find(picture, face.box), "dlib", size)
        return None if face_transform(located) is None else located

    def _embed(self, picture: Pixels, located: Located) -> Embedding:
        return self._run(aligned_square(picture, located))

    def _dlib(self) -> DlibLandmarks:
        if self._landmarks is None:
            try:
                self._landmarks = DlibLandmarks()
            except MissingDependencyError as error:
                raise MissingDependencyError(
                    f"ArcFace aligns by landmarks, and this face has none annotated; {error}"
                ) from error
        return self._landmarks

    def _run(self, aligned: Pixels) -> Embedding:
        values: NDArray[np.float32] = recogniser_input(aligned)
        if self._is_normalised_inside:
            values = np.ascontiguousarray(aligned.transpose(2, 0, 1)[None], dtype=np.float32)
        output = self._session.run(None, {self._input: values})[0]
        return np.asarray(output, dtype=np.float64).reshape(-1)

    def _check(self, file: Path) -> None:
        """Describe a grey square: the shapes fit, or one error says so."""
        try:
            vector = self._run(np.full((SIDE, SIDE, 3), 127, dtype=np.uint8))
        except Exception as error:  # onnxruntime raises many kinds
            raise CheckpointError(
                f"{file} does not take one RGB picture (1, 3, {SIDE}, {SIDE}): {error}"
            ) from error
        if not np.isfinite(vector).all() or len(vector) < 2:
            raise CheckpointError(
                f"{file} describes a face by {len(vector)} numbers, some perhaps not finite; "
                "expected a recogniser such as glintr100.onnx"
            )


def _given(weights: str | Path | None) -> Path:
    source = "glintr100.onnx of the pack antelopev2 (https://github.com/deepinsight/insightface)"
    if weights is None:
        raise MissingWeightsError(f"ArcFace needs an ONNX file: give its path, such as {source}")
    file = Path(weights).expanduser()
    if not file.is_file():
        raise MissingWeightsError(f"{file} does not exist; expected an ONNX file such as {source}")
    return file


def _session(onnxruntime: Any, file: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many kinds
        raise CheckpointError(f"{file} cannot be read by onnxruntime: {error}") from error


__all__ = ["ArcFaceEngine"]
