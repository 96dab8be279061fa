"""TokenFlow: tokens that name what a picture shows and how it looks (arXiv 2412.03069).

::

    image --teacher (ViT), task layer--> semantic map --+
                                                        +-- (h, w, s + p) --scales--> one index
    image --encoder (CNN)------------->  pixel map -----+       a position of every scale
    codes[:s] --ViT, task layer--> features          codes[s:] --decoder (CNN)--> image

Two codebooks share their indices (:mod:`tessella.tokenizers.quantizers.multiscale_dual`), quantized
as a residual over scales like VAR's: any number of first levels decodes, and next-scale generators
read these tokens as they read VAR's. :meth:`TokenFlow.decode_features` returns the semantic half.

The teacher is a timm model. Where it comes from elsewhere, hand its features to
:meth:`TokenFlow.encode_features`. Training pulls the semantic half towards the teacher's features:
hold the teacher still (learning rate 0) to keep it what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.base import TokenizerOutput
from tessella.tokenizers.layers.resampling import Grid, interpolated
from tessella.tokenizers.layers.semantic import SemanticDecoder, Teacher, TeacherConfig
from tessella.tokenizers.layers.taming_network import taming_networks
from tessella.tokenizers.next_scale import NextScaleTokenizer
from tessella.tokenizers.quantizers import EntropyConfig
from tessella.tokenizers.quantizers.multiscale_dual import DualCodebook
from tessella.tokenizers.registry import Preset, register
from tessella.tokenizers.scale_schedules import check_schedule, fit_schedule, square
from tessella.tokens import Tokens

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class TokenFlowConfig:
    """Sizes of a TokenFlow tokenizer.

    Args:
        image_size: side in pixels of the pictures that the published schedule is for.
        sides: schedules of square grids in ascending order, the first one that of ``image_size``.
        teacher: the semantic encoder.
        feature_width: channels of decoded features; the teacher's where it is trained.
        semantic_depth: blocks of the semantic decoder.
        semantic_heads: its attention heads.
        semantic_dim: width of the semantic codes.
        pixel_dim: width of the pixel codes.
        codebook_size: ``K``.
        channels: width of the convolutional encoder at full resolution.
        multipliers: factor of the width at each resolution, halved from one to the next.
        blocks: residual blocks of an encoder level.
        decoder_channels: the decoder's width at full resolution.
        decoder_blocks: the decoder's residual blocks a level, less one.
        latent_channels: width between networks and bottleneck.
        norm_groups: groups of the convolutional networks' normalisations.
        commitment_weight: factor of the commitment term.
        entropy_weight: factor of the penalty on the entropy of assignments; 0 leaves it out.
        alignment_weight: factor of one minus the cosine to the teacher's features; 0 leaves it out.
        scale_dropout: probability that a training step leaves out one scale other than the first.
    """

    image_size: int = 256
    sides: tuple[tuple[int, ...], ...] = ((1, 2, 4, 6, 8, 10, 12, 14, 16),)
    teacher: TeacherConfig = field(
        default_factory=lambda: TeacherConfig(mean=_CLIP_MEAN, std=_CLIP_STD)
    )
    feature_width: int = 1152
    semantic_depth: int = 3
    semantic_heads: int = 12
    semantic_dim: int = 32
    pixel_dim: int = 8
    codebook_size: int = 32768
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    decoder_channels: int = 128
    decoder_blocks: int = 2
    latent_channels: int = 256
    norm_groups: int = 32
    commitment_weight: float = 0.25
    entropy_weight: float = 0.0
    alignment_weight: float = 1.0
    scale_dropout: float = 0.1

    def __post_init__(self) -> None:
        if not self.sides or not all(self.sides):
            raise ConfigError(f"sides={self.sides} given; expected at least one schedule")
        for sides in self.sides:
            check_schedule("sides", square(sides))
        if not self.multipliers or self.multipliers[0] != 1:
            raise ConfigError(f"multipliers={self.multipliers} given; expected the first to be 1")
        if self.teacher.width % self.semantic_heads:
            raise ConfigError(
                f"semantic_heads={self.semantic_heads} given; expected a divisor of the teacher's "
                f"width, {self.teacher.width}"
            )
        if self.alignment_weight and self.feature_width != self.teacher.width:
            raise ConfigError(
                f"feature_width={self.feature_width} given for a teacher of width "
                f"{self.teacher.width}; expected the same, or alignment_weight=0"
            )

    @property
    def side(self) -> int:
        """Side of the last grid of the first schedule."""
        return self.sides[0][-1]


_SOURCE = "https://huggingface.co/ByteFlow-AI/TokenFlow"


def _preset(name: str, config: TokenFlowConfig, note: str) -> Preset:
    return Preset(name, config, "Apache-2.0", "2412.03069", _SOURCE, note)


_B_SIDES = (1, 2, 4, 6, 8, 10, 12, 14)


@register(
    "tokenflow",
    config=TokenFlowConfig,
    presets=(
        _preset(
            "tokenflow-b-224",
            TokenFlowConfig(
                image_size=224,
                sides=(_B_SIDES, (*_B_SIDES, 16)),
                teacher=TeacherConfig("vit_base_patch16_clip_quickgelu_224", 768),
                feature_width=512,
                decoder_channels=256,
                decoder_blocks=4,
                alignment_weight=0.0,
            ),
            "CLIP ViT-B/16; enhanced decoder",
        ),
        _preset("tokenflow-l-256", TokenFlowConfig(), "ViTamin-XL"),
        _preset(
            "tokenflow-xl-384",
            TokenFlowConfig(
                image_size=384,
                sides=((*range(1, 11), 12, 14, 17, 22, 27),),
                teacher=TeacherConfig(
                    "vit_so400m_patch14_siglip_384",
                    1152,
                    dropped_blocks=1,
                    patch=14,
                    mean=_HALF,
                    std=_HALF,
                ),
            ),
            "SigLIP so400m",
        ),
        Preset(
            "tokenflow-tiny",
            TokenFlowConfig(
                image_size=32,
                sides=((1, 2, 4),),
                teacher=TeacherConfig(
                    "vit_tiny_patch16_224", 24, depth=1, patch=8, mean=_HALF, std=_HALF
                ),
                feature_width=24,
                semantic_depth=1,
                semantic_heads=2,
                semantic_dim=8,
                pixel_dim=8,
                codebook_size=32,
                channels=8,
                multipliers=(1, 1, 2, 2),
                blocks=1,
                decoder_channels=8,
                decoder_blocks=1,
                latent_channels=8,
                norm_groups=4,
                scale_dropout=0.5,
            ),
            note="for tests",
        ),
    ),
)
class TokenFlow(NextScaleTokenizer):
    """Pyramid of indices that are shared by a semantic and a pixel codebook.

    Example:
        >>> from dataclasses import replace
        >>> config = TokenFlowConfig(channels=32, decoder_channels=32, codebook_size=64)
        >>> model = TokenFlow(replace(config, teacher=TeacherConfig("")))
        >>> model.layout(256, 256).num_values
        817
    """

    config: TokenFlowConfig
    quantizer: DualCodebook

    def __init__(self, config: TokenFlowConfig) -> None:
        super().__init__(config)
        c, width = config, config.teacher.width
        self.teacher: Teacher | None = None
        if c.teacher.architecture:
            self.teacher = Teacher(c.teacher, c.image_size)
        self.encode_task = nn.Sequential(
            nn.Linear(width, width), nn.Tanh(), nn.Linear(width, c.semantic_dim)
        )
        self.encoder, self.decoder = _networks(c)
        self.quant_conv = nn.Conv2d(c.latent_channels, c.pixel_dim, 1)
        entropy = EntropyConfig(weight=c.entropy_weight) if c.entropy_weight else None
        self.quantizer = DualCodebook(
            c.semantic_dim,
            c.pixel_dim,
            c.codebook_size,
            commitment_weight=c.commitment_weight,
            entropy=entropy,
        )
        self.post_quant_conv = nn.Conv2d(c.pixel_dim, c.latent_channels, 1)
        self.semantic_decoder = SemanticDecoder(
            c.semantic_dim, width, depth=c.semantic_depth, heads=c.semantic_heads, side=c.side
        )
        self.decode_task = nn.Sequential(
            nn.Linear(width, width), nn.Tanh(), nn.Linear(width, c.feature_width)
        )

    @property
    def stride(self) -> int:
        """Pixels of a step of the finest grid; a whole picture's where that is no integer."""
        size, side = self.config.image_size, self.config.side
        return size if size % side else size // side

    def grids(self, height: int, width: int) -> tuple[Grid, ...]:
        """Return the token grids of a picture of that size, coarse to fine."""
        per_step = self.config.side if self.config.image_size % self.config.side else 1
        rows, columns = -(-height // self.stride), -(-width // self.stride)
        return self.schedule((rows * per_step, columns * per_step))

    def schedule(self, grid: Grid) -> tuple[Grid, ...]:
        """Return the grids of all scales, of which ``grid`` is the last."""
        return fit_schedule([square(sides) for sides in self.config.sides], grid)

    def space_tensors(self) -> dict[str, Tensor]:
        """The codebooks: what an index stands for."""
        return {"codebook": self.quantizer.codebook.detach()}

    # ---- networks --------------------------------------------------------------------------

    def images_to_features(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to unquantized features ``(B, s + p, h, w)``.

        Raises:
            ConfigError: if the model was made without a teacher.
        """
        return self._features(images, self._taught(images))

    def encode_features(self, images: Tensor, taught: Tensor) -> Tokens:
        """Turn pictures into tokens with features of a teacher that lives elsewhere.

        Args:
            images: float ``(B, 3, H, W)`` in [-1, 1]; sides are multiples of the stride.
            taught: its features ``(B, h, w, D)`` on the last grid.

        Raises:
            ShapeError: if the shapes do not fit.
        """
        height, width = images.shape[-2:]
        grids = self.grids(height, width)
        expected = (len(images), *grids[-1], self.config.teacher.width)
        if height % self.stride or width % self.stride or tuple(taught.shape) != expected:
            raise ShapeError(
                f"images {tuple(images.shape)} and features {tuple(taught.shape)} given; expected "
                f"sides that are multiples of {self.stride} and features {expected}"
            )
        with self._inference():
            features = self._features(
                images.to(self.device, self.dtype), taught.to(self.device, self.dtype)
            )
            levels = self.features_to_levels(features, grids)
        return Tokens(levels, self.layout(height, width))

    def decode_features(self, tokens: Tokens) -> Tensor:
        """Turn tokens into semantic features ``(B, h, w, F)`` in the teacher's space."""
        self.check_tokens(tokens)
        with self._inference():
            given = tokens.to(self.device)
            grids = self.grids(*given.layout.image_size)
            total = self.levels_to_features(given.levels, grids).to(self.dtype)
            return self._semantic(total)

    def features_to_images(self, features: Tensor) -> Tensor:
        """Map features ``(B, s + p, h, w)`` to images ``(B, 3, H, W)``, not clamped."""
        codes = features[:, self.config.semantic_dim :].to(self.dtype)
        images: Tensor = self.decoder(self.post_quant_conv(codes))
        rows, columns = features.shape[-2:]
        step, side = self.config.image_size, self.config.side
        return interpolated(images, (rows * step // side, columns * step // side), "bicubic")

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct a batch with the quantizer's losses and the teacher's alignment."""
        taught = self._taught(images)
        layout = self.layout(*images.shape[-2:])
        grids = [cast(Grid, level.grid) for level in layout.levels]
        dropped = self._draw_scale(len(grids), generator)
        found = self.quantizer(self._features(images, taught), grids, dropped=dropped)
        losses = dict(found.losses)
        if self.training and self.config.alignment_weight:
            cosine = F.cosine_similarity(
                self._semantic(found.z_q).float(), taught.detach().float(), dim=-1
            )
            losses["alignment"] = self.config.alignment_weight * (1 - cosine.mean())
        outputs = self.features_to_images(found.z_q)
        return TokenizerOutput(outputs, Tokens(found.indices, layout), losses, found.stats)

    def _taught(self, images: Tensor) -> Tensor:
        if self.teacher is None:
            raise ConfigError(
                "this model was made without a teacher (teacher.architecture is empty); call "
                "encode_features() with the features of one, or convert a checkpoint that has it"
            )
        return cast(Tensor, self.teacher(images, self.grids(*images.shape[-2:])[-1]))

    def _features(self, images: Tensor, taught: Tensor) -> Tensor:
        rows, columns = taught.shape[1:3]
        factor = int(2 ** (len(self.config.multipliers) - 1))
        pixels = interpolated(images, (rows * factor, columns * factor), "bicubic")
        semantic = self.encode_task(taught).permute(0, 3, 1, 2)
        return torch.cat([semantic, self.quant_conv(self.encoder(pixels))], dim=1)

    def _semantic(self, total: Tensor) -> Tensor:
        codes = total[:, : self.config.semantic_dim].permute(0, 2, 3, 1)
        return cast(Tensor, self.decode_task(self.semantic_decoder(codes)))

    def _draw_scale(self, scales: int, generator: torch.Generator | None) -> int | None:
        """Draw which scale a training step leaves out, if any."""
        chance = self.config.scale_dropout
        if not self.training or not chance or scales < 2:
            return None
        device = generator.device if generator is not None else None
        if float(torch.rand((), generator=generator, device=device)) >= chance:
            return None
        return int(torch.randint(1, scales, (), generator=generator, device=device))


def _networks(c: TokenFlowConfig) -> tuple[nn.Module, nn.Module]:
    def both(channels: int, blocks: int) -> Sequence[nn.Module]:
        return taming_networks(
            channels=channels,
            multipliers=c.multipliers,
            blocks=blocks,
            attention_levels=(len(c.multipliers) - 1,),
            latent_channels=c.latent_channels,
            norm_groups=c.norm_groups,
        )

    return both(c.channels, c.blocks)[0], both(c.decoder_channels, c.decoder_blocks)[1]


__all__ = ["TokenFlow", "TokenFlowConfig"]
