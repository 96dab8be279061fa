"""Words and faces of a reconstruction, judged by engines."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tessella.eval.evaluation.equipment import Equipment, make_face_engine, make_text_engine
from tessella.eval.evaluation.sets import EvalPicture
from tessella.eval.tokbench.word_reading import read_words
from tessella.images import Pixels

if TYPE_CHECKING:
    from tessella.eval.tokbench.face_engines import FaceEngine
    from tessella.eval.tokbench.text_engines import TextEngine


class Judges:
    """Engines, each loaded when it is first needed.

    Args:
        equipment: says which there are.
    """

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment

    def can(self, kind: str) -> bool:
        """Return whether there is an engine for the pictures of a kind."""
        return kind in self._equipment.engines

    def read(self, pixels: Pixels, picture: EvalPicture) -> list[str]:
        """Read the words of a picture from a reconstruction."""
        return read_words(self._text, pixels, picture.words, crops=self._equipment.options.crops)

    def embed(self, original: Pixels, pixels: Pixels, picture: EvalPicture) -> list[Tensor | None]:
        """Embed the faces of a reconstruction; None for one that the original does not show.

        Args:
            original: where faces are located.
            pixels: what is embedded.
            picture: its faces.
        """
        found: list[Tensor | None] = []
        for face in picture.faces:
            located = self._faces.locate(original, face)
            embedding = None if located is None else self._faces.embed(pixels, located)
            found.append(None if embedding is None else torch.from_numpy(np.array(embedding)))
        return found

    def similar(
        self, original: Pixels, pixels: Pixels, picture: EvalPicture, ours: Mapping[str, Tensor]
    ) -> list[float | None]:
        """Compare the faces of a reconstruction with those of the original.

        Args:
            original: where faces are located.
            pixels: the reconstruction.
            picture: its faces.
            ours: the original's embeddings, by :func:`face_name`.
        """
        return [
            None
            if theirs is None
            else float(self._faces.similarity(ours[face_name(i)].numpy(), theirs.numpy()))
            for i, theirs in enumerate(self.embed(original, pixels, picture))
        ]

    @cached_property
    def _text(self) -> TextEngine:
        return make_text_engine(self._equipment.options)

    @cached_property
    def _faces(self) -> FaceEngine:
        return make_face_engine(self._equipment.options)


def face_name(index: int) -> str:
    """Return what the embedding of a picture's face is called among features."""
    return f"face{index}"


__all__ = ["Judges", "face_name"]
