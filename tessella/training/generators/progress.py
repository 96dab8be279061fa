"""Which scales are trained at a step of progressive training (arXiv 2404.02905)."""

from __future__ import annotations

from tessella.generation.teacher_forcing import Progress
from tessella.training.generators.config import ProgressiveSection

_FIRST_WEIGHT = 0.01


def progress_at(
    step: int, *, steps: int, warmup: int, scales: int, settings: ProgressiveSection
) -> Progress | None:
    """Return the progress at a step; None where all scales are trained alike.

    The index of the last trained scale rises linearly from ``first`` to the last one, between the
    end of the warm-up and ``share`` of the run. The loss of a scale that was added rises from 1 %
    over ``ramp`` steps; that of the first stage counts in full.
    """
    if not settings.share:
        return None
    last, first = scales - 1, min(settings.first, scales - 1)
    newest = _newest(step, steps, warmup, last, settings)
    if newest == last and first == last:
        return None
    began = step
    while began > 0 and _newest(began - 1, steps, warmup, last, settings) == newest:
        if step - began >= settings.ramp:
            break
        began -= 1
    weight = 1.0
    if newest > first and settings.ramp:
        weight = min(1.0, _FIRST_WEIGHT + (1 - _FIRST_WEIGHT) * (step - began) / settings.ramp)
    if newest == last and weight == 1:
        return None
    return Progress(newest + 1, weight)


def _newest(step: int, steps: int, warmup: int, last: int, settings: ProgressiveSection) -> int:
    """Return the index of the last scale that is trained."""
    first = min(settings.first, last)
    end = settings.share * steps
    if step <= warmup:
        return first
    if step >= end:
        return last
    return first + round((last - first) * (step - warmup) / max(end - warmup, 1))


__all__ = ["progress_at"]
