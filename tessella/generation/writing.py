"""Many pictures of a pipeline, batch by batch: a contact sheet of them, and a trace."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from tessella.generation.editing import Known
from tessella.generation.kv_cache import make_cache
from tessella.generation.next_scale import ScaleEvent
from tessella.generation.pipelines import NextScalePipeline, PipelineOutput, seeded
from tessella.generation.sampling import Sampling
from tessella.generation.text import Prompts

_GAP = 4
_GROUND = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Request:
    """What to generate.

    Args:
        conditions: what the pipeline's generator takes, one a picture: class labels, text features.
        negative: features of what no picture shall be, with text features; None for nothing.
        seed: picture i has the noise of ``seed + i``.
        guidance_scale: see :meth:`~tessella.generation.next_scale.NextScaleGenerator.generate`.
        sampling: how tokens are drawn.
        kv_cache: what the cache keeps.
        image_size: ``(height, width)`` in pixels; the usual one by default.
        scales: stop after so many; all by default.
        known: tokens that are given.
        batch: pictures at once.
    """

    conditions: Sequence[Any]
    negative: Tensor | None = None
    seed: int = 0
    guidance_scale: float = 4.0
    sampling: Sampling = field(default_factory=Sampling)
    kv_cache: str = "full"
    image_size: tuple[int, int] | None = None
    scales: int | None = None
    known: Known | None = None
    batch: int = 8


def run_request(pipe: NextScalePipeline, request: Request) -> Iterator[PipelineOutput]:
    """Generate a request, batch by batch."""
    make_cache(request.kv_cache)  # a wrong name is told before the work
    for first in range(0, len(request.conditions), request.batch):
        rows = list(request.conditions[first : first + request.batch])
        negative = request.negative
        yield pipe.sample(
            rows if negative is None else Prompts(rows, negative=[negative]),
            guidance_scale=request.guidance_scale,
            sampling=request.sampling,
            kv_cache=request.kv_cache,
            noise=seeded(request.seed + first, len(rows)),
            image_size=request.image_size,
            scales=request.scales,
            known=request.known,
            callback_on_scale_end=None,
        )


def contact_sheet(images: Sequence[Image.Image]) -> Image.Image:
    """Draw pictures of one size in rows, about as many as columns."""
    width, height = images[0].size
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    size = (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _GROUND)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        sheet.paste(image, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    return sheet


def trace_of(output: PipelineOutput) -> list[dict[str, Any]]:
    """Return what happened at each scale of a batch as JSON values."""
    return [_event(event) for event in output.scales]


def _event(event: ScaleEvent) -> dict[str, Any]:
    return {
        "scale": event.scale,
        "grid": list(event.level.shape[1:3]),
        "seconds": round(event.seconds, 6),
        "kv_bytes": event.kv_bytes,
        "tokens": event.level.flatten(1).tolist(),
    }


__all__ = ["Request", "contact_sheet", "run_request", "trace_of"]
