"""The interface of every tokenizer: pictures to :class:`~tessella.tokens.Tokens` and back.

::

    images (B, 3, H, W) in [-1, 1] --encode--> Tokens --decode--> images (B, 3, H, W) in [-1, 1]
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator
from typing import NamedTuple, overload

import torch
from torch import Tensor

from tessella.config import to_dict
from tessella.errors import ShapeError
from tessella.identity import object_digest
from tessella.images import Picture, load_image, pad_to_multiple
from tessella.tokenizers.saved_model import SavedModel
from tessella.tokens import TokenLayout, Tokens


class TokenizerOutput(NamedTuple):
    """What a training pass returns.

    Args:
        images: reconstruction ``(B, 3, H, W)``, not clamped.
        tokens: the tokens that were decoded.
        losses: weighted scalar terms of the bottleneck; their sum joins the training loss.
        stats: detached numbers worth a curve.
    """

    images: Tensor
    tokens: Tokens
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]


class Tokenizer(SavedModel):
    """A model that turns pictures into tokens and tokens into pictures.

    Subclasses implement :meth:`layout`, :meth:`_encode`, :meth:`_decode` and :meth:`forward`, and
    are registered with :func:`tessella.tokenizers.registry.register`.

    Args:
        config: the family's config dataclass.
    """

    kind = "tokenizer"

    # ---- what a family defines -------------------------------------------------------------

    @property
    @abstractmethod
    def stride(self) -> int:
        """Pictures are padded to a multiple of this many pixels."""

    @property
    def halo(self) -> int | None:
        """Pixels beyond a tile's edge that can change its tokens or pixels.

        A multiple of the stride; None if an operation is global, so that tiles are not exact.
        """
        return None

    @property
    def tiles_itself(self) -> bool:
        """Whether large pictures are resized or cut inside, so that they are never tiled."""
        return False

    @property
    def decodes_ragged(self) -> bool:
        """Whether positions may keep fewer groups than others (see ``LevelLayout.is_ragged``)."""
        return False

    @abstractmethod
    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout of the tokens of a picture of that size in pixels."""

    @abstractmethod
    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the level tensors of padded images ``(B, 3, H, W)``."""

    @abstractmethod
    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        """Return padded images ``(B, 3, H, W)``, not clamped."""

    @abstractmethod
    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct a batch for training; ``images`` are a multiple of the stride."""

    @property
    def latent_exponent(self) -> int:
        """Token files store the floats of continuous levels as ``round(x 2^e)``: e."""
        return 8

    def initialize(self, images: Tensor) -> None:
        """Set weights that depend on data, before the first training step; nothing by default.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1], a few hundred typical crops.
        """

    def space_tensors(self) -> dict[str, Tensor]:
        """Return the tensors that give tokens their meaning; all weights by default.

        Families whose decoder may be fine-tuned without changing what tokens mean return the
        quantizer's tensors only.
        """
        return dict(self.state_dict())

    def code_frequencies(self) -> tuple[Tensor, ...]:
        """Return how often training met each code, ``(G, K)`` a level that sum to 1 a group.

        They make an entropy model without any picture. Empty for families that do not count.
        """
        return ()

    @property
    def space_id(self) -> str:
        """Identity of the token space: SHA-256 over the config and :meth:`space_tensors`."""
        return object_digest(
            {"tokenizer": self.family, "config": to_dict(self.config)}, self.space_tensors()
        ).hex()

    # ---- what users call -------------------------------------------------------------------

    @overload
    def encode(self, images: Tensor | Picture, *, deterministic: bool = False) -> Tokens: ...

    @overload
    def encode(
        self, images: list[Tensor | Picture], *, deterministic: bool = False
    ) -> list[Tokens]: ...

    def encode(
        self,
        images: Tensor | Picture | list[Tensor | Picture],
        *,
        deterministic: bool = False,
    ) -> Tokens | list[Tokens]:
        """Turn pictures into tokens, in evaluation mode and without gradients.

        Args:
            images: float ``(B, 3, H, W)`` in [-1, 1], a PIL image, or the path of a picture; or a
                list of such, of any sizes, which gives a list of tokens.
            deterministic: use one memory layout, one picture at a time and deterministic kernels,
                so that the same picture gives the same indices in any batch.

        Raises:
            ShapeError: if a tensor is not ``(B, 3, H, W)`` floats.
            PictureError: if a file cannot be read.
        """
        if isinstance(images, list):
            return [self.encode(one, deterministic=deterministic) for one in images]
        if not isinstance(images, Tensor):
            images = load_image(images)
        _check_images(images)
        height, width = images.shape[-2:]
        layout = self.layout(height, width)
        with self._inference():
            padded = pad_to_multiple(images.to(self.device, self.dtype), self.stride)
            if deterministic:
                padded = padded.contiguous()
                parts = [self._encode(padded[i : i + 1]) for i in range(len(padded))]
                return Tokens((torch.cat(level) for level in zip(*parts, strict=True)), layout)
            return Tokens(
                self._encode(padded.contiguous(memory_format=torch.channels_last)), layout
            )

    def decode(self, tokens: Tokens, *, generator: torch.Generator | None = None) -> Tensor:
        """Turn tokens into pictures ``(B, 3, H, W)`` in [-1, 1], clamped and cropped.

        Args:
            tokens: whole or truncated tokens of this tokenizer.
            generator: noise of generative decoders; unused by the others.

        Raises:
            ShapeError: if the tokens are of another token space or cannot be decoded.
        """
        self.check_tokens(tokens)
        height, width = tokens.layout.image_size
        with self._inference():
            images = self._decode(tokens.to(self.device), generator)
        return images[..., :height, :width].float().clamp(-1, 1)

    def check_tokens(self, tokens: Tokens) -> None:
        """Check that tokens can be decoded by this tokenizer.

        Raises:
            ShapeError: saying what differs.
        """
        full = self.layout(*tokens.layout.image_size)
        given = tokens.layout
        if given.tokenizer_id and full.tokenizer_id and given.tokenizer_id != full.tokenizer_id:
            raise ShapeError(
                f"tokens of token space {given.tokenizer_id} given; this tokenizer decodes "
                f"{full.tokenizer_id}: load the tokenizer that made them"
            )
        if len(given.levels) > len(full.levels):
            raise ShapeError(
                f"{len(given.levels)} levels given; this tokenizer has {len(full.levels)}"
            )
        for i, (level, whole) in enumerate(zip(given.levels, full.levels, strict=False)):
            if level.is_ragged and not self.decodes_ragged:
                raise ShapeError(
                    f"level {i} keeps fewer groups at some positions than at others; "
                    f"{self.family} decodes the same number everywhere: truncate the tokens"
                )
            expected = whole
            if level.groups < whole.groups and whole.ordered == "groups":
                expected = whole.keep_groups(level.groups)
            if level.grid != whole.grid and whole.ordered == "length":
                expected = full.truncate(length=level.grid[0]).levels[i]
            if level.grid != expected.grid or level.vocab_sizes != expected.vocab_sizes:
                raise ShapeError(f"level {i} is {level}; expected {expected} for this tokenizer")

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.train(was_training)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ShapeError(
            f"images of shape {tuple(images.shape)} and dtype {images.dtype} given; "
            "expected floats (B, 3, H, W) in [-1, 1]"
        )
    if images.shape[0] < 1 or min(images.shape[-2:]) < 1:
        raise ShapeError(f"images of shape {tuple(images.shape)} given; expected no empty axis")


__all__ = ["Tokenizer", "TokenizerOutput"]
