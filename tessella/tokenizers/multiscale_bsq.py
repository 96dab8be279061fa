"""Infinity's tokenizer: a pyramid of bits (arXiv 2412.04431).

::

    image --encoder--> (D, h, w) --scales--> bits of the signs, from 1x1 to h x w
    bits --sum bilinear((2 bit - 1) / sqrt(D))--> f_hat --decoder--> image

    f_hat = sum_k up(q_k),   q_k = sign(area(f - sum of scales before)) / sqrt(D)

A position holds ``D`` indices with an alphabet of two each, which is what a bitwise generator
predicts; a codebook of 2^D is nowhere. The f8 model merges 2 x 2 positions into one token of
``4 D`` bits. Grids follow the aspect ratio, see
:mod:`~tessella.tokenizers.infinity_schedules`. The network has no attention, but normalises over
the whole picture: large pictures are tiled with overlap.

Bitwise self-correction trains a generator on its own mistakes: bits of the first scales are
flipped, and the bits of later scales are taken from what the flips left over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.infinity_schedules import infinity_schedule
from tessella.tokenizers.layers.full_precision import FullPrecisionConv2d
from tessella.tokenizers.layers.resampling import Grid, area
from tessella.tokenizers.layers.taming_network import taming_networks
from tessella.tokenizers.next_scale import NextScaleTokenizer
from tessella.tokenizers.quantizers.multiscale_bsq import MultiScaleBSQ
from tessella.tokenizers.registry import Preset, register
from tessella.tokenizers.scale_schedules import check_schedule, fit_schedule

_FLIP_STEPS = 100  # strengths are drawn in hundredths


@dataclass(frozen=True, slots=True)
class MultiScaleBSQConfig:
    """Sizes of a multi-scale BSQ tokenizer.

    Args:
        channels: width at full resolution.
        multipliers: factor of the width at each resolution, halved from one to the next; the first
            must be 1.
        blocks: residual blocks of an encoder level; a decoder level has one more.
        code_dim: width ``D`` of features and codes, in bits.
        is_patchified: whether a token is 2 x 2 positions of the feature map.
        schedule: token grids ``(h, w)`` of all scales; empty for Infinity's by aspect ratio.
        entropy_weight: factor of the entropy penalty.
        norm_groups: groups of the normalisations.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4, 4)
    blocks: int = 2
    code_dim: int = 32
    is_patchified: bool = False
    schedule: tuple[tuple[int, int], ...] = ()
    entropy_weight: float = 0.0
    norm_groups: int = 32

    def __post_init__(self) -> None:
        if not self.multipliers or self.multipliers[0] != 1:
            raise ConfigError(f"multipliers={self.multipliers} given; expected the first to be 1")
        if self.channels % self.norm_groups:
            raise ConfigError(
                f"channels={self.channels}, norm_groups={self.norm_groups} given; expected a "
                "multiple of the groups"
            )
        check_schedule("schedule", self.schedule)


class SelfCorrection(NamedTuple):
    """A training example of a generator that corrects itself.

    Args:
        levels: bits to predict, ``(B, h_k, w_k, G)`` a scale.
        inputs: what it reads for scales 1..S-1, ``(B, N, C)``, made of the flipped bits.
    """

    levels: tuple[Tensor, ...]
    inputs: Tensor


def _published(bits: int, note: str = "", name: str = "") -> Preset:
    return Preset(
        f"infinity-bsq-f16-{name or f'd{bits}'}",
        MultiScaleBSQConfig(code_dim=bits),
        "MIT",
        "2412.04431",
        "https://huggingface.co/FoundationVision/Infinity",
        note,
    )


@register(
    "multiscale_bsq",
    config=MultiScaleBSQConfig,
    presets=(
        _published(16),
        _published(24),
        _published(32),
        _published(64),
        _published(32, "of Infinity-2B", "d32reg"),
        Preset(
            "infinity-bsq-f8-d14-patchify",
            MultiScaleBSQConfig(multipliers=(1, 2, 4, 4), code_dim=14, is_patchified=True),
            "MIT",
            "2412.04431",
            "https://huggingface.co/FoundationVision/Infinity",
            "of Infinity-8B: 56 bits a token of 16 x 16 pixels",
        ),
        Preset(
            "multiscale-bsq-tiny",
            MultiScaleBSQConfig(
                channels=8,
                multipliers=(1, 2),
                blocks=1,
                code_dim=8,
                schedule=((1, 1), (2, 2), (4, 4), (8, 8), (16, 16)),
                norm_groups=4,
            ),
            note="for tests",
        ),
    ),
)
class MultiScaleBSQTokenizer(NextScaleTokenizer):
    """Convolutional tokenizer with one map of bits a scale.

    Example:
        >>> model = MultiScaleBSQTokenizer(MultiScaleBSQConfig(channels=32, code_dim=16))
        >>> layout = model.layout(256, 256)
        >>> len(layout.levels), sum(level.positions for level in layout.levels), layout.bits
        (7, 521, 8336.0)
    """

    config: MultiScaleBSQConfig
    quantizer: MultiScaleBSQ

    def __init__(self, config: MultiScaleBSQConfig) -> None:
        super().__init__(config)
        self.encoder, self.decoder = taming_networks(
            channels=config.channels,
            multipliers=config.multipliers,
            blocks=config.blocks,
            attention_levels=(),
            latent_channels=config.code_dim,
            norm_groups=config.norm_groups,
            has_middle_attention=False,
        )
        width = config.channels * config.multipliers[-1]
        # its signs are the tokens: a model that is cast keeps it
        self.encoder.conv_out = FullPrecisionConv2d(width, config.code_dim, 3, padding=1)
        self.quantizer = MultiScaleBSQ(config.code_dim, entropy_weight=config.entropy_weight)

    @property
    def patch(self) -> int:
        """Positions of the feature map along a token's side: 2 when patchified."""
        return 2 if self.config.is_patchified else 1

    @property
    def stride(self) -> int:
        """Pixels of a step of the finest token grid."""
        return int(2 ** (len(self.config.multipliers) - 1)) * self.patch

    def schedule(self, grid: Grid) -> tuple[Grid, ...]:
        """Return the token grids of all scales, of which ``grid`` is the last."""
        if self.config.schedule:
            return fit_schedule([self.config.schedule], grid)
        return infinity_schedule(grid)

    def space_tensors(self) -> dict[str, Tensor]:
        """The projection whose signs are the tokens: there is no codebook."""
        layer = cast(FullPrecisionConv2d, self.encoder.conv_out)
        return {f"encoder.conv_out.{name}": t for name, t in layer.state_dict().items()}

    def self_correction(
        self, features: Tensor, flips: Sequence[Tensor], grids: Sequence[Grid]
    ) -> SelfCorrection:
        """Make a training example from features and the bits to flip.

        Args:
            features: ``(B, D, h, w)``, not quantized.
            flips: booleans ``(B, h_k, w_k, D)`` on the feature map's grids, for the first scales;
                see :meth:`draw_flips`.
            grids: token grids of all scales.

        Raises:
            ShapeError: if there are more flips than scales.
        """
        if len(flips) > len(grids):
            raise ShapeError(f"flips of {len(flips)} scales given; expected at most {len(grids)}")
        features = features.float()
        total = self.empty_total(features.shape[0], grids)
        levels = []
        inputs = [total.new_zeros(total.shape[0], 0, self.input_channels)]
        for scale, grid in enumerate(self.fine(grids)):
            rest = area(features - total, grid).permute(0, 2, 3, 1)
            bits = self.quantizer.bits(rest)
            levels.append(self.merged(bits))
            if scale < len(flips):
                bits = bits ^ flips[scale].to(bits.dtype)
            codes = self.quantizer.indices_to_codes(bits)
            total, following = self.add_codes(total, codes, scale, grids)
            inputs.append(following.flatten(1, 2))
        return SelfCorrection(tuple(levels), torch.cat(inputs[:-1], dim=1))

    def draw_flips(
        self,
        batch: int,
        grids: Sequence[Grid],
        *,
        strength: float = 0.3,
        scales: int = 13,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Draw which bits to flip: each with a probability drawn anew for every scale.

        Args:
            batch: number of pictures.
            grids: token grids of all scales.
            strength: largest probability; a scale's is one of 0, 0.01, .. up to it.
            scales: number of first scales with flips.
            generator: of the CPU; None is torch's global one.

        Returns:
            Booleans ``(B, h_k, w_k, D)``, at most ``scales`` of them, on the model's device.
        """
        most = int(_FLIP_STEPS * strength + 0.5)
        flips = []
        for grid in self.fine(grids)[:scales]:
            drawn = int(torch.randint(most + 1, (), generator=generator))
            noise = torch.rand(batch, *grid, self.quantizer.dim, generator=generator)
            flips.append((noise < drawn / _FLIP_STEPS).to(self.device))
        return flips


__all__ = ["MultiScaleBSQConfig", "MultiScaleBSQTokenizer", "SelfCorrection"]
