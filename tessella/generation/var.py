"""VAR: class-conditional pictures, scale by scale (arXiv 2404.02905).

::

    class --embedding--> c --+--> first token(s) of scale 0
                             '--> modulations of all blocks and of the head (AdaLN)
    running sum on grid k --linear + positions + scale embedding--> blocks --head--> (V) logits

    x += gamma1 * attention(LN(x) (1 + scale1) + shift1)
    x += gamma2 * mlp(LN(x) (1 + scale2) + shift2)

Width is 64 x depth with heads of 64 channels; queries and keys have length one. In training every
token is predicted at once, a scale seeing itself and those before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.generation.base import GeneratorOutput
from tessella.generation.classes import check_classes, drop_classes
from tessella.generation.guidance import Ramp
from tessella.generation.kv_cache import Grid, KVCache
from tessella.generation.layers.blocks import ModulatedBlock, ModulatedHead
from tessella.generation.layers.initialize import initialize_next_scale
from tessella.generation.layers.packed_linear import PackedLinear
from tessella.generation.next_scale import Drawing, NextScaleGenerator, Start, Written
from tessella.generation.registry import Preset, register
from tessella.generation.sampling import draw, exponential, filtered
from tessella.generation.teacher_forcing import Progress, ScaleLoss, scale_loss
from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.multiscale_vq import VAR_SIDES
from tessella.tokens import Tokens

_SMOOTHEST, _SHARPEST, _SMOOTH_DECAY = 0.27, 0.005, 0.95
_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class VARConfig:
    """Sizes of a VAR model; the defaults are those of VAR-d16 at 256 pixels.

    Args:
        depth: number of blocks.
        width: channels ``C``.
        heads: attention heads.
        sides: sides of the square maps, coarse to fine.
        codebook_size: ``V`` of the tokenizer.
        code_dim: channels of what is read of the running sum.
        classes: number of classes; one more stands for none.
        mlp_ratio: hidden width of the perceptrons over the width.
        is_modulation_shared: one projection of the condition for all blocks, each with an offset.
        is_normalized: queries and keys have length one.
        drop_path: rate of dropped branches in the last block, rising from 0 in the first.
        class_drop: rate at which classes are replaced by none in training.
        label_smoothing: of the cross entropy.
        first_gamma: factor of the initial weights that make gammas.
    """

    depth: int = 16
    width: int = 1024
    heads: int = 16
    sides: tuple[int, ...] = VAR_SIDES[0]
    codebook_size: int = 4096
    code_dim: int = 32
    classes: int = 1000
    mlp_ratio: float = 4.0
    is_modulation_shared: bool = False
    is_normalized: bool = True
    drop_path: float = 0.1 * 16 / 24
    class_drop: float = 0.1
    label_smoothing: float = 0.0
    first_gamma: float = 1e-3

    def __post_init__(self) -> None:
        if min(self.depth, self.width, self.heads, self.classes) < 1 or self.width % self.heads:
            raise ConfigError(
                f"depth={self.depth}, width={self.width}, heads={self.heads}, "
                f"classes={self.classes} given; expected at least 1 each and a width that is a "
                "multiple of the heads"
            )
        if not self.sides or list(self.sides) != sorted(set(self.sides)) or self.sides[0] < 1:
            raise ConfigError(f"sides={self.sides} given; expected rising sides of square maps")
        for name in ("drop_path", "class_drop", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} given; expected 0 to less than 1")

    @classmethod
    def of_depth(cls, depth: int, **changes: Any) -> VARConfig:
        """Return the sizes that a depth implies: width, heads and rate of dropped branches."""
        sizes = {"width": 64 * depth, "heads": depth, "drop_path": 0.1 * depth / 24}
        return cls(depth=depth, **{**sizes, **changes})


_SOURCE = "https://huggingface.co/FoundationVision/var"


def _published(depth: int, note: str, **changes: Any) -> Preset:
    name = f"var-d{depth}-{512 if 'sides' in changes else 256}"
    config = VARConfig.of_depth(depth, **changes)
    return Preset(name, config, "MIT", "2404.02905", _SOURCE, note, "var-vq-f16")


@register(
    "var",
    config=VARConfig,
    presets=(
        _published(16, "FID 3.55 by its authors"),
        _published(20, "FID 2.95 by its authors"),
        _published(24, "FID 2.33 by its authors", first_gamma=1e-4),
        _published(30, "FID 1.97 by its authors", first_gamma=1e-5),
        _published(
            36,
            "FID 2.63 by its authors",
            sides=VAR_SIDES[1],
            is_modulation_shared=True,
            first_gamma=5e-6,
        ),
        Preset(
            "var-tiny",
            VARConfig(
                depth=4, width=32, heads=4, sides=(1, 2, 4, 8), codebook_size=32, code_dim=8,
                classes=10, drop_path=0.0,
            ),
            note="for tests",
            tokenizer="multiscale-vq-tiny",
        ),
    ),
)  # fmt: skip
class VARGenerator(NextScaleGenerator):
    """Transformer that writes the tokens of a multi-scale VQ tokenizer for a class.

    Example:
        >>> model = VARGenerator(VARConfig.of_depth(2, sides=(1, 2), codebook_size=16, classes=3))
        >>> model.grids
        ((1, 1), (2, 2))
    """

    config: VARConfig
    guidance_ramp: ClassVar[Ramp] = "linear"

    def __init__(self, config: VARConfig) -> None:
        super().__init__(config)
        width, first = config.width, config.sides[0] ** 2
        tokens = sum(side * side for side in config.sides)
        self.class_embedding = nn.Embedding(config.classes + 1, width)
        self.start_embedding = nn.Parameter(torch.empty(1, first, width))
        self.position_embedding = nn.Parameter(torch.empty(1, tokens, width))
        self.scale_embedding = nn.Embedding(len(config.sides), width)
        self.word_embedding = nn.Linear(config.code_dim, width)
        self.shared_modulation = (
            PackedLinear(width, 6 * width) if config.is_modulation_shared else None
        )
        rates = [config.drop_path * i / max(1, config.depth - 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(
            ModulatedBlock(
                width,
                config.heads,
                hidden=round(width * config.mlp_ratio),
                is_modulation_shared=config.is_modulation_shared,
                is_normalized=config.is_normalized,
                drop_path=rate,
                eps=_EPS,
            )
            for rate in rates
        )
        self.head = ModulatedHead(width, config.codebook_size, eps=_EPS)
        initialize_next_scale(self, config.depth, config.first_gamma)

    @property
    def _blocks(self) -> list[ModulatedBlock]:
        return cast(list[ModulatedBlock], list(self.blocks))

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The square grids of all scales."""
        return tuple((side, side) for side in self.config.sides)

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """One index a token."""
        return (self.config.codebook_size,)

    @property
    def input_channels(self) -> int:
        """Channels of the running sum."""
        return self.config.code_dim

    # ---- training --------------------------------------------------------------------------

    def forward(
        self,
        tokens: Tokens,
        condition: Any,
        *,
        tokenizer: Tokenizer,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> GeneratorOutput:
        """Predict every token of whole pyramids from the scales before it.

        Args:
            tokens: of all scales.
            condition: ``(B,)`` class labels; -1 for none.
            tokenizer: whose tokens they are.
            generator: noise of dropped classes and branches, in training mode.
            progress: how many scales are trained so far; all by default.

        Returns:
            Logits ``(B, N, V)``, the cross entropy, and accuracies.
        """
        pyramids = self.checked(tokenizer)
        labels = check_classes(condition, self.config.classes, self.device)
        if len(labels) != tokens.batch_size:
            raise ShapeError(f"{len(labels)} labels given for {tokens.batch_size} pictures")
        if self.training:
            labels = drop_classes(labels, self.config.classes, self.config.class_drop, generator)
        scales = len(self.grids) if progress is None else progress.scales
        levels, grids = tokens.to(self.device).levels[:scales], self.grids[:scales]
        with torch.no_grad():
            inputs = pyramids.scale_inputs(tokens.to(self.device).levels, self.grids)
        ends = self.geometry(len(labels), grids, is_guided=False).ends
        logits = self.predict(inputs[:, : ends[-1] - ends[0]], labels, ends, generator)
        targets = torch.cat([level.flatten(1) for level in levels], dim=1)
        total = sum(side * side for side in self.config.sides)
        options = ScaleLoss(total, self.config.label_smoothing, progress)
        losses, stats = scale_loss(logits, targets, ends, options)
        return GeneratorOutput(logits, losses, stats)

    def predict(
        self,
        inputs: Tensor,
        labels: Tensor,
        ends: tuple[int, ...],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return logits ``(B, N, V)`` of all tokens.

        Args:
            inputs: teacher-forcing inputs ``(B, N - n_0, C_in)``.
            labels: ``(B,)`` class numbers; the number of classes stands for none.
            ends: where each scale ends.
            generator: noise of dropped branches, in training mode.
        """
        condition = self.class_embedding(labels)
        words = self.word_embedding(inputs.to(self.dtype))
        start = condition.unsqueeze(1) + self.start_embedding
        x = torch.cat([start, words], dim=1) + self._places()[:, : ends[-1]]
        active = F.silu(condition)
        for block, modulation in zip(self._blocks, self.modulations(active), strict=True):
            x = block(x, modulation, ends, generator)
        logits: Tensor = self.head(x, self.head.modulation_of(active))
        return logits

    def _places(self) -> Tensor:
        """Return what tells a token its place and scale, ``(1, N, C)``."""
        sizes = torch.tensor([side * side for side in self.config.sides])
        scales = torch.arange(len(sizes)).repeat_interleave(sizes).to(self.device)
        places: Tensor = self.scale_embedding(scales) + self.position_embedding
        return places

    # ---- generation ------------------------------------------------------------------------

    def _start(self, condition: Any, grids: tuple[Grid, ...], *, is_guided: bool) -> Start:
        labels = check_classes(condition, self.config.classes, self.device)
        batch = len(labels)
        if is_guided:
            labels = torch.cat([labels, torch.full_like(labels, self.config.classes)])
        embedded = self.class_embedding(labels)
        active = F.silu(embedded)
        places = self._places()
        first = self.start_embedding.shape[1]
        x = embedded.unsqueeze(1) + self.start_embedding + places[:, :first]
        shared = (self.modulations(active), self.head.modulation_of(active), places)
        return Start(batch, x, grids, shared)

    def _embed(self, inputs: Tensor, scale: int, start: Start) -> Tensor:
        side = self.config.sides[scale]
        first = sum(s * s for s in self.config.sides[:scale])
        x: Tensor = self.word_embedding(inputs.to(self.dtype).flatten(1, 2))
        x += start.shared[2][:, first : first + side * side]
        return x.repeat(start.first.shape[0] // start.batch, 1, 1)

    def _transform(
        self, x: Tensor, scale: int, start: Start, cache: KVCache, weight: float
    ) -> Tensor:
        for layer, (block, modulation) in enumerate(
            zip(self._blocks, start.shared[0], strict=True)
        ):
            x = block.step(x, modulation, layer, cache)
        return x

    def _write(self, hidden: Tensor, scale: int, start: Start, drawing: Drawing) -> Written:
        logits = self.head.mixed(hidden, start.shared[1], drawing.weight, start.batch).float()
        side = self.config.sides[scale]
        level = draw(logits, drawing.sampling, drawing.noise).view(start.batch, side, side, 1)
        if not drawing.sampling.smooth:
            return Written(level)
        ratio = scale / max(1, len(self.config.sides) - 1)
        temperature = max(_SMOOTHEST * (1 - _SMOOTH_DECAY * ratio), _SHARPEST)
        kept = filtered(logits, drawing.sampling)
        gumbel = -exponential(kept, drawing.noise).log()
        mixture = ((kept * (1 + ratio) + gumbel) / temperature).softmax(dim=-1)
        indices = torch.arange(self.config.codebook_size, device=level.device).view(1, 1, -1, 1)
        codes = mixture @ drawing.tokenizer.quantizer.indices_to_codes(indices)[0, 0]
        return Written(level, codes.view(start.batch, side, side, -1))


__all__ = ["VARConfig", "VARGenerator"]
