"""Fidelity of texts and faces: the formulas and geometry of TokBench (arXiv 2505.18142)."""

from tessella.eval.tokbench.buckets import EDGES, BucketResult, bucket_means
from tessella.eval.tokbench.crops import crop_word, fit_word, normalise_word
from tessella.eval.tokbench.faces import align_face, face_similarity, similarity_transform
from tessella.eval.tokbench.padding import Placement, pad, place, restore
from tessella.eval.tokbench.text import is_equal, levenshtein, text_similarity

__all__ = [
    "EDGES",
    "BucketResult",
    "Placement",
    "align_face",
    "bucket_means",
    "crop_word",
    "face_similarity",
    "fit_word",
    "is_equal",
    "levenshtein",
    "normalise_word",
    "pad",
    "place",
    "restore",
    "similarity_transform",
    "text_similarity",
]
