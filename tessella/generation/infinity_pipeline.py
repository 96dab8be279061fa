"""Pictures of texts: Infinity (arXiv 2412.04431), its tokenizer and perhaps a text encoder.

::

    prompts --text encoder--> features --generator--> tokens --tokenizer--> RGB pictures

Infinity's own program flips its pictures to BGR when they are done, for the library that writes
its files; the decoder's channels, also those of converted weights, are RGB, and nothing is flipped
here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from tessella.errors import ConfigError, ShapeError
from tessella.generation import saved
from tessella.generation.editing import Known
from tessella.generation.infinity import InfinityGenerator
from tessella.generation.kv_cache import KVCache
from tessella.generation.next_scale import NextScaleGenerator
from tessella.generation.pipeline import NextScalePipeline, OnScaleEnd, PipelineOutput, seeded
from tessella.generation.sampling import Noise, Sampling
from tessella.generation.text import Features, Prompts
from tessella.generation.text_encoder import TextEncoder
from tessella.tokenizers.infinity_schedules import LENGTHS, TEMPLATES
from tessella.tokenizers.next_scale import NextScaleTokenizer

Self = TypeVar("Self", bound="InfinityPipeline")
#: texts to one ``(T_i, C_text)`` tensor each
Encoder = Callable[[Sequence[str]], list[Tensor]]
#: texts, or what a text encoder makes of them
Texts = str | Sequence[str] | Features


class InfinityPipeline(NextScalePipeline):
    """Pictures of texts, written by Infinity (arXiv 2412.04431).

    Args:
        generator: an Infinity transformer.
        tokenizer: the one that it was trained with.
        text_encoder: turns prompts into features: a hub id or folder of a T5 model, which is loaded
            when the first prompt comes, or a function. Without it, prompts are features.

    Raises:
        ShapeError: if the generator writes tokens of another tokenizer.

    Example:
        >>> import torch
        >>> pipe = InfinityPipeline.from_preset("infinity-tiny")
        >>> pipe.set_progress_bar_config(disable=True)
        >>> pipe([torch.randn(5, 8), torch.randn(3, 8)], seed=0).images[0].size
        (32, 32)
    """

    family = "infinity"
    condition_kind = "text"
    sampling = Sampling(top_p=0.97)

    def __init__(
        self,
        generator: NextScaleGenerator,
        tokenizer: NextScaleTokenizer,
        text_encoder: Encoder | str | Path | None = None,
    ) -> None:
        super().__init__(generator, tokenizer)
        self.text_encoder = _named(text_encoder)

    # ---- loading and saving ----------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls: type[Self],
        name_or_path: str | Path,
        *,
        text_encoder: Encoder | str | Path | None = None,
    ) -> Self:
        """Load a pipeline from a folder, a shipped name or a hub id.

        Args:
            name_or_path: where it is.
            text_encoder: in place of the one that the pipeline names, if it does.

        Raises:
            CheckpointError: if there is none, or it is damaged or of another family.
        """
        pipe = super().from_pretrained(name_or_path)
        if text_encoder is not None:
            pipe.text_encoder = _named(text_encoder)
        return pipe

    @classmethod
    def _made(
        cls: type[Self],
        generator: NextScaleGenerator,
        tokenizer: NextScaleTokenizer,
        record: Mapping[str, Any],
        source: str,
    ) -> Self:
        pipe = super()._made(generator, tokenizer, record, source)
        pipe.text_encoder = record.get("text_encoder") or None
        return pipe

    def save_pretrained(self, folder: str | Path) -> None:
        """Write generator and tokenizer into a folder, and where the text encoder comes from."""
        encoder = self.text_encoder
        source = encoder if isinstance(encoder, str) else getattr(encoder, "source", "")
        saved.write_pipeline(Path(folder), self.generator, self.tokenizer, text_encoder=source)

    def to(self: Self, device: torch.device | str) -> Self:
        """Move the models."""
        super().to(device)
        if isinstance(self.text_encoder, TextEncoder):
            self.text_encoder.to(device)
        return self

    # ---- use -------------------------------------------------------------------------------

    def __call__(  # noqa: PLR0913  # diffusers' pipelines take as many
        self,
        prompts: Texts,
        *,
        negative_prompt: Texts | None = None,
        guidance_scale: float | Sequence[float] = 4.0,
        guidance_layers: tuple[int, ...] = (0,),
        top_k: int = 0,
        top_p: float = 0.97,
        temperature: float | Sequence[float] = 1.0,
        greedy: bool = False,
        seed: int | None = None,
        generator: Noise = None,
        kv_cache: str | KVCache = "full",
        image_size: tuple[int, int] | None = None,
        aspect_ratio: float | None = None,
        scales: int | None = None,
        known: Known | None = None,
        callback_on_scale_end: OnScaleEnd | None = None,
    ) -> PipelineOutput:
        """Write a picture a prompt.

        Args:
            prompts: texts, or features ``(T_i, C_text)`` of texts, one a picture.
            negative_prompt: what the pictures shall not be, one a picture or one for all.
            guidance_scale: 1 for none, 0 for the negative prompt alone; the same at all scales, or
                one number a scale.
            guidance_layers: where guidance mixes, see
                :class:`~tessella.generation.text.Prompts`.
            top_k: draw among so many values of a bit; 0 for both.
            top_p: draw among values of this much probability; 0 for both.
            temperature: logits are divided by it; at all scales, or one number a scale.
            greedy: take the more likely bits.
            seed: picture i has the noise of ``seed + i``, in any batch.
            generator: noise of the batch or of each picture, in place of a seed.
            kv_cache: what the cache keeps: ``"full"``, ``"scale:0.1"``, ...
            image_size: ``(height, width)`` in pixels, of those that the generator writes.
            aspect_ratio: width by height, in place of a size: see :meth:`nearest_size`.
            scales: stop after so many scales.
            known: tokens that are given, for editing or for finishing a picture.
            callback_on_scale_end: called with the pipeline, the scale and what is known of it.

        Raises:
            ShapeError: if features, size, known tokens or noise do not fit.
            ConfigError: if an option is impossible, or texts are given without a text encoder.
        """
        if aspect_ratio is not None:
            if image_size is not None:
                raise ConfigError("image_size and aspect_ratio given; expected one of them")
            image_size = self.nearest_size(aspect_ratio)
        features = self.encode_texts(prompts)
        negative = None if negative_prompt is None else self.encode_texts(negative_prompt)
        each = [temperature] if isinstance(temperature, float | int) else temperature
        samplings = [Sampling(top_k=top_k, top_p=top_p, temperature=t, greedy=greedy) for t in each]
        return self.sample(
            Prompts(features, negative=negative, guidance_layers=guidance_layers),
            guidance_scale=guidance_scale,
            sampling=samplings[0] if isinstance(temperature, float | int) else samplings,
            kv_cache=kv_cache,
            noise=seeded(seed, len(features)) if seed is not None else generator,
            scales=scales,
            known=known,
            callback_on_scale_end=callback_on_scale_end,
            image_size=image_size,
        )

    def encode_texts(self, texts: Texts) -> list[Tensor]:
        """Return features ``(T_i, C_text)`` of texts; features are returned as they are.

        Texts are encoded one by one, so that a picture does not depend on the others of its batch.

        Raises:
            ShapeError: if there are none, or texts and features are mixed.
            ConfigError: if texts are given and there is no text encoder.
            MissingDependencyError: if the packages of the text encoder are not installed.
        """
        given: list[Any] = [texts] if isinstance(texts, str) else list(texts)
        if not given:
            raise ShapeError("no prompts given; expected at least one")
        if all(isinstance(row, Tensor) for row in given):
            return given
        if not all(isinstance(text, str) for text in given):
            raise ShapeError(
                f"prompts of type {type(given[0]).__name__} given; expected texts, or features "
                "(T, C) of all texts"
            )
        encoder = self._encoder()
        found = {text: encoder([text])[0] for text in dict.fromkeys(given)}
        return [found[text] for text in given]

    def _encoder(self) -> Encoder:
        if isinstance(self.text_encoder, str):
            self.text_encoder = TextEncoder(
                self.text_encoder,
                longest=cast(InfinityGenerator, self.generator).config.text_length,
                device=self.generator.device,
            )
        if self.text_encoder is None:
            raise ConfigError(
                "texts given, but this pipeline has no text encoder; give text_encoder="
                "(--text-encoder), such as google/flan-t5-xl of the published models, or features"
            )
        return self.text_encoder

    def nearest_size(self, aspect_ratio: float) -> tuple[int, int]:
        """Return ``(height, width)`` of the usual resolution nearest to an aspect ratio.

        Args:
            aspect_ratio: width by height; fifteen ratios from 1:3 to 3:1 are written.

        Raises:
            ConfigError: if the ratio is not positive, or the generator writes one size alone.
        """
        config = cast(InfinityGenerator, self.generator).config
        if config.schedule:
            raise ConfigError(
                f"aspect_ratio={aspect_ratio:g} given; this generator writes pictures of one size "
                "alone: leave it out"
            )
        if not aspect_ratio > 0:
            raise ConfigError(f"aspect_ratio={aspect_ratio:g} given; expected more than 0")
        nearest = min(TEMPLATES, key=lambda ratio: abs(ratio - 1 / aspect_ratio))
        height, width = TEMPLATES[nearest][: LENGTHS[config.resolution]][-1]
        stride = self.tokenizer.stride
        return height * stride, width * stride

    def random_conditions(self, count: int, *, seed: int = 0) -> list[Tensor]:
        """Return random features of prompts of a dozen tokens, or fewer, one a picture."""
        config = cast(InfinityGenerator, self.generator).config
        noise = torch.Generator().manual_seed(seed)
        shape = (min(12, config.text_length), config.text_channels)
        return [torch.randn(shape, generator=noise) for _ in range(count)]


def _named(text_encoder: Encoder | str | Path | None) -> Encoder | str | None:
    return str(text_encoder) if isinstance(text_encoder, Path) else text_encoder


__all__ = ["Encoder", "InfinityPipeline", "Texts"]
