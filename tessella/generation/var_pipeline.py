"""Pictures of classes: VAR (arXiv 2404.02905) and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tessella.generation.editing import Known
from tessella.generation.kv_cache import KVCache
from tessella.generation.pipeline import NextScalePipeline, OnScaleEnd, PipelineOutput, seeded
from tessella.generation.sampling import Noise, Sampling


class VARPipeline(NextScalePipeline):
    """Pictures of classes, written by VAR (arXiv 2404.02905)."""

    family = "var"
    condition_kind = "class"
    sampling = Sampling(top_k=900, top_p=0.95)

    def __call__(  # noqa: PLR0913  # diffusers' pipelines take as many
        self,
        class_labels: int | Sequence[int] | Tensor,
        *,
        guidance_scale: float | Sequence[float] = 4.0,
        top_k: int = 900,
        top_p: float = 0.95,
        temperature: float = 1.0,
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
            temperature: logits are divided by it.
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
            sampling=Sampling(
                top_k=top_k, top_p=top_p, temperature=temperature, greedy=greedy, smooth=smooth
            ),
            kv_cache=kv_cache,
            noise=seeded(seed, len(labels)) if seed is not None else generator,
            scales=scales,
            known=known,
            callback_on_scale_end=callback_on_scale_end,
        )

    def random_conditions(self, count: int, *, seed: int = 0) -> list[int]:
        """Return class labels, one a picture."""
        noise = torch.Generator().manual_seed(seed)
        labels: list[int] = torch.randint(
            self.generator.config.classes, (count,), generator=noise
        ).tolist()
        return labels


__all__ = ["VARPipeline"]
