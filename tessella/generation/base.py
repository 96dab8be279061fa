"""The interface of every generator: a condition to :class:`~tessella.tokens.Tokens`.

::

    tokens, condition --forward--> losses                 (training, teacher-forced)
    condition         --generate--> Tokens                (sampling)

A generator writes tokens of a tokenizer's space; the tokenizer is given to both, since next-scale
models read sums of its codes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.saved_model import SavedModel
from tessella.tokens import Tokens


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


class Generator(SavedModel):
    """A model that writes tokens for a condition.

    Args:
        config: the family's config dataclass.
    """

    kind = "generator"

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


__all__ = ["Generator", "GeneratorOutput"]
