"""Measuring a generator's attention while it writes pictures.

Example:
    >>> from tessella.generation.kv_cache.calibrating import calibrate, make_calibrator
    >>> from tessella.generation.pipelines import VARPipeline
    >>> pipe = VARPipeline.from_preset("var-tiny")
    >>> [found] = calibrate(
    ...     pipe.generator, pipe.tokenizer, [[2], [7]], [make_calibrator("head")], guidance_scale=4
    ... )
    >>> found.pictures, len(found.variances)
    (2, 4)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tessella.config import nearest
from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import Visible
from tessella.generation.kv_cache.calibration import Calibration, Calibrator
from tessella.generation.kv_cache.full import FullCache
from tessella.generation.kv_cache.hack_calibration import HeadCalibrator
from tessella.generation.kv_cache.heat_kv_calibration import HeatCalibrator
from tessella.generation.kv_cache.scale_kv_calibration import ScaleKVCalibrator

if TYPE_CHECKING:
    from tessella.generation.next_scale import NextScaleGenerator
    from tessella.generation.sampling import Sampling
    from tessella.tokenizers.base import Tokenizer

_PROBABILITIES_AT_ONCE = 2**26


#: calibrators by the name of the policy that reads what they find
CALIBRATORS: dict[str, Callable[[], Calibrator]] = {
    "head": HeadCalibrator,
    "heat": HeatCalibrator,
    "scale": ScaleKVCalibrator,
}


def make_calibrator(method: str) -> Calibrator:
    """Return a fresh calibrator.

    Raises:
        ConfigError: if no policy of that name reads a calibration.
    """
    if method not in CALIBRATORS:
        raise ConfigError(f"method {method!r} given; {nearest(method, sorted(CALIBRATORS))}")
    return CALIBRATORS[method]()


class RecordingCache(FullCache):
    """A full cache that works out attention a second time, and shows it to calibrators.

    Args:
        calibrators: see the conditional rows only, a few queries at a time.
        at_once: most probabilities that are held at a time, at least those of one query.
    """

    name = "recording"

    def __init__(
        self, calibrators: Sequence[Calibrator], *, at_once: int = _PROBABILITIES_AT_ONCE
    ) -> None:
        super().__init__()
        self._calibrators = tuple(calibrators)
        self._at_once = at_once

    def update(self, layer: int, keys: Tensor, values: Tensor, queries: Tensor) -> Visible:
        """Write a scale's tokens, and show how its queries attend."""
        visible, geometry = super().update(layer, keys, values, queries), self.geometry
        pictures = geometry.rows // 2 if geometry.is_guided else geometry.rows
        seen = visible.keys[:pictures].float()
        if self.is_last:  # shown in front of the others, though generated last
            seen = seen.roll(-keys.shape[2], dims=2)
        queries = queries[:pictures].float() * geometry.attention_scale
        pieces = max(1, self._at_once // (pictures * geometry.heads * seen.shape[2]))
        for some in torch.split(queries, pieces, dim=2):
            probabilities = torch.softmax(some @ seen.mT, dim=-1)
            for calibrator in self._calibrators:
                calibrator.add(layer, self.scale, probabilities, geometry)
        return visible


def calibrate(
    generator: NextScaleGenerator,
    tokenizer: Tokenizer,
    conditions: Iterable[Any],
    calibrators: Sequence[Calibrator],
    *,
    sampling: Sampling | None = None,
    image_size: tuple[int, int] | None = None,
    guidance_scale: float | Sequence[float] | None = None,
    seed: int = 0,
) -> list[Calibration]:
    """Write pictures with a full cache and measure attention; ten pictures suffice.

    Args:
        generator: the model.
        tokenizer: whose tokens it writes.
        conditions: batches of conditions, such as ``[[3], [7], [8]]``: three pictures of classes.
        calibrators: from :func:`make_calibrator`.
        sampling: how tokens are drawn; from the whole distribution by default.
        image_size: ``(height, width)`` in pixels; the usual one by default.
        guidance_scale: as in use; None for no guidance.
        seed: batch i has the noise of ``seed + i``.

    Returns:
        What each calibrator found.

    Raises:
        ConfigError: if there is no condition.
        ShapeError: if one does not fit the generator.
    """
    for number, condition in enumerate(conditions):
        generator.generate(
            condition,
            tokenizer=tokenizer,
            guidance_scale=guidance_scale,
            sampling=sampling,
            image_size=image_size,
            kv_cache=RecordingCache(calibrators),
            generator=torch.Generator().manual_seed(seed + number),
        )
        for calibrator in calibrators:
            calibrator.end_run()
    return [calibrator.finish() for calibrator in calibrators]


__all__ = ["CALIBRATORS", "RecordingCache", "calibrate", "make_calibrator"]
