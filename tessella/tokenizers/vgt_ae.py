"""VGT-AE: latents for generation from the vision tower of a language model (arXiv 2511.23469).

::

    image --ViT, patches of 14--> 2 x 2 patches merge --perceptron--> semantic features (h, w, D)
    features --residual blocks, narrow--> latents (h, w, C), each normalised over its channels
    latents --deep compression decoder, 32x--> bilinear to 28 pixels a position --> image

The vision tower sees the picture as it does in front of its language model, so that latents keep
what the model understands; the decoder is that of AutoencoderDC, diffusers' module. Training adds
noise of a random strength to the latents, which are then robust to a generator's errors.

The tower is a timm model. Where it runs elsewhere, hand its patch features to
:meth:`VGTAE.encode_features`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.latent import Latents, LatentTokenizer, check_scale
from tessella.tokenizers.layers.resampling import interpolated
from tessella.tokenizers.layers.semantic import Teacher, TeacherConfig
from tessella.tokenizers.registry import Preset, register
from tessella.tokens import Tokens

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_MERGE = 2  # patches along a side of a token
_DEPTH = 3  # residual blocks of the published bottleneck
_EPS = 1e-6


def _intern() -> TeacherConfig:
    return TeacherConfig(
        "vit_intern300m_patch14_448", 1024, patch=14, mean=_IMAGENET_MEAN, std=_IMAGENET_STD
    )


@dataclass(frozen=True, slots=True)
class VGTAEConfig:
    """Sizes of a VGT-AE.

    Args:
        image_size: side in pixels of the pictures that the tower was trained on.
        teacher: the vision tower.
        feature_width: channels ``D`` of the semantic features, those of the language model.
        latent_channels: ``C``.
        is_normalised: whether every latent is normalised over its channels.
        noise: largest strength of the noise on latents in training.
        widths: channels of the decoder at each resolution, full resolution first.
        decoder_blocks: its blocks at each resolution, in the same order.
        attention_from: first level whose blocks are linear attention rather than convolutions.
        kernel_sizes: convolutions that add queries, keys and values at further scales.
        head_dim: width of an attention head.
        scale: factor of the tokens, see :mod:`tessella.tokenizers.latent`.
        shift: what is subtracted before.
    """

    image_size: int = 448
    teacher: TeacherConfig = field(default_factory=_intern)
    feature_width: int = 896
    latent_channels: int = 32
    is_normalised: bool = True
    noise: float = 0.1
    widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    decoder_blocks: tuple[int, ...] = (3, 3, 3, 3, 3, 3)
    attention_from: int = 3
    kernel_sizes: tuple[int, ...] = (5,)
    head_dim: int = 32
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        check_scale(self)
        if not self.widths or len(self.widths) != len(self.decoder_blocks):
            raise ConfigError(
                f"widths={self.widths}, decoder_blocks={self.decoder_blocks} given; expected one "
                "number a resolution"
            )
        if self.widths[-1] % self.latent_channels:
            raise ConfigError(
                f"latent_channels={self.latent_channels} given; expected a divisor of the last "
                f"width, {self.widths[-1]}"
            )
        if self.noise < 0 or self.feature_width < 1:
            raise ConfigError(
                f"noise={self.noise}, feature_width={self.feature_width} given; expected 0 or more "
                "and at least 1"
            )


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.LayerNorm(width, eps=_EPS),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(..., D)``."""
        result: Tensor = x + self.mlp(x)
        return result


def _decoder(config: VGTAEConfig) -> nn.Module:
    """Return diffusers' decoder of these sizes."""
    from diffusers.models.autoencoders.autoencoder_dc import Decoder

    attends = [level >= config.attention_from for level in range(len(config.widths))]
    kinds: Any = tuple("EfficientViTBlock" if attend else "ResBlock" for attend in attends)
    decoder: nn.Module = Decoder(
        in_channels=3,
        latent_channels=config.latent_channels,
        attention_head_dim=config.head_dim,
        block_type=kinds,
        block_out_channels=config.widths,
        layers_per_block=config.decoder_blocks,
        qkv_multiscales=tuple(config.kernel_sizes if a else () for a in attends),
        norm_type="rms_norm",
        act_fn="silu",
        upsample_block_type="interpolate",
    )
    return decoder


@register(
    "vgt_ae",
    config=VGTAEConfig,
    presets=(
        Preset(
            "vgt-ae-internvl3-1b",
            VGTAEConfig(),
            "MIT",
            "2511.23469",
            "https://huggingface.co/hustvl/vgt_ae",
            "vision tower of InternVL3-1B",
        ),
        Preset(
            "vgt-ae-tiny",
            VGTAEConfig(
                image_size=32,
                teacher=TeacherConfig(
                    "vit_tiny_patch16_224",
                    24,
                    depth=1,
                    patch=4,
                    mean=_IMAGENET_MEAN,
                    std=_IMAGENET_STD,
                ),
                feature_width=16,
                latent_channels=8,
                widths=(8, 16, 16),
                decoder_blocks=(1, 1, 1),
                attention_from=2,
                head_dim=8,
            ),
            note="for tests",
        ),
    ),
)
class VGTAE(LatentTokenizer):
    """Vision tower, narrow bottleneck and deep compression decoder.

    Example:
        >>> model = VGTAE(VGTAEConfig(
        ...     teacher=TeacherConfig("", 32, patch=14), feature_width=32, widths=(32,) * 6,
        ...     decoder_blocks=(1,) * 6))
        >>> model.layout(448, 448).levels[0].grid
        (16, 16)
    """

    config: VGTAEConfig

    def __init__(self, config: VGTAEConfig) -> None:
        super().__init__(config)
        merged, width = _MERGE**2 * config.teacher.width, config.feature_width
        self.teacher: Teacher | None = None
        if config.teacher.architecture:
            self.teacher = Teacher(config.teacher, config.image_size)
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(merged), nn.Linear(merged, width), nn.GELU(), nn.Linear(width, width)
        )
        self.down_blocks = nn.Sequential(*(_ResidualBlock(width) for _ in range(_DEPTH)))
        channels = config.latent_channels
        self.down_mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, channels),
            nn.GELU(),
            nn.Linear(channels, channels),
        )
        self.decoder = _decoder(config)

    @property
    def stride(self) -> int:
        """Pixels of a grid step: two patches."""
        return _MERGE * self.config.teacher.patch

    def space_tensors(self) -> dict[str, Tensor]:
        """The last layer of the encoder."""
        return dict(self.down_mlp[-1].state_dict())

    def images_to_latents(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to latents ``(B, h, w, C)``.

        Raises:
            ConfigError: if the model was made without a vision tower.
        """
        if self.teacher is None:
            raise ConfigError(
                "this model was made without a vision tower (teacher.architecture is empty); call "
                "encode_features() with the features of one, or convert a checkpoint that has it"
            )
        patch = self.config.teacher.patch
        grid = (images.shape[-2] // patch, images.shape[-1] // patch)
        return self.semantic_to_latents(self.semantic_features(self.teacher(images, grid)))

    def encode_features(self, features: Tensor) -> Tokens:
        """Turn patch features of a vision tower that runs elsewhere into tokens.

        Args:
            features: ``(B, 2 h, 2 w, D)`` of pictures that fill the grid.

        Raises:
            ShapeError: if the shape does not fit.
        """
        shape, width = tuple(features.shape), self.config.teacher.width
        if len(shape) != 4 or shape[1] % _MERGE or shape[2] % _MERGE or shape[3] != width:
            raise ShapeError(f"features {shape} given; expected (B, 2 h, 2 w, {width})")
        with self._inference():
            given = features.to(self.device, self.dtype)
            latents = self.semantic_to_latents(self.semantic_features(given))
            values = self.standardised(latents)
        patch = self.config.teacher.patch
        return Tokens((values,), self.layout(shape[1] * patch, shape[2] * patch))

    def semantic_features(self, patches: Tensor) -> Tensor:
        """Map patch features ``(B, 2 h, 2 w, V)`` to semantic features ``(B, h, w, D)``."""
        return cast(Tensor, self.mlp1(merged_patches(patches)))

    def semantic_to_latents(self, features: Tensor) -> Tensor:
        """Map semantic features ``(B, h, w, D)`` to latents ``(B, h, w, C)``."""
        latents: Tensor = self.down_mlp(self.down_blocks(features))
        return normalised_channels(latents) if self.config.is_normalised else latents

    def latents_to_images(self, latents: Tensor) -> Tensor:
        """Map latents ``(B, h, w, C)`` to images ``(B, 3, H, W)``, not clamped."""
        images: Tensor = self.decoder(latents.permute(0, 3, 1, 2))
        rows, columns = latents.shape[1:3]
        return interpolated(images, (rows * self.stride, columns * self.stride), "bilinear")

    def _training_latents(self, images: Tensor, generator: torch.Generator | None) -> Latents:
        latents = self.images_to_latents(images)
        if not self.training or not self.config.noise:
            return Latents(latents, {}, {})
        device = generator.device if generator is not None else latents.device
        strength = self.config.noise * torch.rand(
            len(latents), 1, 1, 1, generator=generator, device=device
        )
        noise = strength * torch.randn(latents.shape, generator=generator, device=device)
        return Latents(latents + noise.to(latents), {}, {"noise": strength.mean().detach()})


def merged_patches(patches: Tensor) -> Tensor:
    """Merge 2 x 2 patches, ``(B, 2 h, 2 w, V) -> (B, h, w, 4 V)``: row, column, channel order."""
    cells = torch.unflatten(torch.unflatten(patches, 2, (-1, _MERGE)), 1, (-1, _MERGE))
    return cells.permute(0, 1, 3, 2, 4, 5).flatten(3)


def normalised_channels(latents: Tensor) -> Tensor:
    """Give every vector of ``(..., C)`` zero mean and unit variance."""
    return F.layer_norm(latents.float(), latents.shape[-1:], eps=_EPS).to(latents.dtype)


__all__ = ["VGTAE", "VGTAEConfig", "merged_patches", "normalised_channels"]
