"""McQuic: multi-codebook vector quantization at several resolutions (arXiv 2203.10897).

::

    image --encoder f8--> y_0          level l has one position every 16 2^l pixels
    z_l = reduce(y_l),  q_l = quantize(to_codes(z_l)),  y_{l+1} = to_rest(z_l) - q_l

    r_l = restore(from_codes(q_l) + side(r_{l+1})), from coarse to fine;  r_0 --decoder--> image

Every level has ``m`` codebooks for ``m`` parts of the channels, so that a position costs m log2 K
bits. Tokens are ordered from coarse to fine; where fine levels are left out, the mean code by the
frequencies of training stands in. Those frequencies are the entropy model of the published codec.

Pictures are padded to whole cells of the coarsest level, at the right and at the bottom. Published
code pads on both sides, by reflection, to twice as much, because a map one position wide cannot be
reflected; here its only row or column is repeated. Pictures whose sides are multiples of 128 are
coded alike. Nothing in the network is global, but it sees about a thousand pixels far: large
pictures are tiled with overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from tessella.errors import ConfigError
from tessella.tokenizers.base import Tokenizer, TokenizerOutput
from tessella.tokenizers.layers.gated_residual import (
    Gated,
    ReflectedConv2d,
    Residual,
    ResidualDown,
    ResidualUp,
    shuffled,
)
from tessella.tokenizers.quantizers.base import Quantized
from tessella.tokenizers.quantizers.multi_codebook import MultiCodebookVQ
from tessella.tokenizers.registry import Preset, register
from tessella.tokens import LevelLayout, TokenLayout, Tokens

_FINEST = 16  # pixels of a position of the finest level


@dataclass(frozen=True, slots=True)
class McQuicConfig:
    """Sizes of a McQuic model.

    Args:
        channels: width ``C`` of all maps.
        groups: codebooks ``m`` a level; the published models are named after it.
        codebook_sizes: ``K`` of each level, the finest first.
        frequency_decay: share of the old code frequencies that a training step keeps.
        renew_every: training steps from one renewal of dead codes to the next; 0 for never.
        dead_below: a code is dead if it is rarer than this share of ``1/K``.
        permutation_rate: share of positions that take a random code in training.
    """

    channels: int = 128
    groups: int = 2
    codebook_sizes: tuple[int, ...] = (8192, 2048, 512)
    frequency_decay: float = 0.9
    renew_every: int = 10_000
    dead_below: float = 0.01
    permutation_rate: float = 0.0

    def __post_init__(self) -> None:
        if not self.codebook_sizes:
            raise ConfigError("codebook_sizes=() given; expected one size a level")
        if self.groups < 1 or self.channels < 1 or self.channels % self.groups:
            raise ConfigError(
                f"channels={self.channels}, groups={self.groups} given; expected a multiple of "
                "groups"
            )
        rates = (self.frequency_decay, self.permutation_rate)
        if not all(0 <= rate < 1 for rate in rates) or not 0 <= self.dead_below < 1:
            raise ConfigError(
                f"frequency_decay={self.frequency_decay}, permutation_rate="
                f"{self.permutation_rate}, dead_below={self.dead_below} given; expected 0 to "
                "below 1"
            )
        if self.renew_every < 0:
            raise ConfigError(f"renew_every={self.renew_every} given; expected 0 (never) or more")


class Descent(NamedTuple):
    """What the encoder's side of a level makes.

    Args:
        reduced: ``z`` ``(B, C, h, w)``.
        vectors: what is quantized, ``(B, C, h, w)``.
        found: codes and indices, channel-last.
        rest: ``y`` of the next level ``(B, C, h, w)``; None after the coarsest.
    """

    reduced: Tensor
    vectors: Tensor
    found: Quantized
    rest: Tensor | None


class McQuicLevel(nn.Module):
    """One resolution, from its latents to codes and back.

    Args:
        config: sizes of the model.
        number: of the level, the finest is 0.
    """

    def __init__(self, config: McQuicConfig, number: int) -> None:
        super().__init__()
        c = config.channels
        is_coarsest = number == len(config.codebook_sizes) - 1
        self.reduce = nn.Sequential(ResidualDown(c), Residual(c), Gated(c))
        self.to_codes = nn.Sequential(Residual(c), Gated(c), ReflectedConv2d(c, c))
        self.quantizer = MultiCodebookVQ(
            c,
            config.codebook_sizes[number],
            config.groups,
            decay=config.frequency_decay,
            renew_every=config.renew_every,
            dead_below=config.dead_below,
            permutation_rate=config.permutation_rate,
        )
        self.to_rest = (
            None if is_coarsest else nn.Sequential(Residual(c), Gated(c), ReflectedConv2d(c, c))
        )
        self.from_codes = nn.Sequential(Gated(c), ReflectedConv2d(c, c), Residual(c))
        self.side = (
            None if is_coarsest else nn.Sequential(Gated(c), ReflectedConv2d(c, c), Residual(c))
        )
        self.restore = nn.Sequential(Gated(c), Residual(c), ResidualUp(c))

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Descent:
        """Quantize latents ``(B, C, 2 h, 2 w)`` on the grid ``(h, w)``."""
        reduced: Tensor = self.reduce(y)
        vectors: Tensor = self.to_codes(reduced)
        found = self.quantizer(vectors.permute(0, 2, 3, 1), generator=generator)
        rest = None
        if self.to_rest is not None:
            rest = cast(Tensor, self.to_rest(reduced)) - found.z_q.permute(0, 3, 1, 2)
        return Descent(reduced, vectors, found, rest)

    def restored(self, codes: Tensor, coarser: Tensor | None) -> Tensor:
        """Bring codes back to latents ``(B, C, 2 h, 2 w)``.

        Args:
            codes: ``(B, h, w, C)``.
            coarser: what the next coarser level restored, ``(B, C, h, w)``.
        """
        latents: Tensor = self.from_codes(codes.permute(0, 3, 1, 2))
        if self.side is not None and coarser is not None:
            latents = latents + cast(Tensor, self.side(coarser))
        return cast(Tensor, self.restore(latents))


_SOURCE = "https://github.com/xiaosu-zhu/McQuic/releases"


@register(
    "mcquic",
    config=McQuicConfig,
    presets=(
        Preset(
            "mcquic-m2", McQuicConfig(), "Apache-2.0", "2203.10897", _SOURCE, "published as qp 2"
        ),
        Preset(
            "mcquic-m12",
            McQuicConfig(channels=192, groups=12),
            "Apache-2.0",
            "2203.10897",
            "",
            "published settings of qp 12, without weights",
        ),
        Preset(
            "mcquic-tiny",
            McQuicConfig(channels=8, codebook_sizes=(32, 16), renew_every=50),
            note="for tests",
        ),
    ),
)
class McQuic(Tokenizer):
    """Convolutional tokenizer with a few codebooks at each of several resolutions.

    Example:
        >>> model = McQuic(McQuicConfig(channels=4, codebook_sizes=(64, 32, 16)))
        >>> [level.grid for level in model.layout(256, 384).levels]
        [(4, 6), (8, 12), (16, 24)]
    """

    config: McQuicConfig

    def __init__(self, config: McQuicConfig) -> None:
        super().__init__(config)
        c = config.channels
        self.encoder = nn.Sequential(
            ReflectedConv2d(3, c, stride=2),
            Residual(c),
            ResidualDown(c),
            Gated(c),
            Residual(c),
            ResidualDown(c),
            Residual(c),
        )
        self.levels = nn.ModuleList(McQuicLevel(config, i) for i in range(self.depth))
        self.decoder = nn.Sequential(
            Residual(c), ResidualUp(c), Gated(c), Residual(c), ResidualUp(c), Residual(c),
            shuffled(c, 3),
        )  # fmt: skip

    @property
    def depth(self) -> int:
        """Number of levels."""
        return len(self.config.codebook_sizes)

    @property
    def stride(self) -> int:
        """Pixels of a position of the coarsest level."""
        return int(_FINEST << (self.depth - 1))

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout: one level a resolution, coarse to fine."""
        cells = [-(-side // self.stride) for side in (height, width)]
        levels = [
            LevelLayout((cells[0] << i, cells[1] << i), (size,) * self.config.groups)
            for i, size in enumerate(reversed(self.config.codebook_sizes))
        ]
        return TokenLayout(tuple(levels), (height, width), self.space_id)

    def space_tensors(self) -> dict[str, Tensor]:
        """The codebooks: what indices stand for."""
        return {name: p for name, p in self.named_parameters() if name.endswith(".codebook")}

    def code_frequencies(self) -> tuple[Tensor, ...]:
        """Return the averages of training, ``(G, K)`` a level, coarse to fine."""
        return tuple(level.quantizer.probabilities for level in reversed(self.stages()))

    def stages(self) -> list[McQuicLevel]:
        """Return the levels, the finest first."""
        return [level for level in self.levels if isinstance(level, McQuicLevel)]

    def descend(self, images: Tensor, generator: torch.Generator | None = None) -> list[Descent]:
        """Return what every level makes of images ``(B, 3, H, W)``, the finest first."""
        rest: Tensor | None = self.encoder(images)
        steps = []
        for level in self.stages():
            steps.append(level(rest, generator))
            rest = steps[-1].rest
        return steps

    def codes_to_images(self, codes: Sequence[Tensor]) -> Tensor:
        """Map the codes of all levels to images ``(B, 3, H, W)``, not clamped.

        Args:
            codes: ``(B, h, w, C)`` a level, the finest first.
        """
        restored: Tensor | None = None
        for level, vectors in reversed(list(zip(self.stages(), codes, strict=True))):
            restored = level.restored(vectors.to(self.dtype), restored)
        return cast(Tensor, self.decoder(restored))

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Reconstruct a batch; in training from codes that are drawn."""
        steps = self.descend(images, generator)
        found = [step.found for step in steps]
        indices = (level.indices for level in reversed(found))
        tokens = Tokens(indices, self.layout(*images.shape[-2:]))
        stats = {
            f"{name}_{number}": value
            for number, level in enumerate(reversed(found))
            for name, value in level.stats.items()
        }
        return TokenizerOutput(
            self.codes_to_images([level.z_q for level in found]), tokens, {}, stats
        )

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(step.found.indices for step in reversed(self.descend(images)))

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        layouts = reversed(self.layout(*tokens.layout.image_size).levels)
        given = [None] * (self.depth - len(tokens.levels)) + list(reversed(tokens.levels))
        codes = []
        for level, indices, layout in zip(self.stages(), given, layouts, strict=True):
            if indices is None:
                mean = level.quantizer.mean_code()
                codes.append(mean.expand(tokens.batch_size, *layout.grid, -1))
            else:
                codes.append(level.quantizer.indices_to_codes(indices))
        return self.codes_to_images(codes)


__all__ = ["Descent", "McQuic", "McQuicConfig", "McQuicLevel"]
