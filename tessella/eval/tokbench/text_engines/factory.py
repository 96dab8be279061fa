"""Text engines by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from tessella.errors import ConfigError, MissingDependencyError
from tessella.eval.tokbench.text_engines.base import EXTRA, TextEngine

TextEngineName = Literal["auto", "rapidocr", "tesseract", "parseq"]


def text_engine(
    name: str = "auto",
    *,
    weights: str | Path | None = None,
    threads: int = 1,
    clip_to_batch_labels: int = 0,
) -> TextEngine:
    """Return an engine.

    Args:
        name: ``rapidocr``, ``tesseract``, ``parseq``, or ``auto``: rapidocr if it is installed,
            else tesseract.
        weights: ``parseq``: docTR's file; ``rapidocr``: an ONNX file of a PP-OCR recogniser.
        threads: words read at a time by rapidocr; results are the same for any number.
        clip_to_batch_labels: ``parseq``: see its class; 64 to repeat published figures.

    Raises:
        ConfigError: if there is no such engine, or it takes no such option.
        MissingDependencyError: if its packages or programs are not installed.
        MissingWeightsError: if its weights are not found.
        CheckpointError: if they are damaged.
    """
    if name not in get_args(TextEngineName):
        raise ConfigError(
            f"text engine {name!r} given; expected {', '.join(get_args(TextEngineName))}"
        )
    if clip_to_batch_labels and name != "parseq":
        raise ConfigError(f"clip_to_batch_labels given to text engine {name!r}; it is parseq's")
    if weights is not None and name not in ("rapidocr", "parseq"):
        raise ConfigError(
            f"weights {weights} given to text engine {name!r}, which takes none; expected them "
            "with rapidocr or parseq"
        )
    if name == "auto":
        return _first_installed(threads)
    if name == "rapidocr":
        from tessella.eval.tokbench.text_engines.rapidocr_engine import RapidOCREngine

        return RapidOCREngine(weights=weights, threads=threads)
    if name == "parseq":
        from tessella.eval.tokbench.text_engines.parseq_engine import PARSeqEngine

        return PARSeqEngine(weights=weights, clip_to_batch_labels=clip_to_batch_labels)
    from tessella.eval.tokbench.text_engines.tesseract_engine import TesseractEngine

    return TesseractEngine()


def _first_installed(threads: int) -> TextEngine:
    for name in ("rapidocr", "tesseract"):
        try:
            return text_engine(name, threads=threads)
        except MissingDependencyError:
            continue
    raise MissingDependencyError(
        "no text engine is installed; expected rapidocr with onnxruntime, or the program "
        f"tesseract: {EXTRA}"
    )


__all__ = ["TextEngineName", "text_engine"]
