"""Streaming scores of words and faces by size (TokBench, arXiv 2505.18142), for any engine.

Figures of unlike engines do not compare; the score of the untouched originals belongs beside each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tessella.errors import ShapeError
from tessella.eval.metrics.base import StreamingMetric, joined
from tessella.eval.tokbench.buckets import EDGES, BucketResult, bucket_means
from tessella.eval.tokbench.faces import face_similarity
from tessella.eval.tokbench.text import is_equal, text_similarity


class WordResult(NamedTuple):
    """Accuracy (T-ACC) and similarity (T-NED) in [0, 1].

    Args:
        accuracy: by size.
        similarity: by size.
        overall_accuracy: mean over all words, of any size.
        overall_similarity: mean over all words, of any size.
    """

    accuracy: BucketResult
    similarity: BucketResult
    overall_accuracy: float
    overall_similarity: float


class FaceResult(NamedTuple):
    """Similarity (F-Sim) in [-1, 1].

    Args:
        similarity: by size.
        overall: mean over all faces, of any size.
    """

    similarity: BucketResult
    overall: float


class ScoresBySize(StreamingMetric):
    """Rows of a size and its scores.

    Args:
        setting: which size buckets, such as ``image/256``.
        options: of torchmetrics' ``Metric``.

    Raises:
        ShapeError: if there is no such setting.
    """

    higher_is_better = True
    rows: list[Tensor]

    def __init__(self, setting: str = "image/256", **options: Any) -> None:
        super().__init__(**options)
        if setting not in EDGES["text"]:
            raise ShapeError(f"setting {setting!r} given; expected {', '.join(EDGES['text'])}")
        self.setting = setting
        self.add_rows("rows")


class WordScores(ScoresBySize):
    """T-ACC and T-NED of words; see :class:`ScoresBySize`."""

    def update(self, labels: Sequence[str], read: Sequence[str], ratios: Sequence[float]) -> None:
        """Add words.

        Args:
            labels: what is written.
            read: what was read.
            ratios: character size of each over the picture's longer side.

        Raises:
            ShapeError: if the numbers differ.
        """
        if not len(labels) == len(read) == len(ratios):
            raise ShapeError(
                f"{len(labels)} labels, {len(read)} readings and {len(ratios)} ratios given; "
                "expected one each a word"
            )
        rows = [
            (ratio, float(is_equal(label, word)), text_similarity(label, word))
            for label, word, ratio in zip(labels, read, ratios, strict=True)
        ]
        self.rows.append(torch.tensor(rows, dtype=torch.float64, device=self.device).view(-1, 3))

    def compute(self) -> WordResult:
        """Return scores by size and over all words.

        Raises:
            ShapeError: if no words were given.
        """
        ratios, equal, similar = joined(self.rows, "word").cpu().numpy().T
        edges = EDGES["text"][self.setting]
        return WordResult(
            bucket_means(ratios, equal, edges),
            bucket_means(ratios, similar, edges),
            float(equal.mean()),
            float(similar.mean()),
        )


class FaceScores(ScoresBySize):
    """F-Sim of faces; see :class:`ScoresBySize`."""

    def update(self, originals: Tensor, reconstructions: Tensor, ratios: Sequence[float]) -> None:
        """Add faces.

        Args:
            originals: embeddings ``(N, D)`` of the originals.
            reconstructions: those of the reconstructions.
            ratios: size of each face over the picture's longer side.

        Raises:
            ShapeError: if the numbers differ.
        """
        if originals.shape != reconstructions.shape or len(originals) != len(ratios):
            raise ShapeError(
                f"embeddings {tuple(originals.shape)} and {tuple(reconstructions.shape)} with "
                f"{len(ratios)} ratios given; expected one each a face"
            )
        found = face_similarity(originals.cpu().numpy(), reconstructions.cpu().numpy())
        rows = torch.stack(
            [torch.tensor(ratios, dtype=torch.float64), torch.from_numpy(found)], dim=1
        )
        self.rows.append(rows.to(self.device))

    def compute(self) -> FaceResult:
        """Return similarity by size and over all faces.

        Raises:
            ShapeError: if no faces were given.
        """
        ratios, similar = joined(self.rows, "face").cpu().numpy().T
        return FaceResult(
            bucket_means(ratios, similar, EDGES["face"][self.setting]), float(similar.mean())
        )


__all__ = ["FaceResult", "FaceScores", "WordResult", "WordScores"]
