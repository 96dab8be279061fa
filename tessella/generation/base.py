"""The interface of every generator: a condition to :class:`~tessella.tokens.Tokens`.

::

    tokens, condition --forward--> losses                 (training, teacher-forced)
    condition         --generate--> Tokens                (sampling)

A generator writes tokens of a tokenizer's space; the tokenizer is given to both, since next-scale
models read sums of its codes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.saved import WEIGHTS_NAME, load_weights, read_config, write_model
from tessella.tokens import Tokens

Self = TypeVar("Self", bound="Generator")


class GeneratorOutput(NamedTuple):
    """What a training pass returns.

    Args:
        logits: predictions of every token ``(B, N, ...)``.
        losses: weighted scalar terms; their sum is the training loss.
        stats: detached numbers worth a curve.
    """

    logits: Tensor
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]


class Generator(nn.Module, PyTorchModelHubMixin, ABC):
    """A model that writes tokens for a condition.

    Args:
        config: the family's config dataclass.
    """

    family: ClassVar[str] = ""
    config_class: ClassVar[type]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(
        self,
        tokens: Tokens,
        condition: Any,
        *,
        tokenizer: Tokenizer,
        generator: torch.Generator | None = None,
    ) -> GeneratorOutput:
        """Predict every token of a batch from those before it."""

    @abstractmethod
    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Check that the generator writes tokens of a tokenizer.

        Raises:
            ShapeError: saying what differs.
        """

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    def _save_pretrained(self, save_directory: Path) -> None:
        write_model(save_directory, self.family, self.config, self.state_dict(), kind="generator")

    @classmethod
    def _from_pretrained(
        cls: type[Self], *, model_id: str, map_location: str = "cpu", **kwargs: Any
    ) -> Self:
        folder = Path(model_id)
        if not folder.is_dir():
            from tessella.hub import download

            folder = download(model_id, kwargs.get("revision"), kwargs.get("local_files_only"))
        config = read_config(folder, cls.family, cls.config_class, kind="generator")
        model = cls(config)
        load_weights(model, folder / WEIGHTS_NAME)
        return model.to(map_location).eval()


__all__ = ["Generator", "GeneratorOutput"]
