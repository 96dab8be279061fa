"""VAR's tokenizer: a pyramid of vector-quantized maps (arXiv 2404.02905).

::

    image --encoder f16--> (32, h, w) --conv--> f --scales--> r_1 .. r_S, from 1x1 to h x w
    r_1 .. r_S --sum phi_k(bicubic(code))--> f_hat --conv--> decoder --> image

    f_hat = sum_k phi_k(up(e[r_k])),   r_k = nearest code of area(f - sum of scales before)

A picture of 256 x 256 is 10 maps of 680 indices in all, one of 512 x 512 10 maps of 2240; the
same weights serve both. Other sizes take these schedules in proportion, see
:mod:`~tessella.tokenizers.scale_schedules`. The network is the taming one with attention at the
lowest resolution, which is global: large pictures are tiled with overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from tessella.errors import ConfigError
from tessella.tokenizers.layers.resampling import Grid
from tessella.tokenizers.layers.taming_network import taming_networks
from tessella.tokenizers.next_scale import NextScaleTokenizer
from tessella.tokenizers.quantizers.multiscale_vq import MultiScaleVQ
from tessella.tokenizers.registry import Preset, register
from tessella.tokenizers.scale_schedules import check_schedule, fit_schedule, square

#: sides of the square maps of published models, for 256 and 512 pixels
VAR_SIDES = ((1, 2, 3, 4, 5, 6, 8, 10, 13, 16), (1, 2, 3, 4, 6, 9, 13, 18, 24, 32))


@dataclass(frozen=True, slots=True)
class MultiScaleVQConfig:
    """Sizes of a multi-scale VQ tokenizer.

    Args:
        channels: width at full resolution.
        multipliers: factor of the width at each resolution, halved from one to the next; the first
            must be 1. The last is followed by attention.
        blocks: residual blocks of an encoder level; a decoder level has one more.
        code_dim: width ``D`` of features and codes.
        codebook_size: ``K``.
        sides: schedules of square maps by their sides, one a resolution, ascending; the first
            is the one of training, whose hits are counted.
        phis: number of convolutions that the scales share.
        phi_ratio: share of the convolution in phi, 0 to 1; 0 for none.
        cosine: compare directions only.
        kernel: size of the convolutions around the quantizer.
        commitment_weight: ``beta``.
        norm_groups: groups of the normalisations.
        revive_below: codes with fewer hits than this share of an equal share are replaced in
            training; 0 for never.
    """

    channels: int = 160
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    code_dim: int = 32
    codebook_size: int = 4096
    sides: tuple[tuple[int, ...], ...] = VAR_SIDES
    phis: int = 4
    phi_ratio: float = 0.5
    cosine: bool = False
    kernel: int = 3
    commitment_weight: float = 0.25
    norm_groups: int = 32
    revive_below: float = 0.0

    def __post_init__(self) -> None:
        if not self.multipliers or self.multipliers[0] != 1:
            raise ConfigError(f"multipliers={self.multipliers} given; expected the first to be 1")
        if self.channels % self.norm_groups:
            raise ConfigError(
                f"channels={self.channels}, norm_groups={self.norm_groups} given; expected a "
                "multiple of the groups"
            )
        if not self.sides or not all(self.sides):
            raise ConfigError(f"sides={self.sides} given; expected at least one schedule")
        for sides in self.sides:
            check_schedule("sides", square(sides))
        check_schedule("sides", [square(sides)[-1] for sides in self.sides])
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel={self.kernel} given; expected an odd size")


@register(
    "multiscale_vq",
    config=MultiScaleVQConfig,
    presets=(
        Preset(
            "var-vq-f16",
            MultiScaleVQConfig(),
            "MIT",
            "2404.02905",
            "https://huggingface.co/FoundationVision/var",
            "one set of weights for 256 and 512 pixels",
        ),
        Preset(
            "multiscale-vq-small",
            MultiScaleVQConfig(
                channels=16,
                multipliers=(1, 2, 4, 4),
                blocks=1,
                code_dim=16,
                codebook_size=1024,
                sides=((1, 2, 3, 4, 6, 8),),
                norm_groups=8,
                revive_below=0.05,
            ),
            note="to be trained, for pictures of 64 pixels",
        ),
        Preset(
            "multiscale-vq-tiny",
            MultiScaleVQConfig(
                channels=8,
                multipliers=(1, 2, 2),
                blocks=1,
                code_dim=8,
                codebook_size=32,
                sides=((1, 2, 4, 8),),
                phis=2,
                norm_groups=4,
            ),
            note="for tests",
        ),
    ),
)
class MultiScaleVQTokenizer(NextScaleTokenizer):
    """Convolutional tokenizer with one map of indices a scale.

    Example:
        >>> sizes = {"channels": 32, "codebook_size": 64, "code_dim": 8}
        >>> model = MultiScaleVQTokenizer(MultiScaleVQConfig(**sizes))
        >>> model.layout(256, 256).num_values, model.layout(512, 512).num_values
        (680, 2240)
    """

    config: MultiScaleVQConfig

    def __init__(self, config: MultiScaleVQConfig) -> None:
        super().__init__(config)
        self.encoder, self.decoder = taming_networks(
            channels=config.channels,
            multipliers=config.multipliers,
            blocks=config.blocks,
            attention_levels=(len(config.multipliers) - 1,),
            latent_channels=config.code_dim,
            norm_groups=config.norm_groups,
        )
        padding = config.kernel // 2
        self.quant_conv = nn.Conv2d(
            config.code_dim, config.code_dim, config.kernel, padding=padding
        )
        self.quantizer = MultiScaleVQ(
            config.code_dim,
            config.codebook_size,
            scales=len(config.sides[0]),
            phis=config.phis,
            phi_ratio=config.phi_ratio,
            cosine=config.cosine,
            commitment_weight=config.commitment_weight,
            revive_below=config.revive_below,
        )
        self.post_quant_conv = nn.Conv2d(
            config.code_dim, config.code_dim, config.kernel, padding=padding
        )

    @property
    def stride(self) -> int:
        """Pixels of a step of the finest grid."""
        return int(2 ** (len(self.config.multipliers) - 1))

    def schedule(self, grid: Grid) -> tuple[Grid, ...]:
        """Return the grids of all scales, of which ``grid`` is the last."""
        return fit_schedule([square(sides) for sides in self.config.sides], grid)

    def space_tensors(self) -> dict[str, Tensor]:
        """The codebook and phi: what indices add to the feature map."""
        return dict(self.quantizer.named_parameters())

    def images_to_features(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to unquantized features ``(B, D, h, w)``."""
        features: Tensor = self.quant_conv(self.encoder(images))
        return features

    def features_to_images(self, features: Tensor) -> Tensor:
        """Map features ``(B, D, h, w)`` to images ``(B, 3, H, W)``, not clamped."""
        images: Tensor = self.decoder(self.post_quant_conv(features.to(self.dtype)))
        return images


__all__ = ["VAR_SIDES", "MultiScaleVQConfig", "MultiScaleVQTokenizer"]
