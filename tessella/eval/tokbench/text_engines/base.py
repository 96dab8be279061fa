"""What reads words: crops in, texts out (TokBench, arXiv 2505.18142).

No detector runs: the crops come from annotated boxes. Scores of unlike engines do not compare, so
that reports name the engine, its versions and its weights, and the originals' own score beside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from tessella.errors import ShapeError
from tessella.eval.weights import file_digest
from tessella.images import Pixels

EXTRA = "pip install 'tessella[text]'"


class Reading(NamedTuple):
    """What was read of a crop.

    Args:
        text: empty if nothing was read.
        confidence: mean over the characters, in [0, 1]; 0 if nothing was read.
    """

    text: str
    confidence: float


class TextEngine(ABC):
    """Reads crops of one word or line each.

    Args:
        packages: names and versions of the packages that the readings depend on.
        files: weights that they depend on.
        options: other things that they depend on, in words.

    Attributes:
        name: by which the engine is chosen.
        identity: name, versions, SHA-256 of the weights: equal ones give figures that compare.
    """

    name: ClassVar[str]

    def __init__(
        self, packages: Mapping[str, str], files: Sequence[Path] = (), *, options: str = ""
    ) -> None:
        parts = [f"{package} {version}" for package, version in packages.items()]
        parts += [f"{file.name} sha256:{file_digest(file)}" for file in files]
        parts += [options] if options else []
        self.identity = f"{self.name} ({', '.join(parts)})"

    def read(
        self, crops: Sequence[Pixels], *, labels: Sequence[str] | None = None
    ) -> list[Reading]:
        """Read crops; what is read of one does not depend on the others.

        Args:
            crops: uint8 RGB ``(H, W, 3)``, of any size, at least one pixel.
            labels: what is written in each. Only an engine that was told to repeat a published
                quirk looks at them, and then at their lengths.

        Raises:
            ShapeError: if a crop is of another kind, or the numbers differ.
        """
        for crop in crops:
            is_rgb = crop.dtype == np.uint8 and crop.ndim == 3 and crop.shape[2] == 3
            if not is_rgb or not crop.size:
                raise ShapeError(
                    f"a crop of {crop.dtype} {crop.shape} given; expected uint8 (H, W, 3)"
                )
        if labels is not None and len(labels) != len(crops):
            raise ShapeError(
                f"{len(labels)} labels given for {len(crops)} crops; expected one each"
            )
        return self._read(crops, labels) if len(crops) else []

    @abstractmethod
    def _read(self, crops: Sequence[Pixels], labels: Sequence[str] | None) -> list[Reading]:
        """Read at least one valid crop."""


__all__ = ["EXTRA", "Reading", "TextEngine"]
