"""HieraTok-style tokenizer: a vision transformer that describes pictures coarse to fine.

Re-implemented from the published description of HieraTok (arXiv 2509.23736), whose code and sizes
are not public; sizes, bottleneck and losses are this library's choice.

::

    image --patches, ViT--> features (h, w, D) --linear--> latents --pool--> z_1, ..., z_S
    z_1, ..., z_S --scale-causal transformer--> finest positions --linear--> image

``z_s`` is the area average of the map over the cells of scale s: scales are not residuals of each
other, each is a whole description. In the decoder a scale sees itself and coarser ones, so that
information flows from the global to the detailed. Two places to pool:

* ``latent``: the tokens are the finest latents alone, coarser ones follow from them; any generator
  of latents on a grid can write them;
* ``feature``: features are pooled before the bottleneck, and every scale is a level of the tokens.
  Any number of leading levels decodes: missing ones repeat the finest that is there.

With auxiliary heads every scale also predicts the picture at its own resolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError
from tessella.tokenizers.base import TokenizerOutput
from tessella.tokenizers.latent import ContinuousTokenizer, check_scale
from tessella.tokenizers.layers.scale_causal import ScaleCausalTransformer
from tessella.tokenizers.quantizers.gaussian_kl import GaussianKL
from tessella.tokenizers.registry import Preset, register
from tessella.tokens import LevelLayout, TokenLayout, Tokens

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class HieraTokConfig:
    """Sizes of a HieraTok-style tokenizer.

    Args:
        patch: side of a patch in pixels.
        scales: sides of the grids of a picture of ``patch * scales[-1]`` pixels, rising; other
            pictures have grids in the same proportion to their finest.
        encoder_depth: blocks of the encoder.
        encoder_width: its channels.
        encoder_tail: further scale-causal blocks of the encoder, over its pooled features.
        decoder_depth: blocks of the decoder.
        decoder_width: its channels.
        head_dim: channels of an attention head.
        latent_channels: ``C``.
        pool_at: where scales are made, see the module's text.
        has_shortcut: add averages of encoder channels to latents, and latents to decoder channels.
        has_aux_heads: whether every scale predicts the picture at its resolution.
        kl_weight: factor of the KL term, summed over a picture's latents.
        aux_weight: factor of the auxiliary heads' mean absolute error, for each scale.
        scale: factor of the tokens, see :mod:`tessella.tokenizers.latent`.
        shift: what is subtracted before.
    """

    patch: int = 16
    scales: tuple[int, ...] = (1, 2, 4, 8, 16)
    encoder_depth: int = 12
    encoder_width: int = 768
    encoder_tail: int = 0
    decoder_depth: int = 12
    decoder_width: int = 768
    head_dim: int = 64
    latent_channels: int = 32
    pool_at: Literal["latent", "feature"] = "latent"
    has_shortcut: bool = False
    has_aux_heads: bool = False
    kl_weight: float = 1e-6
    aux_weight: float = 0.1
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        check_scale(self)
        rising = all(a < b for a, b in zip((0, *self.scales), self.scales, strict=False))
        if not self.scales or not rising:
            raise ConfigError(f"scales={self.scales} given; expected rising numbers from 1")
        widths = (self.encoder_width, self.decoder_width)
        if self.has_shortcut and any(width % self.latent_channels for width in widths):
            raise ConfigError(
                f"latent_channels={self.latent_channels} given; with a shortcut, expected a "
                f"divisor of both widths, {widths}"
            )

    def grids(self, rows: int, columns: int) -> list[Grid]:
        """Return the grid of every scale of a picture of so many patches."""
        finest = self.scales[-1]

        def part(side: int, scale: int) -> int:
            return max(1, (2 * side * scale + finest) // (2 * finest))

        return [(part(rows, scale), part(columns, scale)) for scale in self.scales]


def _sizes(
    depth: int, width: int, channels: int, decoder: tuple[int, int] | None = None
) -> HieraTokConfig:
    decoder_depth, decoder_width = decoder or (depth, width)
    return HieraTokConfig(
        encoder_depth=depth,
        encoder_width=width,
        decoder_depth=decoder_depth,
        decoder_width=decoder_width,
        latent_channels=channels,
    )


_PAPER = "2509.23736"
_NOTE = "re-implemented from the published description"


@register(
    "hieratok",
    config=HieraTokConfig,
    presets=(
        Preset("hieratok-small", _sizes(8, 512, 16), paper=_PAPER, note=_NOTE),
        Preset("hieratok-base", _sizes(12, 768, 32), paper=_PAPER, note=_NOTE),
        Preset("hieratok-large", _sizes(12, 768, 32, (24, 1024)), paper=_PAPER, note=_NOTE),
        Preset(
            "hieratok-base-pyramid",
            HieraTokConfig(pool_at="feature", has_aux_heads=True),
            paper=_PAPER,
            note="every scale is a level of the tokens",
        ),
        Preset(
            "hieratok-base-single",
            HieraTokConfig(scales=(16,)),
            paper=_PAPER,
            note="the control: one scale, an ordinary vision transformer",
        ),
        Preset(
            "hieratok-tiny",
            HieraTokConfig(
                patch=8,
                scales=(1, 2, 4),
                encoder_depth=1,
                encoder_width=24,
                encoder_tail=1,
                decoder_depth=2,
                decoder_width=24,
                head_dim=12,
                latent_channels=4,
                pool_at="feature",
                has_shortcut=True,
                has_aux_heads=True,
                scale=0.5,
            ),
            note="for tests",
        ),
    ),
)
class HieraTok(ContinuousTokenizer):
    """Multi-scale vision transformer with continuous latents.

    Example:
        >>> model = HieraTok(HieraTokConfig(encoder_depth=1, encoder_width=64, decoder_depth=1,
        ...                                 decoder_width=64, pool_at="feature"))
        >>> [level.grid for level in model.layout(256, 512).levels]
        [(1, 2), (2, 4), (4, 8), (8, 16), (16, 32)]
    """

    config: HieraTokConfig

    def __init__(self, config: HieraTokConfig) -> None:
        super().__init__(config)
        c, count = config, len(config.scales)
        self.patches = nn.Conv2d(3, c.encoder_width, c.patch, stride=c.patch)
        self.encoder = ScaleCausalTransformer(
            c.encoder_width, c.encoder_depth, 1, head_dim=c.head_dim
        )
        self.tail: ScaleCausalTransformer | None = None
        if c.encoder_tail:
            self.tail = ScaleCausalTransformer(
                c.encoder_width, c.encoder_tail, count, head_dim=c.head_dim
            )
        self.to_moments = nn.Linear(c.encoder_width, 2 * c.latent_channels)
        self.bottleneck = GaussianKL(c.latent_channels, kl_weight=c.kl_weight)
        self.from_latents = nn.Linear(c.latent_channels, c.decoder_width)
        self.decoder = ScaleCausalTransformer(
            c.decoder_width, c.decoder_depth, count, head_dim=c.head_dim
        )
        self.head = nn.Linear(c.decoder_width, 3 * c.patch**2)

    @property
    def stride(self) -> int:
        """Pixels of a step of the finest grid."""
        return self.config.patch

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout: a level for the finest grid, or one for every scale."""
        grids = self.config.grids(-(-height // self.stride), -(-width // self.stride))
        if self.config.pool_at == "latent":
            grids = grids[-1:]
        levels = (LevelLayout(grid, channels=self.config.latent_channels) for grid in grids)
        return TokenLayout(tuple(levels), (height, width), self.space_id)

    def space_tensors(self) -> dict[str, Tensor]:
        """The last layer of the encoder."""
        return dict(self.to_moments.state_dict())

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct a batch with the KL term and the errors of the auxiliary heads."""
        found = [self.bottleneck(m, generator=generator) for m in self._moments(images)]
        tokens = Tokens(
            (self.standardised(level.z_q.detach()) for level in found),
            self.layout(*images.shape[-2:]),
        )
        rows, columns = found[-1].z_q.shape[1:3]
        hidden = self.decoder(self._maps([f.z_q for f in found], (rows, columns)))
        losses = {}
        if self.training:
            losses["kl"] = torch.stack([f.losses["kl"] for f in found]).sum()
        if self.training and self.config.has_aux_heads:
            losses["preview"] = self._preview_error(hidden[:-1], images)
        stats = {"std": torch.stack([f.stats["std"] for f in found]).mean()} if losses else {}
        return TokenizerOutput(self._pixels(hidden[-1]), tokens, losses, stats)

    @torch.inference_mode()
    def previews(self, tokens: Tokens) -> Iterator[Tensor]:
        """Decode scale by scale, each from no more than the scales up to it.

        Args:
            tokens: whole or truncated tokens of this tokenizer.

        Yields:
            Images ``(B, 3, patch h_s, patch w_s)`` in [-1, 1], padding included, coarse to fine.

        Raises:
            ConfigError: if the model has no auxiliary heads.
            ShapeError: if the tokens cannot be decoded.
        """
        if not self.config.has_aux_heads:
            raise ConfigError("this model was made with has_aux_heads=False; it has no previews")
        self.check_tokens(tokens)
        maps = self._token_maps(tokens.to(self.device))
        for hidden in self.decoder.steps(maps):
            yield self._pixels(hidden).float().clamp(-1, 1)

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        moments = self._moments(images)
        return tuple(self.standardised(self.bottleneck.distribution(m).mean) for m in moments)

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        return self._pixels(self.decoder(self._token_maps(tokens))[-1])

    def _moments(self, images: Tensor) -> list[Tensor]:
        """Return mean and log-variance ``(B, h, w, 2 C)`` of every level."""
        x = self.patches(images).permute(0, 2, 3, 1)
        grids = self.config.grids(*x.shape[1:3])
        last = self.encoder
        (x,) = last([x])
        if self.tail is not None:
            x, last = self.tail([_pooled(last.norm(x), grid) for grid in grids])[-1], self.tail
        if self.config.pool_at == "latent":
            grids = grids[-1:]
        features = last.norm(x)
        moments = [self.to_moments(_pooled(features, grid)) for grid in grids]
        if not self.config.has_shortcut:
            return moments
        channels = self.config.latent_channels
        averages = x.unflatten(-1, (channels, -1)).mean(dim=-1)
        return [
            m + F.pad(_pooled(averages, grid), (0, channels))
            for m, grid in zip(moments, grids, strict=True)
        ]

    def _token_maps(self, tokens: Tokens) -> list[Tensor]:
        height, width = tokens.layout.image_size
        grid = (-(-height // self.stride), -(-width // self.stride))
        return self._maps([self.unstandardised(level) for level in tokens.levels], grid)

    def _maps(self, latents: Sequence[Tensor], finest: Grid) -> list[Tensor]:
        """Return the decoder's input ``(B, h, w, D)`` at every scale.

        Args:
            latents: ``(B, h, w, C)`` of the first levels, not standardised.
            finest: the grid of the whole picture.
        """
        grids = self.config.grids(*finest)
        if self.config.pool_at == "latent":
            pyramid = [_pooled(latents[0], grid) for grid in grids]
        else:
            missing = grids[len(latents) :]
            pyramid = [*latents, *(_repeated(latents[-1], grid) for grid in missing)]
        maps = []
        for level in pyramid:
            x = self.from_latents(level)
            if self.config.has_shortcut:
                x = x + level.repeat_interleave(x.shape[-1] // level.shape[-1], dim=-1)
            maps.append(x)
        return maps

    def _pixels(self, hidden: Tensor) -> Tensor:
        """Map ``(B, h, w, D)`` to images ``(B, 3, H, W)``: rows, columns, channels of patches."""
        batch, rows, columns, _ = hidden.shape
        side = self.config.patch
        values: Tensor = self.head(self.decoder.norm(hidden))
        patches = values.view(batch, rows, columns, side, side, 3)
        return patches.permute(0, 5, 1, 3, 2, 4).reshape(batch, 3, rows * side, columns * side)

    def _preview_error(self, hidden: Sequence[Tensor], images: Tensor) -> Tensor:
        """Sum the weighted errors of coarse scales; the finest is the reconstruction itself."""
        total = images.new_zeros(())
        for level in hidden:
            preview = self._pixels(level)
            target = F.adaptive_avg_pool2d(images, (preview.shape[2], preview.shape[3]))
            total = total + (preview - target).abs().mean()
        return self.config.aux_weight * total


def _pooled(level: Tensor, grid: Grid) -> Tensor:
    """Average ``(B, h, w, C)`` over the cells of a grid; cells overlap where it does not divide."""
    if level.shape[1:3] == grid:
        return level
    x = F.adaptive_avg_pool2d(level.permute(0, 3, 1, 2).float(), grid)
    return x.permute(0, 2, 3, 1).to(level.dtype)


def _repeated(level: Tensor, grid: Grid) -> Tensor:
    """Repeat the nearest vector of ``(B, h, w, C)`` over a finer grid."""
    x = F.interpolate(level.permute(0, 3, 1, 2).float(), size=grid, mode="nearest")
    return x.permute(0, 2, 3, 1).to(level.dtype)


__all__ = ["HieraTok", "HieraTokConfig"]
