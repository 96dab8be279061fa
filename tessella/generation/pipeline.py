"""What all pipelines share: a next-scale generator and the tokenizer whose tokens it writes."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from PIL import Image
from torch import Tensor

from tessella.errors import CheckpointError
from tessella.generation import saved
from tessella.generation.editing import Known
from tessella.generation.kv_cache import KVCache
from tessella.generation.next_scale import NextScaleGenerator, ScaleEvent
from tessella.generation.sampling import Noise, Sampling
from tessella.images import to_pixels
from tessella.tokenizers.next_scale import NextScaleTokenizer
from tessella.tokens import Tokens

Self = TypeVar("Self", bound="NextScalePipeline")
OnScaleEnd = Callable[["NextScalePipeline", int, ScaleEvent], None]


@dataclass(frozen=True, slots=True)
class PipelineOutput:
    """What a call of a pipeline returns.

    Args:
        images: PIL images.
        tokens: their tokens; :func:`tessella.write` saves one picture's.
        scales: what happened at each scale.
    """

    images: list[Image.Image]
    tokens: Tokens
    scales: list[ScaleEvent]


class NextScalePipeline(ABC):
    """A next-scale generator and its tokenizer.

    Args:
        generator: writes tokens.
        tokenizer: turns them into pictures.

    Raises:
        ShapeError: if the generator writes other tokens.
    """

    #: of the generator
    family: ClassVar[str]
    #: what pictures are asked for by
    condition_kind: ClassVar[Literal["class", "text"]]
    #: defaults of a call
    guidance_scale: ClassVar[float] = 4.0
    sampling: ClassVar[Sampling] = Sampling()

    def __init__(self, generator: NextScaleGenerator, tokenizer: NextScaleTokenizer) -> None:
        generator.check_tokenizer(tokenizer)
        self.generator = generator.eval()
        self.tokenizer = tokenizer.eval()
        self._bar: dict[str, Any] = {}

    # ---- loading and saving ----------------------------------------------------------------

    @classmethod
    def from_pretrained(cls: type[Self], name_or_path: str | Path) -> Self:
        """Load a pipeline from a folder, a shipped name or a hub id.

        Raises:
            CheckpointError: if there is none, or it is damaged or of another family.
        """
        folder = saved.resolve(name_or_path)
        generator, tokenizer = saved.read_pipeline(folder)
        return cls._made(generator, tokenizer, saved.read_index(folder), str(name_or_path))

    @classmethod
    def from_preset(cls: type[Self], name: str, *, seed: int = 0) -> Self:
        """Make a pipeline of named sizes with random weights, for tests and timings.

        Raises:
            ConfigError: if there is no such preset.
        """
        generator, tokenizer = saved.random_pipeline(name, seed)
        return cls._made(generator, tokenizer, {}, name)

    @classmethod
    def _made(
        cls: type[Self],
        generator: NextScaleGenerator,
        tokenizer: NextScaleTokenizer,
        record: Mapping[str, Any],
        source: str,
    ) -> Self:
        """Make a pipeline of what was read; ``record`` is its index."""
        if generator.family != cls.family:
            raise CheckpointError(
                f"{source} holds a {generator.family!r} generator; {cls.__name__} expects "
                f"{cls.family!r}: tessella.load_pipeline loads any"
            )
        return cls(generator, tokenizer)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the pipeline's two models into a folder."""
        saved.write_pipeline(Path(folder), self.generator, self.tokenizer)

    # ---- use -------------------------------------------------------------------------------

    def to(self: Self, device: torch.device | str) -> Self:
        """Move both models."""
        self.generator.to(device)
        self.tokenizer.to(device)
        return self

    def set_progress_bar_config(self, **options: Any) -> None:
        """Set tqdm's options, such as ``disable=True``."""
        self._bar = options

    @abstractmethod
    def random_conditions(self, count: int, *, seed: int = 0) -> list[Any]:
        """Return conditions for :meth:`sample`, one a picture, for timings and measurements."""

    def sample(  # noqa: PLR0913  # the choices of a user
        self,
        condition: Any,
        *,
        guidance_scale: float | Sequence[float],
        sampling: Sampling | Sequence[Sampling],
        kv_cache: str | KVCache,
        noise: Noise,
        scales: int | None,
        known: Known | None,
        callback_on_scale_end: OnScaleEnd | None,
        image_size: tuple[int, int] | None = None,
    ) -> PipelineOutput:
        """Write tokens and decode them.

        Args:
            condition: what the generator takes.
            guidance_scale: strength of guidance.
            sampling: how tokens are drawn.
            kv_cache: what the cache keeps.
            noise: of the batch or of each picture.
            scales: stop after so many.
            known: tokens that are given.
            callback_on_scale_end: called with the pipeline, the scale and what is known of it.
            image_size: ``(height, width)`` in pixels; the usual one by default.
        """
        from tqdm import tqdm

        count = len(self.generator.grids_for(image_size, self.tokenizer))
        events: list[ScaleEvent] = []
        options = {"disable": not sys.stderr.isatty(), "leave": False, **self._bar}
        with tqdm(total=scales or count, desc="scales", **options) as bar:

            def note(event: ScaleEvent) -> None:
                events.append(event)
                bar.update()
                if callback_on_scale_end is not None:
                    callback_on_scale_end(self, event.scale, event)

            tokens = self.generator.generate(
                condition,
                tokenizer=self.tokenizer,
                guidance_scale=guidance_scale,
                sampling=sampling,
                image_size=image_size,
                kv_cache=kv_cache,
                generator=noise,
                scales=scales,
                known=known,
                on_scale_end=note,
            )
        # the sum is at hand, also of mixtures that no index stands for
        return PipelineOutput(self.pictures(events[-1].total), tokens, events)

    @torch.inference_mode()
    def pictures(self, total: Tensor) -> list[Image.Image]:
        """Decode a running sum of codes ``(B, D, h, w)``, as events of scales hold it."""
        images = self.tokenizer.features_to_images(total)
        return [Image.fromarray(to_pixels(image)) for image in images.float().clamp(-1, 1)]


def seeded(seed: int, count: int) -> list[torch.Generator]:
    """Return noise for each picture: of ``seed``, ``seed + 1``, ..."""
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


__all__ = ["NextScalePipeline", "OnScaleEnd", "PipelineOutput", "seeded"]
