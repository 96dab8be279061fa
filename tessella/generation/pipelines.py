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

from pathlib import Path

from tessella.errors import ConfigError
from tessella.generation import saved
from tessella.generation.infinity_pipeline import InfinityPipeline
from tessella.generation.pipeline import NextScalePipeline, OnScaleEnd, PipelineOutput, seeded
from tessella.generation.var_pipeline import VARPipeline

#: pipelines by the family of their generator
PIPELINES: dict[str, type[NextScalePipeline]] = {
    pipeline.family: pipeline for pipeline in (InfinityPipeline, VARPipeline)
}


def pipeline_class(name_or_path: str | Path) -> type[NextScalePipeline]:
    """Return the class of a pipeline, without reading weights.

    Raises:
        CheckpointError: if there is no such pipeline; the message names the nearest one.
        ConfigError: if there is no class for its family.
    """
    family = saved.family_of(name_or_path)
    if family not in PIPELINES:
        raise ConfigError(f"no pipeline for generators of the family {family!r}")
    return PIPELINES[family]


def load_pipeline(name_or_path: str | Path) -> NextScalePipeline:
    """Load a pipeline of whatever family; a preset's name gives random weights.

    Args:
        name_or_path: a folder, a shipped name, a hub id, or a preset.

    Raises:
        CheckpointError: if there is no such pipeline; the message names the nearest one.
    """
    made = pipeline_class(name_or_path)
    if saved.is_preset(name_or_path):
        return made.from_preset(str(name_or_path))
    return made.from_pretrained(name_or_path)


__all__ = [
    "PIPELINES",
    "InfinityPipeline",
    "NextScalePipeline",
    "OnScaleEnd",
    "PipelineOutput",
    "VARPipeline",
    "load_pipeline",
    "pipeline_class",
    "seeded",
]
