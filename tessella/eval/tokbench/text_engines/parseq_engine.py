"""PARSeq (arXiv 2207.06966) with docTR's weights: the recogniser of TokBench's tables.

Words are fitted into 32 x 128 as TokBench does (arXiv 2505.18142). With the user's file
``parseq-56125471.pt`` figures compare to the published tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from tessella.errors import ConfigError
from tessella.eval.tokbench.crops import fit_word, normalise_word
from tessella.eval.tokbench.parseq import PARSeq
from tessella.eval.tokbench.text_engines.base import Reading, TextEngine
from tessella.eval.weights import find_weights, load_weights
from tessella.images import Pixels

BATCH = 64


class PARSeqEngine(TextEngine):
    """See the module.

    Args:
        weights: docTR's file, or a folder that holds it; looked for in torch's cache by default.
        clip_to_batch_labels: 0 decodes until each word ends. The published figures were made with
            64: words are read in batches of 64 in the order of the files, and none may be longer
            than the longest label of its batch and one character.
        device: of the network.

    Raises:
        ConfigError: if the batch is negative.
        MissingWeightsError: if the file is nowhere; says where to get it and where to put it.
        CheckpointError: if it is damaged or of another network.
    """

    name: ClassVar[str] = "parseq"

    def __init__(
        self,
        *,
        weights: str | Path | None = None,
        clip_to_batch_labels: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if clip_to_batch_labels < 0:
            raise ConfigError(
                f"clip_to_batch_labels={clip_to_batch_labels} given; expected 0 or a batch size"
            )
        file = find_weights("parseq", weights)
        self._network = PARSeq.from_state(load_weights(file)).to(device).eval()
        self._clipped = clip_to_batch_labels
        options = f"lengths clipped in batches of {self._clipped}" if self._clipped else ""
        super().__init__({"torch": torch.__version__}, [file], options=options)

    def _read(self, crops: Sequence[Pixels], labels: Sequence[str] | None) -> list[Reading]:
        if self._clipped and labels is None:
            raise ConfigError(
                "clip_to_batch_labels is set, which needs the labels; give them to read()"
            )
        readings: list[Reading] = []
        size = self._clipped or BATCH
        for start in range(0, len(crops), size):
            longest = None
            if self._clipped and labels is not None:
                longest = max(map(len, labels[start : start + size]))
            words = torch.stack([normalise_word(fit_word(c)) for c in crops[start : start + size]])
            with torch.inference_mode():
                logits = self._network(words.to(self._network.device), max_length=longest)
            readings += [Reading(*found) for found in self._network.texts(logits)]
        return readings


__all__ = ["PARSeqEngine"]
