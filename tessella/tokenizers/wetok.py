"""WeTok: group-wise lookup-free codes of a large convolutional network, optionally with noise.

::

    image --encoder f8/f16/f32--> latent (h, w, Z) --signs--> G groups of d bits, Z = G d
    codes in {-1, +1}^Z [; noise] --decoder, normalised by the style of the codes--> image

    c = sign(u)     index of group k = sum_j 2^j [u_(k d + j) > 0]

WeTok (arXiv 2508.05599) splits the bits of a position into groups, so that the entropy penalty of
training needs no table of 2^Z codes. Its *generative decoder* also takes Gaussian noise, beside the
codes in its first convolution, for rates at which codes leave much open. Open-MAGVIT2 (arXiv
2409.04410) is the same network with a single group.

There is no attention: the cost is linear in pixels. Normalisations see the whole picture, so tiles
of very large pictures are approximate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from tessella.config import to_dict
from tessella.errors import ConfigError, ShapeError
from tessella.identity import object_digest
from tessella.tokenizers.base import Tokenizer, TokenizerOutput
from tessella.tokenizers.layers.adaptive_norm import AdaptiveGroupNorm, Style, style_of
from tessella.tokenizers.layers.full_precision import FullPrecisionConv2d
from tessella.tokenizers.layers.norm_residual import NormSiLU, residual_blocks
from tessella.tokenizers.quantizers import GQ, EntropyConfig
from tessella.tokenizers.quantizers.entropy import MAX_EXACT_BITS
from tessella.tokenizers.registry import Preset, register
from tessella.tokens import LevelLayout, TokenLayout, Tokens


@dataclass(frozen=True, slots=True)
class WeTokConfig:
    """Sizes of a WeTok tokenizer.

    Args:
        channels: unit of the widths.
        multipliers: factor of the width at each resolution, halved from one to the next.
        blocks: residual blocks of a level, and of the middle.
        groups: indices ``G`` of a position.
        group_bits: bits ``d`` of an index.
        is_generative: whether the decoder takes noise.
        norm_groups: groups of the normalisations; all widths are multiples of it.
        entropy_reduction: ``pooled_mean`` as in the released code, which averages over groups and
            pools them into one histogram, or ``per_group_sum`` as in the paper, which is about
            ``G`` times as large.
        entropy_weight: factor of the entropy penalty.
        commitment_weight: factor of the commitment term.
    """

    channels: int = 256
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 4
    groups: int = 4
    group_bits: int = 8
    is_generative: bool = False
    norm_groups: int = 32
    entropy_reduction: Literal["pooled_mean", "per_group_sum"] = "pooled_mean"
    entropy_weight: float = 0.1
    commitment_weight: float = 0.25

    def __post_init__(self) -> None:
        if not self.multipliers or min(self.multipliers) < 1 or self.blocks < 1:
            raise ConfigError(
                f"multipliers={self.multipliers}, blocks={self.blocks} given; expected at least "
                "one multiplier and one block, none below 1"
            )
        if self.norm_groups < 1 or self.channels < 1 or self.channels % self.norm_groups:
            raise ConfigError(
                f"channels={self.channels}, norm_groups={self.norm_groups} given; expected a "
                "multiple of the groups"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Width at each resolution, the full one first."""
        return tuple(self.channels * factor for factor in self.multipliers)

    @property
    def latent_channels(self) -> int:
        """Bits ``Z`` of a position."""
        return self.groups * self.group_bits


class _EncoderLevel(nn.Module):
    def __init__(self, inputs: int, outputs: int, config: WeTokConfig, *, is_last: bool) -> None:
        super().__init__()
        self.blocks = residual_blocks(
            config.blocks, inputs, outputs, norm_groups=config.norm_groups
        )
        self.down: nn.Module = nn.Identity()
        if not is_last:
            self.down = nn.Conv2d(outputs, outputs, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.down(self.blocks(x)))


class _Encoder(nn.Module):
    def __init__(self, config: WeTokConfig) -> None:
        super().__init__()
        widths, last = config.widths, config.widths[-1]
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1, bias=False)
        self.levels = nn.Sequential(
            *(
                _EncoderLevel(before, width, config, is_last=i == len(widths) - 1)
                for i, (before, width) in enumerate(
                    zip((config.channels, *widths), widths, strict=False)
                )
            )
        )
        self.middle = residual_blocks(config.blocks, last, last, norm_groups=config.norm_groups)
        self.norm_out = NormSiLU(last, norm_groups=config.norm_groups)
        # the signs of its outputs are the tokens
        self.conv_out = FullPrecisionConv2d(last, config.latent_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to latents ``(B, Z, h, w)``."""
        x = self.middle(self.levels(self.conv_in(images)))
        return cast(Tensor, self.conv_out(self.norm_out(x)))


class _DecoderLevel(nn.Module):
    def __init__(self, inputs: int, outputs: int, config: WeTokConfig, *, is_last: bool) -> None:
        super().__init__()
        self.norm = AdaptiveGroupNorm(
            inputs, config.latent_channels, norm_groups=config.norm_groups
        )
        self.blocks = residual_blocks(
            config.blocks, inputs, outputs, norm_groups=config.norm_groups
        )
        self.up: nn.Module = nn.Identity()
        if not is_last:
            self.up = nn.Sequential(
                nn.Conv2d(outputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2)
            )

    def forward(self, x: Tensor, style: Style) -> Tensor:
        return cast(Tensor, self.up(self.blocks(self.norm(x, style))))


class _Decoder(nn.Module):
    def __init__(self, config: WeTokConfig) -> None:
        super().__init__()
        widths = config.widths[::-1]  # from the lowest resolution up
        inputs = config.latent_channels * (2 if config.is_generative else 1)
        self.conv_in = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.middle = residual_blocks(
            config.blocks, widths[0], widths[0], norm_groups=config.norm_groups
        )
        self.levels = nn.ModuleList(
            _DecoderLevel(before, width, config, is_last=i == len(widths) - 1)
            for i, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.norm_out = NormSiLU(widths[-1], norm_groups=config.norm_groups)
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, codes: Tensor, noise: Tensor | None) -> Tensor:
        """Map codes ``(B, Z, h, w)``, and noise like them, to images ``(B, 3, H, W)``."""
        style = style_of(codes)  # of the codes alone: noise enters nowhere else
        x = self.conv_in(codes if noise is None else torch.cat([codes, noise], dim=1))
        x = self.middle(x)
        for level in self.levels:
            x = level(x, style)
        return cast(Tensor, self.conv_out(self.norm_out(x)))


_PAPER = "2508.05599"
_SOURCE = "https://huggingface.co/GrayShine/WeTok"
_F8, _F16, _F32 = (1, 2, 2, 4), (1, 1, 2, 2, 4), (1, 1, 2, 2, 4, 8)


def _wetok(name: str, config: WeTokConfig, note: str) -> Preset:
    return Preset(f"wetok-{name}", config, "Apache-2.0", _PAPER, _SOURCE, note)


def _open_magvit2(name: str, multipliers: tuple[int, ...], bits: int, note: str) -> Preset:
    return Preset(
        f"open-magvit2-{name}",
        WeTokConfig(channels=128, multipliers=multipliers, groups=1, group_bits=bits),
        "Apache-2.0",
        "2409.04410",
        "https://github.com/TencentARC/SEED-Voken",
        note,
    )


@register(
    "wetok",
    config=WeTokConfig,
    presets=(
        _wetok("f8", WeTokConfig(multipliers=_F8), "ImageNet/downsample8"),
        _wetok("f16", WeTokConfig(multipliers=_F16), "ImageNet/downsample16"),
        _wetok("f8-ratio24", WeTokConfig(multipliers=_F8, groups=8), "GeneralDomain/compratio24"),
        _wetok("f8-ratio48", WeTokConfig(multipliers=_F8), "GeneralDomain/compratio48"),
        _wetok("f16-ratio192", WeTokConfig(multipliers=_F16), "GeneralDomain/compratio192"),
        _wetok(
            "f32-ratio768",
            WeTokConfig(multipliers=_F32, is_generative=True),
            "GeneralDomain/compratio768, generative decoder",
        ),
        _open_magvit2("f8-262144", _F8, 18, "imagenet_128_L"),
        _open_magvit2("f16-262144", _F16, 18, "imagenet_256_L"),
        _open_magvit2("f16-pretrain-262144", _F16, 18, "pretrain256_262144"),
        _open_magvit2("f16-pretrain-16384", _F16, 14, "pretrain256_16384"),
        Preset(
            "wetok-tiny",
            WeTokConfig(
                channels=8, multipliers=(1, 2), blocks=1, groups=2, group_bits=4, norm_groups=4
            ),
            note="for tests",
        ),
    ),
)
class WeTok(Tokenizer):
    """Convolutional tokenizer with group-wise lookup-free codes.

    Example:
        >>> model = WeTok(WeTokConfig(channels=32, blocks=1))
        >>> model.layout(256, 256).levels[0].grid, model.layout(256, 256).bits
        ((16, 16), 8192.0)
    """

    config: WeTokConfig

    def __init__(self, config: WeTokConfig) -> None:
        super().__init__(config)
        self.encoder = _Encoder(config)
        self.decoder = _Decoder(config)
        entropy = EntropyConfig(
            weight=config.entropy_weight,
            reduction=config.entropy_reduction,
            marginal="exact" if config.group_bits <= MAX_EXACT_BITS else "auto",
        )
        self.quantizer = GQ(
            config.groups,
            config.group_bits,
            entropy=entropy,
            commitment_weight=config.commitment_weight,
        )

    @property
    def stride(self) -> int:
        """Pixels of a grid step."""
        return int(2 ** (len(self.config.multipliers) - 1))

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout: one level of ``G`` indices a position."""
        grid = (-(-height // self.stride), -(-width // self.stride))
        level = LevelLayout(grid, self.quantizer.vocab_sizes)
        return TokenLayout((level,), (height, width), self.space_id)

    def space_tensors(self) -> dict[str, Tensor]:
        """The projection whose signs are the tokens: there is no codebook.

        It stands for the whole encoder, which is not trained without it, and is quick to hash.
        """
        return {f"encoder.conv_out.{n}": t for n, t in self.encoder.conv_out.state_dict().items()}

    @property
    def space_id(self) -> str:
        """Identity of the token space; a generative decoder of a plain model's tokens shares it."""
        config = to_dict(replace(self.config, is_generative=False))
        record = {"tokenizer": self.family, "config": config}
        return object_digest(record, self.space_tensors()).hex()

    def images_to_latents(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to unquantized vectors ``(B, h, w, Z)``, float32."""
        return cast(Tensor, self.encoder(images)).permute(0, 2, 3, 1)

    def latents_to_images(self, latents: Tensor, noise: Tensor | None = None) -> Tensor:
        """Map codes to images, not clamped.

        Args:
            latents: codes ``(B, h, w, Z)``.
            noise: ``(B, Z, h, w)`` for a generative decoder; None is zero noise.

        Returns:
            Images ``(B, 3, H, W)``.
        """
        codes = latents.permute(0, 3, 1, 2).contiguous()
        if self.config.is_generative:
            noise = torch.zeros_like(codes) if noise is None else noise.to(codes).contiguous()
        return cast(Tensor, self.decoder(codes, noise))

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct a batch with the quantizer's losses.

        In training a generative decoder draws fresh noise: from ``generator``, or from torch's
        global one without it.
        """
        found = self.quantizer(self.images_to_latents(images))
        noise = None
        if self.config.is_generative and (self.training or generator is not None):
            noise = _draw(found.z_q, generator)
        tokens = Tokens((found.indices,), self.layout(*images.shape[-2:]))
        outputs = self.latents_to_images(found.z_q.to(self.dtype), noise)
        return TokenizerOutput(outputs, tokens, found.losses, found.stats)

    def decode(
        self,
        tokens: Tokens,
        *,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Turn tokens into pictures ``(B, 3, H, W)`` in [-1, 1], clamped and cropped.

        Args:
            tokens: whole tokens of this tokenizer.
            generator: source of a generative decoder's noise; unused by a plain one. With neither
                generator nor noise, the noise is zero: every call gives the same picture.
            noise: the noise itself, ``(B, Z, h, w)`` floats, for a generative decoder.

        Raises:
            ShapeError: if the tokens are of another token space, or the noise does not fit.
        """
        if noise is None:
            return super().decode(tokens, generator=generator)
        self.check_tokens(tokens)
        self._check_noise(noise, generator, tokens)
        height, width = tokens.layout.image_size
        with self._inference():
            images = self.latents_to_images(self._codes(tokens), noise)
        return images[..., :height, :width].float().clamp(-1, 1)

    def with_noise(self) -> WeTok:
        """Return a copy with a generative decoder, which starts by ignoring its noise.

        The second stage of training starts from it, with a frozen encoder.

        Raises:
            ConfigError: if the decoder is generative already.
        """
        if self.config.is_generative:
            raise ConfigError("a generative model given; expected one with a plain decoder")
        model = WeTok(replace(self.config, is_generative=True))
        state = self.state_dict()
        weight = state["decoder.conv_in.weight"]
        state["decoder.conv_in.weight"] = torch.cat([weight, torch.zeros_like(weight)], dim=1)
        model.load_state_dict(state)
        return model.to(self.device, self.dtype).train(self.training)

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.quantizer.codes_to_indices(self.images_to_latents(images)),)

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        codes = self._codes(tokens)
        is_noisy = self.config.is_generative and generator is not None
        return self.latents_to_images(codes, _draw(codes, generator) if is_noisy else None)

    def _codes(self, tokens: Tokens) -> Tensor:
        """Return the exact codes, ``(B, h, w, Z)``."""
        return self.quantizer.indices_to_codes(tokens.levels[0].to(self.device)).to(self.dtype)

    def _check_noise(
        self, noise: Tensor, generator: torch.Generator | None, tokens: Tokens
    ) -> None:
        if not self.config.is_generative:
            raise ShapeError("noise given to a plain decoder, which takes none: leave it out")
        if generator is not None:
            raise ShapeError("noise and a generator given; expected one of them")
        batch, *grid, _ = tokens.levels[0].shape
        expected = (batch, self.config.latent_channels, *grid)
        if tuple(noise.shape) != expected or not noise.is_floating_point():
            raise ShapeError(
                f"noise of shape {tuple(noise.shape)} and dtype {noise.dtype} given; "
                f"expected floats {expected}"
            )


def _draw(codes: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw noise ``(B, Z, h, w)`` for codes ``(B, h, w, Z)``, on the generator's device."""
    batch, height, width, channels = codes.shape
    device = codes.device if generator is None else generator.device
    return torch.randn(batch, channels, height, width, generator=generator, device=device)


__all__ = ["WeTok", "WeTokConfig"]
