"""A bench of codecs from names to figures: the evaluation's runner at points of rate.

Every codec is measured at its own qualities on the same pictures, from whole files that are decoded
again. Nothing is interpolated but in Bjontegaard deltas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tessella.config import nearest
from tessella.errors import ConfigError
from tessella.eval.codec_bench.comparing import DeltaRow, delta_rows
from tessella.eval.codec_bench.memory import WHY_MISSING, peak_memory
from tessella.eval.evaluation.equipment import EvalOptions
from tessella.eval.evaluation.evaluate import Progress, evaluate
from tessella.eval.evaluation.sets import EvalSet
from tessella.eval.evaluation.worker import Setup
from tessella.eval.piecewise import Method
from tessella.eval.rate_points import Entry, expand
from tessella.eval.results import Results

METRICS = ("psnr", "ms_ssim", "ssimulacra2")
_ALWAYS = ("psnr", "ms_ssim")
_USUAL_ANCHOR = "jpeg"


@dataclass(frozen=True, slots=True)
class CodecBench:
    """What a bench found.

    Args:
        results: records of all pictures; codecs that are not here are among ``missing``.
        setup: by which files are found and decoded again.
        anchor: name of the codec that others are compared with.
        deltas: Bjontegaard deltas of the others.
        jobs: how many processes shared the cores; times depend on it.
        memory: peak bytes by codec; empty if it was not measured.
    """

    results: Results
    setup: Setup
    anchor: str
    deltas: tuple[DeltaRow, ...]
    jobs: int
    memory: Mapping[str, int] = field(default_factory=dict)


def bench_codecs(
    names: Sequence[str],
    sets: Sequence[EvalSet],
    options: EvalOptions | None = None,
    *,
    work: Path,
    anchor: str = "",
    method: Method = "pchip",
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> CodecBench:
    """Measure codecs over their qualities, and compare them with one of them.

    Args:
        names: ``NAME`` or ``NAME:QUALITY``; see :func:`tessella.eval.rate_points.expand`.
        sets: pictures; see :func:`tessella.eval.evaluation.image_set`.
        options: metrics, to which PSNR and MS-SSIM are always added, and weights.
        work: folder of finished pieces. Given again, the bench goes on where it was.
        anchor: name of a codec; JPEG if it is empty, or the first codec where that is not measured.
        method: of interpolation in deltas.
        jobs: processes, which share the cores; 1 for times that others can compare with.
        on_progress: called with the number of finished tasks and of all.

    Raises:
        ConfigError: if a codec, quality, set or option is impossible, or the anchor is not
            measured; before anything is.
        CheckpointError: if a model is damaged or cannot be fetched.
        PictureError: naming a picture that cannot be read.
    """
    options = options or EvalOptions(metrics=METRICS)
    options = replace(options, metrics=tuple(dict.fromkeys((*_ALWAYS, *options.metrics))))
    entries, missing = expand(names, device=options.device)
    chosen = _anchor(anchor, entries)
    labels = [label for entry in entries for label in entry.labels]
    results, setup = evaluate(labels, sets, options, work=work, jobs=jobs, on_progress=on_progress)
    results = replace(results, missing={**results.missing, **missing})
    return CodecBench(results, setup, chosen, tuple(delta_rows(results, chosen, method)), jobs)


def with_memory(bench: CodecBench) -> CodecBench:
    """Return a bench with the peak memory of each codec, a few seconds each.

    See :mod:`tessella.eval.codec_bench.memory` for what is counted. Where the system does not say,
    that is among ``results.missing``.
    """
    memory = peak_memory(bench.setup, bench.results)
    if memory:
        return replace(bench, memory=memory)
    missing = {**bench.results.missing, "peak memory": WHY_MISSING}
    return replace(bench, results=replace(bench.results, missing=missing))


def _anchor(wanted: str, entries: Sequence[Entry]) -> str:
    names = list(dict.fromkeys(entry.name for entry in entries))
    if not wanted:
        return _USUAL_ANCHOR if _USUAL_ANCHOR in names else names[0]
    if wanted not in names:
        raise ConfigError(f"anchor {wanted!r} is not among the codecs; {nearest(wanted, names)}")
    return wanted


__all__ = ["METRICS", "CodecBench", "bench_codecs", "with_memory"]
