"""The recogniser of PP-OCR, from the package rapidocr that carries its weights.

::

    crop --height 48, bicubic--> BGR in [-1, 1] --grey to the right--> network --CTC--> text

Detector, angle classifier and score threshold of the package are left out. A crop is padded to a
width that follows from its own alone, and read alone: no reading depends on a neighbour, nor on the
number of threads. (Batches gain no time on a CPU: the network costs the same for each column.)
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tessella.errors import (
    CheckpointError,
    ConfigError,
    MissingDependencyError,
    MissingWeightsError,
)
from tessella.eval.tokbench.text_engines.base import EXTRA, Reading, TextEngine
from tessella.images import Pixels

HEIGHT = 48
_STEP = 48  # widths are multiples of it, and at least so much is left free at the right
_WIDEST = 64 * HEIGHT
_PACKAGES = ("rapidocr", "onnxruntime")
# what versions of the package carry, newest first; others may lie beside them, fetched by its user
_CARRIED = ("PP-OCRv6_rec_small.onnx", "ch_PP-OCRv5_rec_mobile_infer.onnx")
_BLANK = 0


class RapidOCREngine(TextEngine):
    """See the module. Published tables are made with another recogniser and do not compare.

    Args:
        weights: ONNX file of a PP-OCR recogniser that carries its characters; by default the one
            that the package carries.
        threads: crops that are read at a time.

    Raises:
        ConfigError: if there are no threads.
        MissingDependencyError: if rapidocr or onnxruntime is not installed.
        MissingWeightsError: if the file is missing.
        CheckpointError: if it is no such recogniser.
    """

    name: ClassVar[str] = "rapidocr"

    def __init__(self, *, weights: str | Path | None = None, threads: int = 1) -> None:
        if threads < 1:
            raise ConfigError(f"threads={threads} given; expected at least 1")
        missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise MissingDependencyError(
                f"reading words with rapidocr needs the packages {' and '.join(missing)}: {EXTRA}"
            )
        file = _carried_file() if weights is None else Path(weights).expanduser()
        if not file.is_file():
            raise MissingWeightsError(f"{file} does not exist; expected an ONNX file")
        self._session = _session(file)
        self._input = self._session.get_inputs()[0].name
        self._characters = _characters(self._session, file)
        self._threads = threads
        packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
        super().__init__(packages, [file], options=f"padded to {_STEP}")

    def _read(self, crops: Sequence[Pixels], labels: Sequence[str] | None) -> list[Reading]:
        if self._threads == 1:
            return [self._read_one(crop) for crop in crops]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(self._read_one, crops))

    def _read_one(self, crop: Pixels) -> Reading:
        probabilities = self._session.run(None, {self._input: network_input(crop)})[0][0]
        return decode(probabilities, self._characters)


def network_input(crop: Pixels) -> NDArray[np.float32]:
    """Return ``(1, 3, 48, W)`` of an RGB crop: BGR in [-1, 1], 0 at the right."""
    height, width = crop.shape[:2]
    scaled = min(max(math.ceil(HEIGHT * width / height), 1), _WIDEST)
    image = Image.fromarray(crop).resize((scaled, HEIGHT), Image.Resampling.BICUBIC)
    padded = math.ceil(scaled / _STEP) * _STEP + _STEP
    result = np.zeros((1, 3, HEIGHT, padded), dtype=np.float32)
    bgr = np.asarray(image)[:, :, ::-1].transpose(2, 0, 1)
    result[0, :, :, :scaled] = bgr.astype(np.float32) / 127.5 - 1
    return result


def decode(probabilities: NDArray[np.float32], characters: Sequence[str]) -> Reading:
    """Return the text of CTC's best path.

    Args:
        probabilities: ``(T, len(characters))``; the first character is the blank.
        characters: what each column stands for.
    """
    best = probabilities.argmax(axis=1)
    is_new = np.concatenate([[True], best[1:] != best[:-1]]) & (best != _BLANK)
    text = "".join(characters[i] for i in best[is_new])
    return Reading(text, float(probabilities.max(axis=1)[is_new].mean()) if text else 0.0)


def _carried_file() -> Path:
    spec = importlib.util.find_spec("rapidocr")
    folder = Path(spec.origin if spec and spec.origin else "rapidocr").parent / "models"
    for name in _CARRIED:
        if (folder / name).is_file():
            return folder / name
    others = sorted(folder.glob("*rec*.onnx"))
    if len(others) != 1:
        names = ", ".join(file.name for file in others) or "none"
        raise MissingWeightsError(
            f"{folder} holds {names}; expected one recogniser: give the ONNX file as weights"
        )
    return others[0]


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # threads read other crops
    options.log_severity_level = 3  # errors alone
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many kinds
        raise CheckpointError(f"{file} cannot be read by onnxruntime: {error}") from error


def _characters(session: Any, file: Path) -> list[str]:
    stored = session.get_modelmeta().custom_metadata_map.get("character", "")
    characters = ["", *stored.split("\n"), " "]
    shape, count = session.get_inputs()[0].shape, session.get_outputs()[0].shape[-1]
    if not stored or list(shape[1:3]) != [3, HEIGHT] or count not in (len(characters), None):
        raise CheckpointError(
            f"{file} takes {shape} and tells {count} classes, with {len(characters)} characters "
            f"stored in it; expected a PP-OCR recogniser of height {HEIGHT} with its characters"
        )
    return characters


__all__ = ["RapidOCREngine", "decode", "network_input"]
