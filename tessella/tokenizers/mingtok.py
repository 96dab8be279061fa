"""MingTok: continuous tokens for both understanding and generation (arXiv 2510.06590).

::

    image --patches, class token, positions--> ViT --narrow--> latents (h, w, C) and one more
    latents, in raster order --causal transformer--> semantic features (h, w, D)
    features --each becomes f x f finer tokens--> ViT --patches--> image

The low-level encoder makes a compact latent, the semantic decoder turns it into features that a
language model reads, and the pixel decoder draws from those features. Because the middle stage is
causal, features can be computed token by token while a generator writes
(:meth:`MingTok.semantic_steps`). The class token comes last: no patch depends on it, so it is a
level of its own that may be dropped without a change of the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError
from tessella.tokenizers.base import TokenizerOutput
from tessella.tokenizers.latent import ContinuousTokenizer, check_scale
from tessella.tokenizers.layers.cached_transformer import EPS, Transformer
from tessella.tokenizers.registry import Preset, register
from tessella.tokens import LevelLayout, TokenLayout, Tokens


@dataclass(frozen=True, slots=True)
class MingTokConfig:
    """Sizes of a MingTok tokenizer.

    Args:
        image_size: side in pixels of the pictures that positions are learned for; they are
            interpolated for others.
        patch: side in pixels of a token.
        pixel_patch: side in pixels of a token of the pixel decoder.
        latent_channels: ``C``.
        encoder_width: channels of the low-level encoder.
        encoder_depth: its blocks.
        semantic_width: channels ``D`` of the semantic decoder.
        semantic_depth: its blocks.
        pixel_width: channels of the pixel decoder.
        pixel_depth: its blocks.
        head_dim: channels of an attention head.
        scale: factor of the tokens, see :mod:`tessella.tokenizers.latent`.
        shift: what is subtracted before.
    """

    image_size: int = 512
    patch: int = 32
    pixel_patch: int = 16
    latent_channels: int = 32
    encoder_width: int = 768
    encoder_depth: int = 12
    semantic_width: int = 1024
    semantic_depth: int = 24
    pixel_width: int = 1024
    pixel_depth: int = 24
    head_dim: int = 64
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        check_scale(self)
        if self.image_size % self.patch or self.patch % self.pixel_patch:
            raise ConfigError(
                f"image_size={self.image_size}, patch={self.patch}, pixel_patch="
                f"{self.pixel_patch} given; expected each to be a multiple of the next"
            )
        for width in (self.encoder_width, self.semantic_width):
            if width % self.latent_channels:
                raise ConfigError(
                    f"latent_channels={self.latent_channels} given; expected a divisor of "
                    f"encoder_width and semantic_width, {self.encoder_width} and "
                    f"{self.semantic_width}"
                )

    @property
    def factor(self) -> int:
        """Tokens of the pixel decoder along a side of a token."""
        return self.patch // self.pixel_patch


class _LowLevelEncoder(nn.Module):
    def __init__(self, config: MingTokConfig) -> None:
        super().__init__()
        width, self.side = config.encoder_width, config.image_size // config.patch
        self.channels = config.latent_channels
        self.patch_embed = nn.Conv2d(3, width, config.patch, stride=config.patch)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, self.side**2 + 1, width))
        self.transformer = Transformer(
            width, config.encoder_depth, head_dim=config.head_dim, is_gated=True
        )
        self.out_norm = nn.LayerNorm(width, eps=EPS)
        self.out_proj = nn.Linear(width, self.channels)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to latents ``(B, h w + 1, C)``, the class token last."""
        x = self.transformer(self.embed(images))
        averages = torch.unflatten(x, -1, (self.channels, -1)).mean(dim=-1)
        latents: Tensor = self.out_proj(F.gelu(self.out_norm(x))) + averages
        return latents

    def embed(self, images: Tensor) -> Tensor:
        """Return patches and class token with their positions, ``(B, h w + 1, D)``."""
        x = self.patch_embed(images)
        tokens = torch.cat(
            [x.flatten(2).transpose(1, 2), self.cls_token.expand(len(x), -1, -1)], dim=1
        )
        return tokens + self._positions(x.shape[2], x.shape[3])

    def _positions(self, rows: int, columns: int) -> Tensor:
        if rows == columns == self.side:
            return self.pos_embed
        patches, last = self.pos_embed[:, :-1], self.pos_embed[:, -1:]
        table = torch.unflatten(patches, 1, (self.side, self.side)).permute(0, 3, 1, 2).float()
        # the published code adds a tenth, which also shifts where the table is sampled
        factors = ((rows + 0.1) / self.side, (columns + 0.1) / self.side)
        resized = F.interpolate(table, scale_factor=factors, mode="bicubic", align_corners=False)
        return torch.cat([resized.flatten(2).transpose(1, 2).to(last.dtype), last], dim=1)


class _SemanticDecoder(nn.Module):
    def __init__(self, config: MingTokConfig) -> None:
        super().__init__()
        width = config.semantic_width
        self.repeats = width // config.latent_channels
        self.in_proj = nn.Linear(config.latent_channels, width)
        self.transformer = Transformer(
            width, config.semantic_depth, head_dim=config.head_dim, is_causal=True, is_gated=True
        )
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents ``(B, N, C)`` to features ``(B, N, D)``."""
        features: Tensor = self.norm(self.transformer(self._widened(latents)))
        return features

    def steps(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """Map pieces of a sequence, each after those before it."""
        cache = self.transformer.new_cache()
        for piece in latents:
            yield self.norm(self.transformer(self._widened(piece), cache))

    def _widened(self, latents: Tensor) -> Tensor:
        wide: Tensor = self.in_proj(latents) + latents.repeat_interleave(self.repeats, dim=-1)
        return wide


class _PixelDecoder(nn.Module):
    def __init__(self, config: MingTokConfig) -> None:
        super().__init__()
        self.factor, self.patch = config.factor, config.pixel_patch
        width = config.pixel_width
        self.widen = nn.Linear(config.semantic_width, self.factor**2 * width)
        self.transformer = Transformer(width, config.pixel_depth, head_dim=config.head_dim)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.head = nn.Linear(width, 3 * self.patch**2)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(B, h, w, D)`` to images ``(B, 3, H, W)``, not clamped."""
        x = _unfolded(self.widen(features), self.factor)
        rows, columns = x.shape[1:3]
        x = self.head(self.norm(self.transformer(x.flatten(1, 2))))
        return _unfolded(torch.unflatten(x, 1, (rows, columns)), self.patch).permute(0, 3, 1, 2)


def _unfolded(x: Tensor, side: int) -> Tensor:
    """Unfold channels in (row, column, channel) order, ``(B, h, w, s s D) -> (B, s h, s w, D)``."""
    cells = torch.unflatten(x, -1, (side, side, -1)).permute(0, 1, 3, 2, 4, 5)
    return cells.flatten(3, 4).flatten(1, 2)


@register(
    "mingtok",
    config=MingTokConfig,
    presets=(
        Preset(
            "mingtok-f32-c32",
            MingTokConfig(scale=1 / 8.09449291, shift=1.46817409),
            "MIT",
            "2510.06590",
            "https://huggingface.co/inclusionAI/MingTok-Vision",
        ),
        Preset(
            "mingtok-tiny",
            MingTokConfig(
                image_size=32,
                patch=8,
                pixel_patch=4,
                latent_channels=8,
                encoder_width=16,
                encoder_depth=1,
                semantic_width=16,
                semantic_depth=1,
                pixel_width=16,
                pixel_depth=1,
                head_dim=8,
            ),
            note="for tests",
        ),
    ),
)
class MingTok(ContinuousTokenizer):
    """Low-level encoder, causal semantic decoder and pixel decoder.

    Example:
        >>> model = MingTok(MingTokConfig(encoder_depth=1, semantic_depth=1, pixel_depth=1))
        >>> [level.grid for level in model.layout(512, 768).levels]
        [(16, 24), (1,)]
    """

    config: MingTokConfig

    def __init__(self, config: MingTokConfig) -> None:
        super().__init__(config)
        self.low_level_encoder = _LowLevelEncoder(config)
        self.semantic_decoder = _SemanticDecoder(config)
        self.pixel_decoder = _PixelDecoder(config)

    @property
    def stride(self) -> int:
        """Pixels of a token's side."""
        return self.config.patch

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout: a map of patches, and the class token."""
        grid = (-(-height // self.stride), -(-width // self.stride))
        channels = self.config.latent_channels
        levels = (LevelLayout(grid, channels=channels), LevelLayout((1,), channels=channels))
        return TokenLayout(levels, (height, width), self.space_id)

    def space_tensors(self) -> dict[str, Tensor]:
        """The last layer of the encoder."""
        return dict(self.low_level_encoder.out_proj.state_dict())

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct a batch; there is no loss of a bottleneck."""
        layout = self.layout(*images.shape[-2:])
        latents: Tensor = self.low_level_encoder(images)
        tokens = Tokens(self._levels(latents.detach(), images), layout)
        rows, columns = layout.levels[0].grid
        features = self.semantic_decoder(latents[:, :-1]).unflatten(1, (rows, columns))
        return TokenizerOutput(self.pixel_decoder(features), tokens, {}, {})

    def decode_features(self, tokens: Tokens) -> Tensor:
        """Turn tokens into semantic features.

        Args:
            tokens: whole tokens, or without their class token.

        Returns:
            ``(B, h w + 1, D)`` in raster order, the class token's last; without it ``(B, h w, D)``.

        Raises:
            ShapeError: if the tokens are of another token space.
        """
        self.check_tokens(tokens)
        with self._inference():
            given = tokens.to(self.device)
            latents = torch.cat([level.flatten(1, -2) for level in given.levels], dim=1)
            features: Tensor = self.semantic_decoder(self.unstandardised(latents))
        return features

    @torch.inference_mode()
    def semantic_steps(self, values: Iterable[Tensor]) -> Iterator[Tensor]:
        """Turn tokens into semantic features while they are written.

        Args:
            values: pieces ``(B, n, C)`` of a sequence of tokens in raster order.

        Yields:
            Features ``(B, n, D)`` of each piece; together those of the whole sequence.
        """
        pieces = (self.unstandardised(piece.to(self.device)) for piece in values)
        yield from self.semantic_decoder.steps(pieces)

    def _levels(self, latents: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        values = self.standardised(latents)
        rows, columns = (side // self.stride for side in images.shape[-2:])
        return torch.unflatten(values[:, :-1], 1, (rows, columns)), values[:, -1:]

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        return self._levels(self.low_level_encoder(images), images)

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        patches = self.unstandardised(tokens.levels[0])
        features = self.semantic_decoder(patches.flatten(1, 2))
        images: Tensor = self.pixel_decoder(features.unflatten(1, patches.shape[1:3]))
        return images


__all__ = ["MingTok", "MingTokConfig"]
