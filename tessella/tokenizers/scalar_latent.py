"""Scalar latents of all rates: rounded transform coefficients, with a quality in the tokens.

::

    x --g_a--> y --* gain(q)--> y' --round--> y^ --* gain'(q)--> g_s --> image
                                 |
                                 +--h_a, * gain--> round --> z^  (side information of the prior)

One model serves all rates: a *quality* of 0 to 99 is a place between a few trained points, and the
gains of channels are interpolated geometrically between them (gain units, arXiv 2003.02012). What
is rounded is coded by a prior that is conditioned on z^ (hyperprior, arXiv 1802.01436) and on what
was decoded before; the latents come in slices for that (arXiv 2007.08739, 2203.10886).

Levels: a map of qualities (one value a cell of 64 pixels, all alike unless somebody writes others),
the hyper-latent, then the slices of latents. Decoding without the last slices takes zeros for them.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.images import Picture, pad_to_multiple
from tessella.tokenizers.base import Tokenizer, TokenizerOutput
from tessella.tokenizers.layers.latent_transforms import (
    PATCH,
    Analysis,
    HyperAnalysis,
    Synthesis,
    reach,
)
from tessella.tokenizers.registry import Preset, register
from tessella.tokens import LevelLayout, TokenLayout, Tokens

#: qualities that tokens can have, 0 the smallest files
QUALITIES = 100
#: hyper-latents are from -64 to 63, latents from -2048 to 2047
HYPER_RANGE = 64
LATENT_RANGE = 2048

_MOST_GRADES = QUALITIES - 1
_HYPER_CELLS = 4  # cells of the latents' grid a side in a cell of the hyper-latent's
_UNIT = 0.4  # latents of a fresh model are orthonormal coefficients of images in [-1, 1] times this
_GAIN = 5.0  # and this at the middle quality: a rounding step of 1/2, about 64 of 255 levels
_HYPER_GAIN = 4.0
_GAIN_RANGE = math.sqrt(50.0)  # between the first and the last point: distortion weights 50 apart


@dataclass(frozen=True, slots=True)
class ScalarLatentConfig:
    """Sizes of a scalar-latent tokenizer.

    Args:
        widths: channels of the transforms at 1/4, 1/8 and 1/16 of the resolution.
        blocks: their residual blocks there.
        slices: channels of each slice of latents, the most important first.
        hyper_channels: channels of the hyper-latent.
        hyper_width: channels of the layers that make it.
        points: qualities at which gains are free, spread evenly from the least to the highest.
    """

    widths: tuple[int, ...] = (48, 128, 160)
    blocks: tuple[int, ...] = (1, 2, 2)
    slices: tuple[int, ...] = (16, 32, 48, 96)
    hyper_channels: int = 64
    hyper_width: int = 64
    points: int = 8

    def __post_init__(self) -> None:
        if len(self.widths) != 3 or len(self.blocks) != 3 or min(*self.widths, *self.blocks) < 1:
            raise ConfigError(
                f"widths={self.widths}, blocks={self.blocks} given; expected three numbers of at "
                "least 1 in both, for 1/4, 1/8 and 1/16 of the resolution"
            )
        sizes = (*self.slices, self.hyper_channels, self.hyper_width)
        if not self.slices or min(sizes) < 1 or sum(self.slices) > 3 * PATCH * PATCH:
            raise ConfigError(
                f"slices={self.slices}, hyper_channels={self.hyper_channels}, "
                f"hyper_width={self.hyper_width} given; expected at least 1 each, and up to "
                f"{3 * PATCH * PATCH} channels in all slices"
            )
        if self.points < 2:
            raise ConfigError(f"points={self.points} given; expected at least 2")

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return sum(self.slices)


class ScaledLatents(NamedTuple):
    """Float32 latents in units of the rounding step, before rounding.

    Args:
        latents: ``(B, M, h, w)``.
        hyper: ``(B, Z, h/4, w/4)``.
    """

    latents: Tensor
    hyper: Tensor


@register(
    "scalar_latent",
    config=ScalarLatentConfig,
    presets=(
        Preset(
            "scalar-latent-f16-c192",
            ScalarLatentConfig(),
            paper="1802.01436, 2003.02012, 2203.10886",
            note="to be trained together with its prior",
        ),
        Preset(
            "scalar-latent-tiny",
            ScalarLatentConfig(
                widths=(8, 8, 12),
                blocks=(1, 1, 1),
                slices=(4, 8),
                hyper_channels=4,
                hyper_width=8,
                points=3,
            ),
            note="for tests",
        ),
    ),
)
class ScalarLatentTokenizer(Tokenizer):
    """Scalar latents with a quality.

    Example:
        >>> model = ScalarLatentTokenizer(ScalarLatentConfig())
        >>> [level.grid for level in model.layout(512, 768).levels][:3]
        [(8, 12), (8, 12), (32, 48)]
    """

    config: ScalarLatentConfig

    def __init__(self, config: ScalarLatentConfig) -> None:
        super().__init__(config)
        channels = config.channels
        self.analysis = Analysis(channels, widths=config.widths, blocks=config.blocks)
        self.synthesis = Synthesis(channels, widths=config.widths, blocks=config.blocks)
        self.hyper_analysis = HyperAnalysis(
            channels, width=config.hyper_width, outputs=config.hyper_channels
        )
        # the best step goes with the inverse root of the weight of the distortion
        steps = torch.linspace(-0.5, 0.5, config.points)[:, None] * math.log(_GAIN_RANGE)
        self.log_gain = nn.Parameter((steps + math.log(_GAIN)).repeat(1, channels))
        self.log_inverse_gain = nn.Parameter(-self.log_gain.detach().clone())
        self.log_hyper_gain = nn.Parameter(
            torch.full((config.points, config.hyper_channels), math.log(_HYPER_GAIN))
        )
        self._quality = QUALITIES // 2

    @property
    def stride(self) -> int:
        """Pixels of a cell of the hyper-latent."""
        return PATCH * _HYPER_CELLS

    @property
    def halo(self) -> int:
        """Pixels that encoder or decoder see beyond a tile, hyper-latent included."""
        hyper = PATCH + 2 * PATCH + 4 * PATCH  # one cell of each of its three convolutions
        return -(-(reach(self.config.blocks) + hyper) // self.stride) * self.stride

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout: qualities, hyper-latent, slices of latents."""
        coarse = (-(-height // self.stride), -(-width // self.stride))
        fine = (coarse[0] * _HYPER_CELLS, coarse[1] * _HYPER_CELLS)
        levels = (
            LevelLayout(coarse, (QUALITIES,)),
            LevelLayout(coarse, (2 * HYPER_RANGE,) * self.config.hyper_channels),
            *(LevelLayout(fine, (2 * LATENT_RANGE,) * count) for count in self.config.slices),
        )
        return TokenLayout(levels, (height, width), self.space_id)

    def space_tensors(self) -> dict[str, Tensor]:
        """The gains and the last layer of the analysis; the synthesis may be fine-tuned."""
        return {
            "log_gain": self.log_gain,
            "log_hyper_gain": self.log_hyper_gain,
            "last": self.analysis.last.weight,
        }

    def at_quality(self, quality: int) -> ScalarLatentTokenizer:
        """Return this tokenizer, weights shared, encoding at another quality by default.

        Args:
            quality: 0 for the smallest files to 99.

        Raises:
            ShapeError: if the quality is out of range.
        """
        if not 0 <= quality < QUALITIES:
            raise ShapeError(f"quality={quality} given; expected 0 to {QUALITIES - 1}")
        other = copy.copy(self)
        other._quality = quality
        return other

    @overload
    def encode(
        self,
        images: Tensor | Picture,
        *,
        deterministic: bool = False,
        quality: int | None = None,
    ) -> Tokens: ...

    @overload
    def encode(
        self,
        images: list[Tensor | Picture],
        *,
        deterministic: bool = False,
        quality: int | None = None,
    ) -> list[Tokens]: ...

    def encode(
        self,
        images: Tensor | Picture | list[Tensor | Picture],
        *,
        deterministic: bool = False,
        quality: int | None = None,
    ) -> Tokens | list[Tokens]:
        """Turn pictures into tokens, as every tokenizer does.

        Args:
            images: see :meth:`tessella.tokenizers.base.Tokenizer.encode`.
            deterministic: the same.
            quality: 0 for the smallest files to 99; that of :meth:`at_quality`, or 50, if None.

        Raises:
            ShapeError: if images or quality are not as expected.
        """
        if quality is not None:
            return self.at_quality(quality).encode(images, deterministic=deterministic)
        return super().encode(images, deterministic=deterministic)

    # ---- the parts that training needs -----------------------------------------------------

    def scaled_latents(self, images: Tensor, quality: Tensor) -> ScaledLatents:
        """Analyse images.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1], sides multiples of 64.
            quality: ``(B, 1, 1)`` or a map ``(B, H/64, W/64)``, from 0 to 99; need not be whole.
        """
        coefficients = self.analysis(images).float()
        latents = coefficients * _spread(self._gains(self.log_gain, quality))
        hyper = self.hyper_analysis(torch.asinh(latents).to(self.dtype)).float()
        return ScaledLatents(latents, hyper * self._gains(self.log_hyper_gain, quality))

    def synthesised(self, latents: Tensor, quality: Tensor) -> Tensor:
        """Reconstruct images ``(B, 3, 16 h, 16 w)``, not clamped, from latents in steps.

        Args:
            latents: ``(B, M, h, w)``.
            quality: as above.
        """
        scaled = latents * _spread(self._gains(self.log_inverse_gain, quality))
        return self.synthesis(scaled.to(self.dtype))  # type: ignore[no-any-return]

    def point_weights(self, quality: Tensor) -> Tensor:
        """Return the shares ``(B, h, w, points)`` of the trained points in qualities."""
        points = self.config.points
        place = quality.float()[..., None] * ((points - 1) / _MOST_GRADES)
        return (1 - (place - torch.arange(points, device=place.device)).abs()).clamp(min=0)

    def _gains(self, logarithms: Tensor, quality: Tensor) -> Tensor:
        """Interpolate gains ``(B, C, h, w)`` at qualities ``(B, h, w)``."""
        mixed = self.point_weights(quality) @ logarithms.float()
        return mixed.exp().permute(0, 3, 1, 2)

    # ---- what the base class asks for ------------------------------------------------------

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Start from the principal components of the patches."""
        patches = F.pixel_unshuffle(images, PATCH).permute(0, 2, 3, 1).flatten(0, 2).double()
        mean = patches.mean(dim=0)
        centred = patches - mean
        _, vectors = torch.linalg.eigh(centred.mT @ centred)
        basis = vectors.flip(1)[:, : self.config.channels].to(self.dtype)
        self.analysis.set_basis(_UNIT * basis.mT, mean.to(self.dtype))
        self.synthesis.set_basis(basis / _UNIT, mean.to(self.dtype))

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct a batch, each picture at a random quality.

        The loss is the mean logarithm of magnitudes, a stand-in for the rate where no prior is
        trained beside.
        """
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.stride)
        drawn = torch.randint(QUALITIES, (len(images), 1, 1), generator=generator)
        quality = drawn.to(images.device)
        scaled = self.scaled_latents(padded, quality)
        latents, hyper = rounded(scaled)
        maps = quality.expand(-1, *hyper.shape[-2:])
        tokens = Tokens(self._levels(maps, hyper, latents), self.layout(height, width))
        magnitude = scaled.latents.abs().log1p().mean() + scaled.hyper.abs().log1p().mean()
        outputs = self.synthesised(latents, quality)[..., :height, :width]
        return TokenizerOutput(outputs, tokens, {"magnitude": 0.01 * magnitude}, {})

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        batch, _, height, width = images.shape
        grid = (batch, height // self.stride, width // self.stride)
        quality = torch.full(grid, self._quality, device=images.device)
        latents, hyper = rounded(self.scaled_latents(images, quality))
        return self._levels(quality, hyper, latents)

    def _levels(self, quality: Tensor, hyper: Tensor, latents: Tensor) -> tuple[Tensor, ...]:
        slices = torch.split(latents + LATENT_RANGE, list(self.config.slices), dim=1)
        last = (hyper + HYPER_RANGE, *slices)
        return (quality[..., None], *(level.long().permute(0, 2, 3, 1) for level in last))

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        quality = tokens.levels[0][..., 0]
        batch, height, width = quality.shape
        grid = (height * _HYPER_CELLS, width * _HYPER_CELLS)
        latents = torch.zeros(batch, self.config.channels, *grid, device=self.device)
        start = 0
        for level in tokens.levels[2:]:
            latents[:, start : start + level.shape[-1]] = level.permute(0, 3, 1, 2) - LATENT_RANGE
            start += level.shape[-1]
        return self.synthesised(latents.contiguous(memory_format=torch.channels_last), quality)


def rounded(scaled: ScaledLatents) -> ScaledLatents:
    """Round to integers within range; gradients pass as if nothing was done."""
    return ScaledLatents(
        _rounded(scaled.latents, LATENT_RANGE), _rounded(scaled.hyper, HYPER_RANGE)
    )


def _rounded(values: Tensor, bound: int) -> Tensor:
    return values + (values.round().clamp(-bound, bound - 1) - values).detach()


def _spread(gains: Tensor) -> Tensor:
    """Give every latent the gain of its cell of the hyper-latent's grid."""
    if gains.shape[-1] == gains.shape[-2] == 1:
        return gains
    return F.interpolate(gains, scale_factor=_HYPER_CELLS, mode="nearest")


__all__ = [
    "HYPER_RANGE",
    "LATENT_RANGE",
    "QUALITIES",
    "ScalarLatentConfig",
    "ScalarLatentTokenizer",
    "ScaledLatents",
    "rounded",
]
