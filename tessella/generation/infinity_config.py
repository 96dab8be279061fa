"""Sizes of Infinity models: the config and the published presets (arXiv 2412.04431)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tessella.errors import ConfigError
from tessella.generation.kv_cache import Grid
from tessella.generation.registry import Preset
from tessella.tokenizers.infinity_schedules import LENGTHS, TEMPLATES, template_ratio
from tessella.tokenizers.scale_schedules import check_schedule

_MLP_RATIO, _MLP_STEP = 4, 256


@dataclass(frozen=True, slots=True)
class InfinityConfig:
    """Sizes of an Infinity model; the defaults are those of Infinity-2B.

    Args:
        depth: number of blocks.
        width: channels ``C``.
        heads: attention heads; their width is a multiple of 4.
        bits: ``d`` of a token.
        mlp_hidden: hidden width of the perceptrons; 0 for 4 C, rounded to a multiple of 256.
        text_channels: channels of the text features; 2048 of Flan-T5-XL.
        text_length: most tokens of a prompt.
        text_heads: heads of the pool that makes one vector of a prompt.
        text_gamma: first value of a learned factor of cross attention; None for no factor.
        max_scales: scales that have an embedding.
        level_blocks: blocks before which the scale's embedding is added.
        is_modulation_shared: one projection of the condition for all blocks, each with an offset.
        resolution: of the usual picture, which is square, in millions of pixels.
        schedule: token grids of all scales, of the one size that the model writes; empty for
            Infinity's schedules by aspect ratio.
        finest: map in whose coordinates positions are; None for the last of the 1M schedule of the
            picture's aspect ratio.
        drop_path: rate of dropped branches in the last block, rising from 0 in the first.
        text_drop: rate at which texts are replaced by the null text in training.
        flip_strength: largest rate of flipped bits in training.
        flip_scales: first scales with flipped bits.
        is_balanced: tokens of coarse scales weigh more in the loss.
        first_gamma: factor of the initial weights that make gammas.
    """

    depth: int = 32
    width: int = 2048
    heads: int = 16
    bits: int = 32
    mlp_hidden: int = 0
    text_channels: int = 2048
    text_length: int = 512
    text_heads: int = 16
    text_gamma: float | None = None
    max_scales: int = 15
    level_blocks: tuple[int, ...] = (0,)
    is_modulation_shared: bool = True
    resolution: Literal["0.06M", "0.25M", "0.60M", "1M"] = "1M"
    schedule: tuple[tuple[int, int], ...] = ()
    finest: tuple[int, int] | None = None
    drop_path: float = 0.1
    text_drop: float = 0.1
    flip_strength: float = 0.3
    flip_scales: int = 13
    is_balanced: bool = True
    first_gamma: float = 1e-3

    def __post_init__(self) -> None:
        sizes = ("depth", "width", "heads", "bits", "text_channels", "text_length", "text_heads")
        if min(getattr(self, name) for name in sizes) < 1 or self.hidden < 1:
            given = ", ".join(f"{name}={getattr(self, name)}" for name in (*sizes, "mlp_hidden"))
            raise ConfigError(f"{given} given; expected at least 1 each (mlp_hidden: 0 for 4 C)")
        if self.width % (4 * self.heads) or self.width % self.text_heads:
            raise ConfigError(
                f"width={self.width}, heads={self.heads}, text_heads={self.text_heads} given; "
                "expected a width that is a multiple of 4 heads and of the text's heads"
            )
        check_schedule("schedule", self.schedule)
        if self.schedule and self.schedule[0] != (1, 1):
            raise ConfigError(f"schedule={self.schedule} given; expected 1 x 1 as its first grid")
        if len(self.usual_grids) > self.max_scales:
            raise ConfigError(
                f"max_scales={self.max_scales} given; expected at least {len(self.usual_grids)}"
            )
        if any(not 0 <= block < self.depth for block in self.level_blocks):
            raise ConfigError(
                f"level_blocks={self.level_blocks} given; expected 0 to {self.depth - 1}"
            )
        for name in ("drop_path", "text_drop", "flip_strength"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} given; expected 0 to less than 1")

    @property
    def hidden(self) -> int:
        """Hidden width of the perceptrons."""
        # halves go to the even multiple, as in the published sizes
        return self.mlp_hidden or round(_MLP_RATIO * self.width / _MLP_STEP) * _MLP_STEP

    @property
    def usual_grids(self) -> tuple[Grid, ...]:
        """The grids of all scales of a picture of the usual size."""
        return self.schedule or TEMPLATES[1.0][: LENGTHS[self.resolution]]

    @property
    def schedules(self) -> tuple[tuple[Grid, ...], ...]:
        """The grids of all scales for every size that the model writes."""
        if self.schedule:
            return (self.schedule,)
        lengths = LENGTHS.values()
        return tuple(grids[:length] for grids in TEMPLATES.values() for length in lengths)

    def finest_of(self, grids: Sequence[Grid]) -> Grid:
        """Return the map in whose coordinates the positions of these grids are."""
        return self.finest or TEMPLATES[template_ratio(grids[-1])][-1]


_SOURCE = "https://huggingface.co/FoundationVision/Infinity"
_STUDY = "of the scaling study; no weights are published"


def _study(name: str, depth: int, width: int, heads: int) -> Preset:
    config = InfinityConfig(depth=depth, width=width, heads=heads, resolution="0.06M")
    tokenizer = "infinity-bsq-f16-d32"
    return Preset(f"infinity-{name}", config, "MIT", "2412.04431", "", _STUDY, tokenizer)


#: the published sizes, and a tiny one
PRESETS: tuple[Preset, ...] = (
    Preset(
        "infinity-2b",
        InfinityConfig(),
        "MIT",
        "2412.04431",
        _SOURCE,
        "text to image at up to 1024 pixels",
        "infinity-bsq-f16-d32reg",
    ),
    Preset(
        "infinity-8b",
        InfinityConfig(depth=40, width=3584, heads=28, bits=56),
        "MIT",
        "2412.04431",
        _SOURCE,
        "text to image at up to 1024 pixels; 56 bits a token",
        "infinity-bsq-f8-d14-patchify",
    ),
    _study("125m", 12, 768, 8),
    _study("361m", 16, 1152, 12),
    _study("940m", 24, 1536, 16),
    _study("2.2b", 32, 2080, 20),
    _study("4.7b", 40, 2688, 24),
    Preset(
        "infinity-tiny",
        InfinityConfig(
            depth=4,
            width=16,
            heads=2,
            bits=8,
            mlp_hidden=64,
            text_channels=8,
            text_length=12,
            text_heads=2,
            schedule=((1, 1), (2, 2), (4, 4), (8, 8), (16, 16)),
            drop_path=0.0,
        ),
        note="for tests; writes tokens of multiscale-bsq-tiny",
        tokenizer="multiscale-bsq-tiny",
    ),
)

__all__ = ["PRESETS", "InfinityConfig"]
