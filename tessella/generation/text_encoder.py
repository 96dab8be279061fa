"""From prompts to text features, by the encoder of a T5 model.

::

    "a cat" --tokenizer--> ids --T5 encoder--> (T, C_text)

Infinity reads the last hidden states of Flan-T5-XL, 2048 channels, at most 512 tokens a prompt
(arXiv 2412.04431). The encoder is the ``transformers`` package's, which is loaded with the weights
when the first prompt comes.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tessella.errors import CheckpointError, MissingDependencyError, ShapeError

_PACKAGES = ("transformers", "sentencepiece")


class TextEncoder:
    """Turns prompts into what text-conditional generators read.

    Args:
        source: a folder of a T5 model and its tokenizer, or a hub id.
        longest: tokens of a prompt; what is longer is cut.
        device: of the encoder and the features.
        dtype: of the encoder and the features.

    Raises:
        MissingDependencyError: if a package is missing.
    """

    def __init__(
        self,
        source: str = "google/flan-t5-xl",
        *,
        longest: int = 512,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise MissingDependencyError(
                f"encoding texts needs the packages {' and '.join(missing)}: pip install "
                "'tessella[prompts]', or give features that were made elsewhere"
            )
        self.source = source
        self.longest = longest
        self.device = torch.device(device)
        self.dtype = dtype
        self._loaded: tuple[Any, Any] | None = None

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str]) -> list[Tensor]:
        """Encode prompts: one ``(T_i, C_text)`` tensor each, without padding.

        Raises:
            ShapeError: if there are none, or a single string is given.
            CheckpointError: if the encoder cannot be loaded.
        """
        if isinstance(prompts, str) or not prompts:
            raise ShapeError(f"prompts={prompts!r} given; expected a list of at least one text")
        tokenizer, encoder = self._load()
        tokens = tokenizer(
            list(prompts),
            max_length=self.longest,
            truncation=True,
            padding=True,
            return_tensors="pt",
        ).to(self.device)
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return [row[kept.bool()] for row, kept in zip(states, mask, strict=True)]

    def to(self, device: torch.device | str) -> TextEncoder:
        """Move the encoder, now or when it is loaded."""
        self.device = torch.device(device)
        if self._loaded is not None:
            self._loaded[1].to(self.device)
        return self

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            transformers = importlib.import_module("transformers")
            try:
                tokenizer = transformers.AutoTokenizer.from_pretrained(self.source)
                encoder = transformers.T5EncoderModel.from_pretrained(self.source)
            except (OSError, ValueError) as error:
                raise CheckpointError(
                    f"the text encoder {self.source} cannot be loaded; expected a folder of a T5 "
                    f"model and its tokenizer, or a hub id: {error}"
                ) from error
            self._loaded = tokenizer, encoder.to(self.device, self.dtype).eval()
        return self._loaded


__all__ = ["TextEncoder"]
