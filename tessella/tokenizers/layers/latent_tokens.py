"""Vision transformers between a picture's patches and a short sequence of latent tokens (TiTok).

::

    encoder: [class | patches | latents] --blocks--> the latents' places --linear--> (N, D)
    decoder: [class | mask tokens | latents | text] --blocks--> the patches' places --head--> map

All tokens attend to all. Fewer latents in the decoder make its sequence shorter: nothing stands in
their place. TiTok is arXiv 2406.07550; text after the latents is TA-TiTok's, arXiv 2501.07730,
whose decoder always reads text: here a learned one, zeros at first, stands in where none is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from tessella.errors import ConfigError, ShapeError

_STD = 0.02  # of initial weights
_PUBLISHED_WIDTH = 512  # of the narrowest published model
_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class TransformerSize:
    """Size of a transformer.

    Args:
        width: channels ``W``.
        depth: number of blocks.
        heads: attention heads; published sizes have 64 channels a head.
    """

    width: int = 1024
    depth: int = 24
    heads: int = 16

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads) < 1 or self.width % self.heads:
            raise ConfigError(f"{self} given; expected a width that the heads divide, none below 1")


SMALL = TransformerSize(512, 8, 8)
BASE = TransformerSize(768, 12, 12)
LARGE = TransformerSize(1024, 24, 16)


class _JointTransformer(nn.Module):
    """Attention over a class token, ``g * g`` patches and up to ``N`` latents."""

    def __init__(self, size: TransformerSize, grid: int, tokens: int) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        width = size.width
        self.grid = grid
        self.class_embedding = _parameter(1, width)
        self.positions = _parameter(grid**2 + 1, width)
        self.latent_positions = _parameter(tokens, width)
        self.norm_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            Block(width, size.heads, qkv_bias=True, norm_layer=nn.LayerNorm)
            for _ in range(size.depth)
        )
        self.norm_post = nn.LayerNorm(width)

    def attend(self, patches: Tensor, latents: Tensor, *further: Tensor) -> Tensor:
        """Return the whole sequence after the blocks.

        Args:
            patches: ``(B, g * g, W)``.
            latents: ``(B, L, W)``; their places count from 0.
            further: ``(B, T, W)`` with their positions, to stand after the latents.
        """
        first = self.class_embedding.expand(len(patches), -1, -1)
        image = torch.cat((first, patches), dim=1) + self.positions
        latents = latents + self.latent_positions[: latents.shape[1]]
        x = self.norm_pre(torch.cat((image, latents, *further), dim=1))
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, x)


class LatentEncoder(_JointTransformer):
    """Images ``(B, 3, S, S)`` in [0, 1] to vectors ``(B, N, outputs)``.

    Args:
        size: of the transformer.
        image_size: ``S``.
        patch: side of a patch in pixels.
        tokens: ``N``.
        outputs: width of the vectors.
        is_mixed: whether a vector is read from channels of *all* latents, see :meth:`slots`.
    """

    def __init__(
        self,
        size: TransformerSize,
        *,
        image_size: int,
        patch: int,
        tokens: int,
        outputs: int,
        is_mixed: bool,
    ) -> None:
        super().__init__(size, image_size // patch, tokens)
        self.is_mixed = is_mixed
        self.patch_embed = nn.Conv2d(_CHANNELS, size.width, patch, stride=patch)
        self.latent_tokens = _parameter(tokens, size.width)
        self.projection = nn.Linear(size.width, outputs)
        _initialize(self, size.width)

    def describe(self, images: Tensor) -> Tensor:
        """Return the normalised latents ``(B, N, W)``."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        latents = self.latent_tokens.expand(len(images), -1, -1)
        x = self.attend(patches, latents)
        return cast(Tensor, self.norm_post(x[:, -latents.shape[1] :]))

    def slots(self, latents: Tensor) -> Tensor:
        """Return what the projection reads, ``(B, N, W)``, from latents of the same shape.

        The first published models read the memory of ``(B, N, W)`` as ``(B, W, N)`` without
        transposing it. Channel c of slot n is then the element ``c N + n`` of the latents laid end
        to end, a mixture of all of them, which their weights have learned to make use of.
        """
        if not self.is_mixed:
            return latents
        batch, tokens, width = latents.shape
        return latents.reshape(batch, width, tokens).transpose(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images of exactly the size given."""
        return cast(Tensor, self.projection(self.slots(self.describe(images))))


class LatentDecoder(_JointTransformer):
    """Codes ``(B, L, D)`` of the first ``L <= N`` tokens to what the head makes of a map.

    Args:
        size: of the transformer.
        grid: ``g``, side of the map in patches.
        tokens: ``N``.
        code_dim: ``D``.
        head: from the map of features ``(B, W, g, g)`` to the result.
        text_length: number ``T`` of text tokens.
        text_width: their channels ``C``; 0 for a decoder without text.
    """

    def __init__(
        self,
        size: TransformerSize,
        *,
        grid: int,
        tokens: int,
        code_dim: int,
        head: nn.Module,
        text_length: int = 0,
        text_width: int = 0,
    ) -> None:
        super().__init__(size, grid, tokens)
        self.embed = nn.Linear(code_dim, size.width)
        self.mask_token = _parameter(1, 1, size.width)
        self.text_embed: nn.Linear | None = None
        if text_width:
            self.text_embed = nn.Linear(text_width, size.width)
            self.text_positions = _parameter(text_length, size.width)
            self.null_text = nn.Parameter(torch.zeros(text_length, text_width))
        self.head = head
        _initialize(self, size.width)

    def forward(self, codes: Tensor, text: Tensor | None = None) -> Tensor:
        """Decode a prefix of the tokens.

        Args:
            codes: ``(B, L, D)``.
            text: ``(B, T, C)``; in a decoder that takes text, None stands for the learned
                ``null_text``.

        Raises:
            ShapeError: if the text is of another shape, or the decoder takes none.
        """
        batch, cells = len(codes), self.grid**2
        masks = self.mask_token.expand(batch, cells, -1)
        x = self.attend(masks, self.embed(codes), *self._text_tokens(codes, text))
        x = self.norm_post(x[:, 1 : 1 + cells])
        features = torch.unflatten(x.transpose(1, 2), 2, (self.grid, self.grid))
        return cast(Tensor, self.head(features))

    def _text_tokens(self, codes: Tensor, text: Tensor | None) -> tuple[Tensor, ...]:
        if self.text_embed is None:
            if text is not None:
                raise ShapeError("text given; this tokenizer's decoder takes none: leave it out")
            return ()
        expected = (len(codes), len(self.text_positions), self.text_embed.in_features)
        if text is None:
            text = self.null_text.expand(expected)
        if tuple(text.shape) != expected:
            raise ShapeError(
                f"text of shape {tuple(text.shape)} given; expected {expected}: the states of a "
                "text encoder, one row a token, padded to that length"
            )
        return (self.text_embed(text) + self.text_positions,)


class PixelHead(nn.Module):
    """Features ``(B, W, g, g)`` to images ``(B, 3, g patch, g patch)``: patches, then smoothing.

    Args:
        width: ``W``.
        patch: side of a patch in pixels.
    """

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.patches = nn.Conv2d(width, _CHANNELS * patch**2, 1)
        self.smooth = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Draw the image; channels of a patch are in the order row, column, colour."""
        batch, _, rows, columns = x.shape
        patches = self.patches(x).view(batch, self.patch, self.patch, _CHANNELS, rows, columns)
        image = patches.permute(0, 3, 4, 1, 5, 2)
        image = image.reshape(batch, _CHANNELS, rows * self.patch, columns * self.patch)
        return cast(Tensor, self.smooth(image))


def proxy_head(width: int, codes: int) -> nn.Sequential:
    """Features ``(B, width, g, g)`` to logits ``(B, codes, g, g)`` of another model's indices."""
    return nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.Tanh(), nn.Conv2d(2 * width, codes, 1))


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * shape[-1] ** -0.5)


def _initialize(model: nn.Module, width: int) -> None:
    """Set the weights as published training does: those of queries, keys and values are wider.

    The published deviation is made for a width of 512 and more. Narrower models get a larger one,
    so that a layer passes on as much; with the published one they learn next to nothing.
    """
    deviation = _STD * max(1.0, _PUBLISHED_WIDTH / width) ** 0.5
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            if name.endswith(".qkv"):
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.trunc_normal_(module.weight, std=deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


__all__ = [
    "BASE",
    "LARGE",
    "SMALL",
    "LatentDecoder",
    "LatentEncoder",
    "PixelHead",
    "TransformerSize",
    "proxy_head",
]
