"""Pipelines in diffusers' style: a generator and the tokenizer whose tokens it writes.

Example:
    >>> from tessella.generation.pipelines import VARPipeline
    >>> pipe = VARPipeline.from_preset("var-tiny")
    >>> pipe.set_progress_bar_config(disable=True)
    >>> images = pipe(class_labels=[2, 7], guidance_scale=4.0, seed=0).images
    >>> len(images), images[0].size
    (2, (32, 32))
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from PIL import Image
from torch import Tensor

from tessella.errors import CheckpointError, ConfigError
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


class NextScalePipeline:
    """A next-scale generator and its tokenizer.

    Args:
        generator: writes tokens.
        tokenizer: turns them into pictures.

    Raises:
        ShapeError: if the generator writes other tokens.
    """

    family: ClassVar[str]
    guidance_scale: ClassVar[float]

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
        generator, tokenizer = saved.read_pipeline(saved.resolve(name_or_path))
        return cls._checked(generator, tokenizer, str(name_or_path))

    @classmethod
    def from_preset(cls: type[Self], name: str, *, seed: int = 0) -> Self:
        """Make a pipeline of named sizes with random weights, for tests and timings.

        Raises:
            ConfigError: if there is no such preset.
        """
        generator, tokenizer = saved.random_pipeline(name, seed)
        return cls._checked(generator, tokenizer, name)

    @classmethod
    def _checked(cls: type[Self], generator: Any, tokenizer: Any, source: str) -> Self:
        if cls.family and generator.family != cls.family:
            raise CheckpointError(
                f"{source} holds a {generator.family!r} generator; {cls.__name__} expects "
                f"{cls.family!r}"
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

    def sample(  # noqa: PLR0913  # the choices of a user
        self,
        condition: Any,
        *,
        guidance_scale: float | Sequence[float],
        sampling: Sampling,
        kv_cache: str | KVCache,
        noise: Noise,
        scales: int | None,
        known: Known | None,
        callback_on_scale_end: OnScaleEnd | None,
    ) -> PipelineOutput:
        """Write tokens and decode them."""
        from tqdm import tqdm

        count = len(self.generator.grids) if scales is None else scales
        events: list[ScaleEvent] = []
        options = {"disable": not sys.stderr.isatty(), "leave": False, **self._bar}
        with tqdm(total=count, desc="scales", **options) as bar:

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


class VARPipeline(NextScalePipeline):
    """Pictures of classes, written by VAR (arXiv 2404.02905)."""

    family = "var"
    guidance_scale = 4.0

    def __call__(  # noqa: PLR0913  # diffusers' pipelines take as many
        self,
        class_labels: int | Sequence[int] | Tensor,
        *,
        guidance_scale: float | Sequence[float] = 4.0,
        top_k: int = 900,
        top_p: float = 0.95,
        greedy: bool = False,
        smooth: bool = False,
        seed: int | None = None,
        generator: Noise = None,
        kv_cache: str | KVCache = "full",
        scales: int | None = None,
        known: Known | None = None,
        callback_on_scale_end: OnScaleEnd | None = None,
    ) -> PipelineOutput:
        """Write a picture a class label.

        Args:
            class_labels: one a picture; -1 for no class.
            guidance_scale: 0 for none; it rises linearly over the scales.
            top_k: draw among so many tokens; 0 for all.
            top_p: draw among tokens of this much probability; 0 for all.
            greedy: take the most likely tokens.
            smooth: mixtures of codes, for smoother pictures.
            seed: picture i has the noise of ``seed + i``, in any batch.
            generator: noise of the batch or of each picture, in place of a seed.
            kv_cache: what the cache keeps: ``"full"``, ``"scale:0.1"``, ...
            scales: stop after so many scales.
            known: tokens that are given, for editing or for finishing a picture.
            callback_on_scale_end: called with the pipeline, the scale and what is known of it.

        Raises:
            ShapeError: if a class is unknown, or the noise does not fit.
            ConfigError: if an option is impossible.
        """
        labels = [class_labels] if isinstance(class_labels, int) else class_labels
        return self.sample(
            labels,
            guidance_scale=guidance_scale,
            sampling=Sampling(top_k=top_k, top_p=top_p, greedy=greedy, smooth=smooth),
            kv_cache=kv_cache,
            noise=seeded(seed, len(labels)) if seed is not None else generator,
            scales=scales,
            known=known,
            callback_on_scale_end=callback_on_scale_end,
        )


def seeded(seed: int, count: int) -> list[torch.Generator]:
    """Return noise for each picture: of ``seed``, ``seed + 1``, ..."""
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


#: pipelines by the family of their generator
PIPELINES: dict[str, type[NextScalePipeline]] = {"var": VARPipeline}


def load_pipeline(name_or_path: str | Path) -> NextScalePipeline:
    """Load a pipeline of whatever family; a preset's name gives random weights.

    Args:
        name_or_path: a folder, a shipped name, a hub id, or a preset.

    Raises:
        CheckpointError: if there is no such pipeline; the message names the nearest one.
    """
    name = str(name_or_path)
    if saved.is_preset(name) and not Path(name).is_dir():
        generator, tokenizer = saved.random_pipeline(name, 0)
    else:
        generator, tokenizer = saved.read_pipeline(saved.resolve(name))
    if generator.family not in PIPELINES:
        raise ConfigError(f"no pipeline for generators of the family {generator.family!r}")
    return PIPELINES[generator.family](generator, tokenizer)


__all__ = [
    "PIPELINES",
    "NextScalePipeline",
    "OnScaleEnd",
    "PipelineOutput",
    "VARPipeline",
    "load_pipeline",
    "seeded",
]
