"""Evaluating codecs and tokenizers on pictures, words and faces; what ``tessella eval`` runs."""

from tessella.eval.evaluation.equipment import DEFAULT_METRICS, EvalOptions
from tessella.eval.evaluation.evaluate import evaluate
from tessella.eval.evaluation.sets import EvalSet, face_set, image_set, text_set, with_canvases

__all__ = [
    "DEFAULT_METRICS",
    "EvalOptions",
    "EvalSet",
    "evaluate",
    "face_set",
    "image_set",
    "text_set",
    "with_canvases",
]
