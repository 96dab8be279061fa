"""Generators that write a pyramid scale by scale, each scale in one pass.

::

    condition --> scale 0 --codes--> running sum --resize--> inputs --> scale 1 --> ... --> tokens

Scale k is written after reading the running sum of scales 0..k-1 on its own grid, and attends to
the keys and values that a cache kept of them (VAR, arXiv 2404.02905; Infinity, arXiv 2412.04431).
Subclasses say how a condition starts the sequence, what the transformer is, and how tokens are
drawn from its last features.
"""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from tessella.errors import ShapeError
from tessella.generation.base import Generator
from tessella.generation.editing import Known, KnownScales
from tessella.generation.guidance import Ramp, guidance_weights
from tessella.generation.kv_cache import CacheGeometry, Grid, KVCache, make_cache
from tessella.generation.layers.blocks import ModulatedBlock
from tessella.generation.layers.modulated import Modulation
from tessella.generation.layers.packed_linear import PackedLinear, allow_packing
from tessella.generation.sampling import Noise, Sampling, check_noise, sampling_by_scale
from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.next_scale import NextScaleTokenizer
from tessella.tokens import Tokens


class Written(NamedTuple):
    """What was drawn for one scale.

    Args:
        level: indices ``(B, h, w, G)``.
        codes: vectors ``(B, h, w, D)`` that the next scale shall read in place of the indices'
            codes; None for those.
    """

    level: Tensor
    codes: Tensor | None = None


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """What is known when a scale has been written.

    Args:
        scale: its number, from 0.
        scales: how many are written in all.
        level: its indices ``(B, h, w, G)``.
        total: running sum of codes ``(B, D, h', w')``: ``tokenizer.features_to_images`` shows it.
        seconds: time that the scale took.
        kv_bytes: bytes of keys and values that the scale found in the cache.
    """

    scale: int
    scales: int
    level: Tensor
    total: Tensor
    seconds: float
    kv_bytes: int


@dataclass(frozen=True, slots=True)
class Start:
    """What a condition gives to a run.

    Args:
        batch: number of pictures ``B``.
        first: inputs of the transformer for scale 0, ``(R, n_0, C)``.
        grids: of all scales of the pictures.
        shared: what the subclass needs at every scale.
    """

    batch: int
    first: Tensor
    grids: tuple[Grid, ...]
    shared: Any


@dataclass(frozen=True, slots=True)
class Drawing:
    """How one scale is drawn.

    Args:
        weight: share of the conditional prediction, see :mod:`~tessella.generation.guidance`.
        sampling: how tokens are drawn from logits.
        noise: of the batch, or one source a picture.
        tokenizer: whose tokens are written.
    """

    weight: float
    sampling: Sampling
    noise: Noise
    tokenizer: NextScaleTokenizer


class NextScaleGenerator(Generator):
    """The loop over scales.

    Subclasses set ``blocks``, and ``shared_modulation`` where one projection of the condition
    serves all of them.
    """

    blocks: nn.ModuleList
    shared_modulation: PackedLinear | None

    guidance_ramp: ClassVar[Ramp]
    #: parts of the names of parameters without weight decay
    undecayed: ClassVar[tuple[str, ...]] = (
        "start_embedding",
        "position_embedding",
        "scale_embedding",
        "modulation_offset",
    )

    # ---- what a family defines -------------------------------------------------------------

    @property
    @abstractmethod
    def grids(self) -> tuple[Grid, ...]:
        """The grids of all scales of a picture of the usual size."""

    @abstractmethod
    def _start(self, condition: Any, grids: tuple[Grid, ...], *, is_guided: bool) -> Start:
        """Check a condition and prepare a run; under guidance there are ``2 B`` rows."""

    @abstractmethod
    def _embed(self, inputs: Tensor, scale: int, start: Start) -> Tensor:
        """Bring the running sum ``(B, h, w, C_in)`` to ``(R, n_k, C)``."""

    @abstractmethod
    def _transform(
        self, x: Tensor, scale: int, start: Start, cache: KVCache, weight: float
    ) -> Tensor:
        """Run all blocks over one scale, ``(R, n_k, C)``."""

    @abstractmethod
    def _write(self, hidden: Tensor, scale: int, start: Start, drawing: Drawing) -> Written:
        """Draw a scale from the last features ``(R, n_k, C)``."""

    @property
    @abstractmethod
    def vocab_sizes(self) -> tuple[int, ...]:
        """Alphabets of the indices of a token."""

    @property
    @abstractmethod
    def input_channels(self) -> int:
        """Width of what the generator reads of the running sum."""

    # ---- what users call -------------------------------------------------------------------

    def generate(  # noqa: PLR0913  # every one is a choice of the user
        self,
        condition: Any,
        *,
        tokenizer: Tokenizer,
        guidance_scale: float | Sequence[float] | None = None,
        sampling: Sampling | Sequence[Sampling] | None = None,
        image_size: tuple[int, int] | None = None,
        kv_cache: str | KVCache = "full",
        generator: Noise = None,
        scales: int | None = None,
        known: Known | None = None,
        on_scale_end: Callable[[ScaleEvent], None] | None = None,
    ) -> Tokens:
        """Write tokens for a batch of conditions, in evaluation mode and without gradients.

        Args:
            condition: what the family takes: class labels, text features.
            tokenizer: whose tokens are written.
            guidance_scale: strength of classifier-free guidance, or weights one a scale, see
                :func:`~tessella.generation.guidance.guidance_weights`; None for no guidance.
            sampling: how tokens are drawn, at all scales or one a scale; from the whole
                distribution by default.
            image_size: ``(height, width)`` in pixels, of those that the family writes; the usual
                one by default.
            kv_cache: name and budget of a cache policy, ``"scale:0.1"``, or a cache.
            generator: noise of the batch, or one source a picture.
            scales: write so many scales only; all by default.
            known: tokens that are given: the first scales, or places of a picture to keep.
            on_scale_end: called after each scale.

        Raises:
            ShapeError: if the condition, tokenizer, size, noise or known tokens do not fit.
            ConfigError: if the cache or a number is impossible.
        """
        pyramids = self.checked(tokenizer)
        grids = self.grids_for(image_size, pyramids)
        count = len(grids) if scales is None else scales
        if not 1 <= count <= len(grids):
            raise ShapeError(f"scales={scales} given; expected 1 to {len(grids)}")
        weights = guidance_weights(guidance_scale, self.guidance_ramp, len(grids))[:count]
        samplings = sampling_by_scale(sampling, len(grids))
        cache = make_cache(kv_cache)
        with self._inference():
            is_guided = any(weight != 1 for weight in weights)
            start = self._start(condition, grids, is_guided=is_guided)
            check_noise(generator, start.batch)
            given = None
            if known is not None:
                given = KnownScales(known, pyramids, grids, start.batch)
            rows = start.first.shape[0]
            geometry = self.geometry(rows, grids[:count], is_guided=rows > start.batch)
            cache.start(geometry)
            try:
                levels = self._run(
                    start, weights, cache, pyramids, samplings, generator,
                    given, on_scale_end,
                )  # fmt: skip
            finally:
                cache.release()
        stride = tokenizer.stride
        layout = tokenizer.layout(grids[-1][0] * stride, grids[-1][1] * stride)
        if count < len(grids):
            layout = layout.truncate(levels=count)
        return Tokens(levels, layout)

    def _run(
        self,
        start: Start,
        weights: Sequence[float],
        cache: KVCache,
        tokenizer: NextScaleTokenizer,
        samplings: Sequence[Sampling],
        noise: Noise,
        known: KnownScales | None,
        on_scale_end: Callable[[ScaleEvent], None] | None,
    ) -> list[Tensor]:
        levels: list[Tensor] = []
        total = tokenizer.empty_total(start.batch, start.grids).to(self.device)
        x = start.first
        for scale, weight in enumerate(weights):
            began = time.perf_counter()
            cache.begin_scale(scale)
            hidden = self._transform(x, scale, start, cache, weight)
            if known is not None and known.is_given(scale):
                written = Written(known.level(scale))
            else:
                drawing = Drawing(weight, samplings[scale], noise, tokenizer)
                written = self._write(hidden, scale, start, drawing)
                if known is not None:
                    written = Written(*known.restored(written.level, written.codes, scale))
            total, inputs = _advance(tokenizer, total, written, scale, start.grids)
            levels.append(written.level)
            if scale + 1 < len(weights):
                x = self._embed(inputs, scale + 1, start)
            if on_scale_end is not None:
                seconds = time.perf_counter() - began
                held = cache.use.bytes_by_scale[-1]
                on_scale_end(ScaleEvent(scale, len(weights), written.level, total, seconds, held))
        return levels

    def grids_for(
        self, image_size: tuple[int, int] | None, tokenizer: NextScaleTokenizer
    ) -> tuple[Grid, ...]:
        """Return the grids of all scales for a size of pictures; None is the usual size.

        Families that write several sizes override this.

        Raises:
            ShapeError: if the generator does not write that size.
        """
        stride = tokenizer.stride
        usual = (self.grids[-1][0] * stride, self.grids[-1][1] * stride)
        if image_size is not None and tuple(image_size) != usual:
            raise ShapeError(
                f"image_size={image_size} given; this generator writes pictures of {usual} alone"
            )
        return self.grids

    def geometry(self, rows: int, grids: tuple[Grid, ...], *, is_guided: bool) -> CacheGeometry:
        """Return the shape of the keys and values of a run.

        Args:
            rows: of the batch; twice the pictures under guidance.
            grids: of the scales that are written.
            is_guided: whether the second half of the rows is unconditional.
        """
        attention = cast(ModulatedBlock, self.blocks[0]).attention
        return CacheGeometry(
            layers=len(self.blocks),
            heads=attention.heads,
            head_dim=attention.q_bias.numel() // attention.heads,
            rows=rows,
            grids=grids,
            attention_scale=attention.scale,
            keys_are_normalized=attention.is_normalized,
            is_guided=is_guided,
            dtype=self.dtype,
            device=self.device,
        )

    def modulations(self, active: Tensor) -> list[Modulation]:
        """Return what ``SiLU(condition)``, ``(R, C)``, makes of every block."""
        shared = None if self.shared_modulation is None else self.shared_modulation(active)
        blocks = cast("list[ModulatedBlock]", list(self.blocks))
        return [block.modulation_of(active, shared) for block in blocks]

    def checked(self, tokenizer: Tokenizer) -> NextScaleTokenizer:
        """Return a tokenizer that :meth:`check_tokenizer` accepts.

        Raises:
            ShapeError: saying what differs.
        """
        self.check_tokenizer(tokenizer)
        return cast(NextScaleTokenizer, tokenizer)

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Check that the generator writes tokens of a tokenizer.

        Raises:
            ShapeError: saying what differs.
        """
        if not isinstance(tokenizer, NextScaleTokenizer):
            raise ShapeError(
                f"a {tokenizer.family} tokenizer given; expected one whose tokens are pyramids, "
                "such as multiscale_vq"
            )
        found = (
            tokenizer.quantizer.vocab_sizes * tokenizer.patch**2,
            tokenizer.input_channels,
            tokenizer.schedule(self.grids[-1]),
        )
        expected = (self.vocab_sizes, self.input_channels, self.grids)
        for what, given, wanted in zip(
            ("alphabets", "input channels", "grids"), found, expected, strict=True
        ):
            if given != wanted:
                raise ShapeError(
                    f"a tokenizer with {what} {given} given; this generator writes {wanted}: "
                    "use the tokenizer that it was trained with"
                )

    def train(self, mode: bool = True) -> NextScaleGenerator:
        """Switch to training, which drops rearranged copies of weights, or to evaluation."""
        if mode:
            allow_packing(self, allowed=False)
        super().train(mode)
        return self

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        was_training = self.training
        self.eval()
        allow_packing(self, allowed=True)
        try:
            with torch.inference_mode():
                yield
        finally:
            self.train(was_training)


def _advance(
    tokenizer: NextScaleTokenizer,
    total: Tensor,
    written: Written,
    scale: int,
    grids: tuple[Grid, ...],
) -> tuple[Tensor, Tensor]:
    if written.codes is None:
        return tokenizer.next_scale(total, written.level, scale, grids)
    return tokenizer.add_codes(total, written.codes, scale, grids)


__all__ = ["Drawing", "NextScaleGenerator", "ScaleEvent", "Start", "Written"]
