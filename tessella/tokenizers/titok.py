"""TiTok: a picture as a short sequence of tokens, without a grid (arXiv 2406.07550).

::

    image --ViT over patches and N latents--> (N, D) --code or Gaussian--> N tokens
    tokens --ViT over mask tokens and N latents--> map (W, g, g) --head--> image

Attention moves a picture into N latents, of which only these are kept. Two heads draw it again:

* ``proxy``: the first models. The decoder predicts which of MaskGIT's VQGAN's codes stand at each
  patch, and that VQGAN's decoder draws the mean code under these probabilities;
* ``pixels``: a linear layer draws the patches, and a convolution smooths them.

Published models with a ``proxy`` head were trained in two stages. In the first, the model holds the
``whole`` VQGAN, frozen, whose indices of the picture are the targets of a cross-entropy. In the
second it holds the VQGAN's ``decoder``, encoder and codes are frozen, and pixels are compared. A
checkpoint of the first stage holds ``none``: it encodes; :meth:`TiTok.with_vqgan` adds either.

Position tables are those of one size. Pictures of other sizes are resized to it, and back (bicubic
with antialiasing, which changes their aspect for the network), or cut into squares of that size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, TypeVar, cast, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError
from tessella.images import Picture
from tessella.tokenizers.base import Tokenizer, TokenizerOutput
from tessella.tokenizers.layers.latent_tokens import (
    LatentDecoder,
    LatentEncoder,
    PixelHead,
    proxy_head,
)
from tessella.tokenizers.layers.maskgit_network import MaskGITDecoder
from tessella.tokenizers.layers.squares import Squares
from tessella.tokenizers.maskgit_vqgan import MaskGITVQGAN
from tessella.tokenizers.quantizers import VQ, Bottleneck, ClusteringVQ, GaussianKL, Quantizer
from tessella.tokenizers.quantizers.kmeans import kmeans
from tessella.tokenizers.registry import register
from tessella.tokenizers.titok_sizes import PRESETS, TiTokConfig
from tessella.tokens import LevelLayout, TokenLayout, Tokens

Self = TypeVar("Self", bound="TiTok")

_SQUARES_AT_ONCE = 64  # of large pictures, so that activations do not grow with them
_OF_VQGAN = ("vqgan.", "pixel_decoder.", "pixel_codebook")


@register("titok", config=TiTokConfig, presets=PRESETS)
class TiTok(Tokenizer):
    """Tokenizer with a sequence of latent tokens, all of which its decoder needs.

    Args:
        config: sizes.
        text_length: number of text tokens of the decoder.
        text_width: their channels; 0 for a decoder without text.

    Example:
        >>> model = TiTok(PRESETS[-1].config)
        >>> model.layout(32, 32).levels[0].grid, model.layout(64, 64).levels[0].grid
        ((8,), (32,))
    """

    config: TiTokConfig
    is_ordered: ClassVar[bool] = False  # whether any first tokens decode

    def __init__(self, config: TiTokConfig, *, text_length: int = 0, text_width: int = 0) -> None:
        super().__init__(config)
        is_proxy = config.head == "proxy"
        self._squares = Squares(config.image_size, config.other_sizes)
        self.quantizer = _bottleneck(config)
        self.encoder = LatentEncoder(
            config.encoder,
            image_size=config.image_size,
            patch=config.patch,
            tokens=config.tokens,
            outputs=self.quantizer.input_dim,
            is_mixed=is_proxy,
        )
        width, proxy = config.decoder.width, config.proxy
        self.decoder = LatentDecoder(
            config.decoder,
            grid=config.grid,
            tokens=config.tokens,
            code_dim=config.code_dim,
            head=proxy_head(width, proxy.codebook_size)
            if is_proxy
            else PixelHead(width, config.patch),
            text_length=text_length,
            text_width=text_width,
        )
        self.vqgan: MaskGITVQGAN | None = None
        self.pixel_decoder: MaskGITDecoder | None = None
        if is_proxy and config.proxy_parts == "whole":
            self.vqgan = MaskGITVQGAN(proxy).requires_grad_(False)
        elif is_proxy and config.proxy_parts == "decoder":
            codes = torch.randn(proxy.codebook_size, proxy.latent_channels)
            self.pixel_codebook = nn.Parameter(codes)
            self.pixel_decoder = MaskGITDecoder(
                proxy.widths, proxy.blocks, proxy.latent_channels, norm_groups=proxy.norm_groups
            )

    @property
    def stride(self) -> int:
        """Side of a square where pictures are tiled; 1 where they are resized."""
        return self.config.image_size if self.config.other_sizes == "tile" else 1

    @property
    def tiles_itself(self) -> bool:
        """True: pictures of any size become squares of one size."""
        return True

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout: one level of N tokens, or of N for each square of a tiled picture.

        The first tokens of all squares come first, then the second ones: ``(n, row, column)``.
        """
        rows, columns = self._squares.count(height, width)
        level = LevelLayout(
            (self.config.tokens * rows * columns,),
            self.quantizer.vocab_sizes,
            channels=0 if self.quantizer.vocab_sizes else self.config.code_dim,
            ordered="length" if self.is_ordered else "none",
        )
        return TokenLayout((level,), (height, width), self.space_id)

    def space_tensors(self) -> dict[str, Tensor]:
        """The codebook; of continuous tokens, the layer that they come from."""
        if isinstance(self.quantizer, VQ):
            return {"codebook": self.quantizer.codebook}
        return dict(self.encoder.projection.state_dict())

    def with_vqgan(
        self: Self, vqgan: MaskGITVQGAN, *, parts: Literal["decoder", "whole"] = "decoder"
    ) -> Self:
        """Return the same tokenizer, with weights shared, and with a copy of a VQGAN's.

        Args:
            vqgan: MaskGIT's; its weights replace those that the model has.
            parts: ``whole`` for the first stage of training, ``decoder`` for the second.

        Raises:
            ConfigError: if the model predicts no codes, or those of another VQGAN.
        """
        expected = self.config.proxy.codebook_size if self.config.head == "proxy" else 0
        if vqgan.config.codebook_size != expected:
            raise ConfigError(
                f"a VQGAN of {vqgan.config.codebook_size} codes given; this model's decoder "
                f"predicts {expected or 'pixels and no codes'}"
            )
        config = replace(self.config, proxy=vqgan.config, proxy_parts=parts)
        with torch.device("meta"):
            model = type(self)(config)
        state = {k: v for k, v in self.state_dict().items() if not k.startswith(_OF_VQGAN)}
        theirs = {name: tensor.clone() for name, tensor in vqgan.state_dict().items()}
        if parts == "whole":
            state |= {f"vqgan.{name}": tensor for name, tensor in theirs.items()}
        else:
            state["pixel_codebook"] = theirs["quantizer.codebook"]
            drawing = {n: t for n, t in theirs.items() if n.startswith("decoder.")}
            state |= {f"pixel_{name}": tensor for name, tensor in drawing.items()}
        model.load_state_dict(state, strict=True, assign=True)
        return model.train(self.training)

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Start the codebook from clusters of what the encoder makes of pictures.

        Published training starts from random codes. Fresh latents of unlike pictures hardly
        differ, so that they share codes, and it takes a small model long to tell them apart.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1], a few hundred crops.
        """
        if not isinstance(self.quantizer, VQ):
            return
        parts = torch.split(self._squares.cut(images.to(self.device, self.dtype)), _SQUARES_AT_ONCE)
        vectors = torch.cat([self.images_to_latents(part).flatten(0, 1) for part in parts]).float()
        if self.config.is_cosine:
            vectors = F.normalize(vectors, dim=-1)
        codebook = self.quantizer.codebook
        noise = torch.Generator().manual_seed(0)
        found = kmeans(vectors, len(codebook), cosine=self.config.is_cosine, generator=noise)
        codebook.copy_(found.means)

    # ---- pictures and tokens ---------------------------------------------------------------

    @overload
    def encode(
        self, images: Tensor | Picture, *, deterministic: bool = False, length: int | None = None
    ) -> Tokens: ...

    @overload
    def encode(
        self,
        images: list[Tensor | Picture],
        *,
        deterministic: bool = False,
        length: int | None = None,
    ) -> list[Tokens]: ...

    def encode(
        self,
        images: Tensor | Picture | list[Tensor | Picture],
        *,
        deterministic: bool = False,
        length: int | None = None,
    ) -> Tokens | list[Tokens]:
        """Turn pictures into tokens, see :meth:`Tokenizer.encode`.

        Args:
            images: as there.
            deterministic: as there.
            length: tokens to keep, 1 to N (of each square, where pictures are tiled); None for all.

        Raises:
            ShapeError: if the length is out of range, or the decoder needs all tokens.
        """
        if isinstance(images, list):
            return [self.encode(i, deterministic=deterministic, length=length) for i in images]
        tokens = super().encode(images, deterministic=deterministic)
        return tokens if length is None else self._first(tokens, length)

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct a batch with the bottleneck's losses.

        A model with the whole VQGAN adds the cross-entropy to its indices, ``proxy``; its pictures
        are drawn from the likeliest codes, and no gradient comes from them.

        Raises:
            ConfigError: if the model cannot draw.
        """
        return self._reconstructed(images, generator, None)

    def _reconstructed(
        self, images: Tensor, generator: torch.Generator | None, text: Tensor | None
    ) -> TokenizerOutput:
        height, width = images.shape[-2:]
        inputs = self._squares.cut(images)
        found = self.quantizer(self.images_to_latents(inputs), generator=generator)
        values = found.indices if isinstance(self.quantizer, Quantizer) else found.z_q.detach()
        sequences = self._squares.to_sequences(values, len(images))
        tokens = Tokens((sequences,), self.layout(height, width))
        kept = self._kept_length(generator)
        if kept < self.config.tokens:
            tokens = self._first(tokens, kept)
        drawn = self.decoder(found.z_q[:, :kept], self._captions(text, height, width))
        losses = dict(found.losses)
        if self.vqgan is not None and self.training:
            losses["proxy"] = F.cross_entropy(drawn.float(), _targets(self.vqgan, inputs))
        outputs = self._squares.join(self._drawn(drawn), height, width)
        return TokenizerOutput(outputs, tokens, losses, found.stats)

    def _captions(self, text: Tensor | None, height: int, width: int) -> Tensor | None:
        """Give every square its picture's text."""
        rows, columns = self._squares.count(height, width)
        return None if text is None else text.repeat_interleave(rows * columns, dim=0)

    def _kept_length(self, generator: torch.Generator | None) -> int:
        """Return how many tokens a training step decodes."""
        return self.config.tokens

    def _first(self, tokens: Tokens, length: int) -> Tokens:
        """Keep the first tokens of every square."""
        rows, columns = self._squares.count(*tokens.layout.image_size)
        return tokens.truncate(length=length * rows * columns)

    # ---- the network -----------------------------------------------------------------------

    def images_to_latents(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, S, S)`` of the network's size to vectors ``(B, N, D)``.

        Vectors of continuous tokens hold mean and log-variance, ``(B, N, 2 D)``.
        """
        return cast(Tensor, self.encoder(images.add(1).mul(0.5)))

    def latents_to_images(self, codes: Tensor, text: Tensor | None = None) -> Tensor:
        """Map codes ``(B, L, D)`` of the first tokens to images around [-1, 1], not clamped.

        Args:
            codes: of all tokens, or of the first ones where the decoder knows how.
            text: ``(B, T, C)`` for a decoder that takes text.

        Raises:
            ConfigError: if the model cannot draw.
        """
        return self._drawn(self.decoder(codes, text))

    def mixed_codes(self, logits: Tensor) -> Tensor:
        """Map logits ``(B, K', g, g)`` to the mean code under their softmax, ``(B, Z, g, g)``."""
        return torch.einsum("bkhw,kz->bzhw", logits.softmax(dim=1), self.pixel_codebook)

    def _drawn(self, decoded: Tensor) -> Tensor:
        """Return images around [-1, 1] of what the decoder's head gives."""
        if self.config.head == "pixels":
            return decoded.mul(2).sub(1)
        if self.pixel_decoder is not None:
            images: Tensor = self.pixel_decoder(self.mixed_codes(decoded))
            return images.mul(2).sub(1)
        if self.vqgan is not None:
            likeliest = decoded.argmax(dim=1).unsqueeze(-1)
            codes = self.vqgan.quantizer.indices_to_codes(likeliest)
            return self.vqgan.latents_to_images(codes.to(decoded.dtype))
        raise ConfigError(
            "this model predicts codes of MaskGIT's VQGAN and has no decoder of theirs, as "
            "checkpoints of the first stage of training are; join one with with_vqgan()"
        )

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        parts = []
        for squares in torch.split(self._squares.cut(images), _SQUARES_AT_ONCE):
            found = self.quantizer(self.images_to_latents(squares))
            is_discrete = isinstance(self.quantizer, Quantizer)
            parts.append(found.indices if is_discrete else found.z_q.float())
        return (self._squares.to_sequences(torch.cat(parts), len(images)),)

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        return self._images_of(tokens, None)

    def _images_of(self, tokens: Tokens, text: Tensor | None) -> Tensor:
        height, width = tokens.layout.image_size
        values = self._squares.from_sequences(tokens.levels[0], height, width)
        if isinstance(self.quantizer, Quantizer):
            values = self.quantizer.indices_to_codes(values)
        codes = values.to(self.dtype)
        captions = self._captions(text, height, width)
        squares = [
            self.latents_to_images(
                codes[i : i + _SQUARES_AT_ONCE],
                None if captions is None else captions[i : i + _SQUARES_AT_ONCE],
            )
            for i in range(0, len(codes), _SQUARES_AT_ONCE)
        ]
        return self._squares.join(torch.cat(squares), height, width)


def _bottleneck(config: TiTokConfig) -> Bottleneck:
    if not config.codebook_size:
        return GaussianKL(config.code_dim, kl_weight=config.kl_weight)
    if config.is_clustering:
        return ClusteringVQ(config.code_dim, config.codebook_size)
    return VQ(config.code_dim, config.codebook_size, cosine=config.is_cosine)


@torch.no_grad()
def _targets(vqgan: MaskGITVQGAN, images: Tensor) -> Tensor:
    """Return the indices ``(B, g, g)`` of images in a VQGAN."""
    indices: Tensor = vqgan.quantizer(vqgan.images_to_latents(images)).indices
    return indices.squeeze(-1)


__all__ = ["TiTok", "TiTokConfig"]
