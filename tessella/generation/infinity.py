"""Infinity: pictures of a text, scale by scale and bit by bit (arXiv 2412.04431).

::

    text features --+--pool--> c --+--> first token
                    |              '--> modulations of all blocks and of the head (AdaLN)
                    '--------------------> keys and values of cross attention, once a picture
    running sum on grid k --linear + scale embedding--> blocks --head--> two logits a bit

    x += gamma1 * attention(LN(x) (1 + scale1) + shift1)      with rotary positions
    x += cross_attention(LN'(x), text)
    x += gamma2 * mlp(LN(x) (1 + scale2) + shift2)

A token is ``d`` bits of a multi-scale BSQ tokenizer, so a codebook of 2^32 costs 64 logits. Grids
follow the aspect ratio, and positions those of the finest map of the ratio: one model writes all
sizes. In training, bits of what the model reads are flipped, and it learns to correct them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.generation.base import GeneratorOutput
from tessella.generation.bitwise import Flips, bit_loss, check_bitwise, draw_bits, example
from tessella.generation.guidance import Ramp
from tessella.generation.infinity_config import PRESETS, InfinityConfig
from tessella.generation.kv_cache import Grid, KVCache
from tessella.generation.layers.blocks import BlockContext, ModulatedHead
from tessella.generation.layers.cross_attention import TextKeys
from tessella.generation.layers.initialize import initialize_next_scale
from tessella.generation.layers.modulated import Modulation
from tessella.generation.layers.packed_linear import PackedLinear
from tessella.generation.layers.rope2d import rotation_of
from tessella.generation.layers.text_block import TextBlock
from tessella.generation.layers.text_condition import TextConditioner, TextMemory
from tessella.generation.next_scale import Drawing, NextScaleGenerator, Start, Written
from tessella.generation.registry import register
from tessella.generation.text import Prompts, TextBatch, check_features, check_prompts
from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.multiscale_bsq import MultiScaleBSQTokenizer
from tessella.tokenizers.next_scale import NextScaleTokenizer
from tessella.tokens import Tokens

_EPS = 1e-6


class _Shared(NamedTuple):
    """What all scales of a run share.

    Args:
        modulations: of each block.
        head: modulation of the head.
        texts: keys and values of each block.
        mixed_blocks: blocks after which guidance mixes the two predictions.
        mixes_logits: whether it mixes the logits.
    """

    modulations: list[Modulation]
    head: tuple[Tensor, Tensor]
    texts: list[TextKeys]
    mixed_blocks: frozenset[int]
    mixes_logits: bool


@register("infinity", config=InfinityConfig, presets=PRESETS)
class InfinityGenerator(NextScaleGenerator):
    """Transformer that writes the bits of a multi-scale BSQ tokenizer for a text.

    Conditions are text features: a list of ``(T_i, C_text)`` tensors, one ``(B, T, C_text)``
    tensor, or :class:`~tessella.generation.text.Prompts` for masks and negative prompts.

    Example:
        >>> sizes = {"depth": 1, "width": 16, "heads": 2, "mlp_hidden": 32, "text_channels": 8}
        >>> model = InfinityGenerator(InfinityConfig(**sizes, bits=4, text_heads=2, text_length=9))
        >>> model.grids[-1]
        (64, 64)
    """

    config: InfinityConfig
    guidance_ramp: ClassVar[Ramp] = "constant"

    def __init__(self, config: InfinityConfig) -> None:
        super().__init__(config)
        width = config.width
        self.text = TextConditioner(
            config.text_channels, config.text_length, width, config.text_heads
        )
        self.start_embedding = nn.Parameter(torch.empty(1, 1, width))
        self.scale_embedding = nn.Embedding(config.max_scales, width)
        self.word_embedding = nn.Linear(config.bits, width)
        self.shared_modulation = (
            PackedLinear(width, 6 * width) if config.is_modulation_shared else None
        )
        rates = [config.drop_path * i / max(1, config.depth - 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(
            TextBlock(
                width,
                config.heads,
                text_gamma=config.text_gamma,
                hidden=config.hidden,
                is_modulation_shared=config.is_modulation_shared,
                is_normalized=True,
                drop_path=rate,
                eps=_EPS,
            )
            for rate in rates
        )
        self.head = ModulatedHead(width, 2 * config.bits, eps=_EPS)
        initialize_next_scale(self, config.depth, config.first_gamma)
        with torch.no_grad():
            for block in self._text_blocks:
                block.cross_attention.proj.weight /= (2 * config.depth) ** 0.5

    @property
    def _text_blocks(self) -> list[TextBlock]:
        return cast("list[TextBlock]", list(self.blocks))

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The grids of all scales of a picture of the usual size."""
        return self.config.usual_grids

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Two values a bit."""
        return (2,) * self.config.bits

    @property
    def input_channels(self) -> int:
        """Channels of the running sum: as many as bits."""
        return self.config.bits

    def grids_for(
        self, image_size: tuple[int, int] | None, tokenizer: NextScaleTokenizer
    ) -> tuple[Grid, ...]:
        """Return the grids of all scales for ``(height, width)``; None is the usual size.

        Raises:
            ShapeError: if there is no schedule for that size; the message names the nearest.
        """
        if image_size is None or self.config.schedule:
            return super().grids_for(image_size, tokenizer)
        stride = tokenizer.stride
        sizes = {(s[-1][0] * stride, s[-1][1] * stride): s for s in self.config.schedules}
        height, width = image_size
        if (height, width) not in sizes:
            near = min(sizes, key=lambda size: abs(size[0] - height) + abs(size[1] - width))
            raise ShapeError(
                f"image_size={image_size} given; this generator writes {len(sizes)} sizes, of "
                f"which {near} is the nearest"
            )
        return sizes[height, width]

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Check that the generator writes tokens of a tokenizer.

        Raises:
            ShapeError: saying what differs.
        """
        super().check_tokenizer(check_bitwise(tokenizer))

    # ---- training --------------------------------------------------------------------------

    def forward(
        self,
        tokens: Tokens,
        condition: Any,
        *,
        tokenizer: Tokenizer,
        generator: torch.Generator | None = None,
        features: Tensor | None = None,
    ) -> GeneratorOutput:
        """Predict every bit of whole pyramids from the scales before it.

        Args:
            tokens: of all scales; any schedule of the tokenizer.
            condition: text features, one prompt a picture.
            tokenizer: whose tokens they are.
            generator: of the CPU: noise of dropped texts and branches and of flipped bits, in
                training mode.
            features: ``(B, D, h, w)`` that the tokens were made of
                (``tokenizer.images_to_features``). With them the bits to predict are found anew,
                after flips in training mode (bitwise self-correction); without, they are those of
                the tokens.

        Returns:
            Logits ``(B, N, d, 2)``, the cross entropy a bit, and accuracies.
        """
        self.check_tokenizer(tokenizer)
        writer = check_bitwise(tokenizer)
        grids = self._grids_of(tokens, writer)
        prompts = check_prompts(condition)
        if prompts.negative is not None:
            raise ShapeError("negative prompts given in training; they guide generation alone")
        text = self._texts(prompts)
        if len(text.lengths) != tokens.batch_size:
            raise ShapeError(
                f"{len(text.lengths)} prompts given for {tokens.batch_size} pictures; expected one "
                "each"
            )
        if self.training and self.config.text_drop:
            chance = torch.rand(len(text.lengths), generator=generator).to(self.device)
            text = self.text.without_prompt(text, chance < self.config.text_drop)
        flips = Flips(self.config.flip_strength, self.config.flip_scales) if self.training else None
        made = example(writer, tokens.to(self.device), features, flips, generator)
        logits = self.predict(made.inputs, text, grids, generator)
        targets = torch.cat([level.flatten(1, 2) for level in made.levels], dim=1)
        sizes = [height * width for height, width in grids]
        losses, stats = bit_loss(logits, targets, sizes, is_balanced=self.config.is_balanced)
        return GeneratorOutput(logits, losses, stats)

    def predict(
        self,
        inputs: Tensor,
        text: TextBatch,
        grids: Sequence[Grid],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return logits ``(B, N, d, 2)`` of all tokens.

        Args:
            inputs: teacher-forcing inputs ``(B, N - 1, d)``.
            text: one prompt a picture.
            grids: of all scales.
            generator: noise of dropped branches, in training mode.
        """
        memory = self.text(text)
        words = self.word_embedding(inputs.to(self.dtype))
        x = torch.cat([memory.pooled.unsqueeze(1) + self.start_embedding, words], dim=1)
        geometry = self.geometry(len(x), tuple(grids), is_guided=False)
        scales = torch.arange(len(grids)).repeat_interleave(torch.tensor(geometry.sizes))
        levels = self.scale_embedding(scales.to(self.device))
        rotation = rotation_of(grids, self.config.finest_of(grids), geometry.head_dim, x.device)
        active = F.silu(memory.pooled)
        modulations, texts = self.modulations(active), self._keys(memory)
        for i, block in enumerate(self._text_blocks):
            if i in self.config.level_blocks:
                x = x + levels
            context = BlockContext(rotation, texts[i])
            x = block(x, modulations[i], geometry.ends, generator, context)
        logits = self.head(x, self.head.modulation_of(active))
        return _bits(logits)

    def _grids_of(self, tokens: Tokens, tokenizer: MultiScaleBSQTokenizer) -> tuple[Grid, ...]:
        tokenizer.check_tokens(tokens)
        grids = tuple((level.grid[0], level.grid[1]) for level in tokens.layout.levels)
        expected = self.config.schedule or tokenizer.schedule(grids[-1])
        if grids != expected:
            raise ShapeError(
                f"tokens with grids {grids} given; expected those of a whole pyramid, {expected}"
            )
        return grids

    # ---- text ------------------------------------------------------------------------------

    def _texts(self, prompts: Prompts) -> TextBatch:
        return self._checked(prompts.features, prompts.mask)

    def _checked(self, features: Any, mask: Tensor | None) -> TextBatch:
        return check_features(
            features,
            mask,
            channels=self.config.text_channels,
            longest=self.config.text_length,
            like=self.start_embedding,
        )

    def _guided(self, text: TextBatch, prompts: Prompts) -> TextBatch:
        """Put what guidance leads away from behind the prompts."""
        if prompts.negative is None:
            return text.joined(self.text.without_prompt(text))
        negative = self._checked(prompts.negative, prompts.negative_mask)
        found, batch = len(negative.lengths), len(text.lengths)
        if found not in (1, batch):
            raise ShapeError(f"{found} negative prompts given; expected 1 or {batch}")
        if found < batch:
            features = negative.features.expand(batch, -1, -1)
            negative = TextBatch(features, negative.lengths * batch)
        return text.joined(negative)

    def _keys(self, memory: TextMemory) -> list[TextKeys]:
        return [
            block.cross_attention.text(memory.tokens, memory.mask) for block in self._text_blocks
        ]

    # ---- generation ------------------------------------------------------------------------

    def _start(self, condition: Any, grids: tuple[Grid, ...], *, is_guided: bool) -> Start:
        prompts = check_prompts(condition)
        text = self._texts(prompts)
        batch, depth = len(text.lengths), self.config.depth
        layers = prompts.guidance_layers
        if min(layers) <= -depth:
            raise ConfigError(
                f"guidance_layers={layers} given; expected 0 or -1 to {1 - depth}: there are "
                f"{depth} blocks"
            )
        memory = self.text(self._guided(text, prompts) if is_guided else text)
        active = F.silu(memory.pooled)
        shared = _Shared(
            self.modulations(active),
            self.head.modulation_of(active),
            self._keys(memory),
            frozenset(depth + layer for layer in layers if layer),
            0 in layers,
        )
        first = memory.pooled.unsqueeze(1) + self.start_embedding
        return Start(batch, first, grids, shared)

    def _embed(self, inputs: Tensor, scale: int, start: Start) -> Tensor:
        x: Tensor = self.word_embedding(inputs.to(self.dtype).flatten(1, 2))
        return x.repeat(start.first.shape[0] // start.batch, 1, 1)

    def _transform(
        self, x: Tensor, scale: int, start: Start, cache: KVCache, weight: float
    ) -> Tensor:
        shared: _Shared = start.shared
        finest, dim = self.config.finest_of(start.grids), self.config.width // self.config.heads
        rotation = rotation_of([start.grids[scale]], finest, dim, x.device)
        for i, block in enumerate(self._text_blocks):
            if i in self.config.level_blocks:
                x = x + self.scale_embedding.weight[scale]
            context = BlockContext(rotation, shared.texts[i])
            x = block.step(x, shared.modulations[i], i, cache, context)
            if weight != 1 and i in shared.mixed_blocks:
                x = torch.lerp(x[start.batch :], x[: start.batch], weight).repeat(2, 1, 1)
        return x

    def _write(self, hidden: Tensor, scale: int, start: Start, drawing: Drawing) -> Written:
        if drawing.sampling.smooth:
            raise ConfigError("smooth=True given; bits have no smooth mixtures: leave it out")
        shared: _Shared = start.shared
        mixing = drawing.weight if shared.mixes_logits else 1.0
        logits = self.head.mixed(hidden, shared.head, mixing, start.batch).float()
        level = draw_bits(_bits(logits), drawing.sampling, drawing.noise)
        height, width = start.grids[scale]
        return Written(level.view(start.batch, height, width, -1))


def _bits(logits: Tensor) -> Tensor:
    """Split logits ``(B, N, 2 d)`` into those of zero and one of each bit, ``(B, N, d, 2)``."""
    return logits.view(*logits.shape[:2], -1, 2)


__all__ = ["InfinityConfig", "InfinityGenerator"]
