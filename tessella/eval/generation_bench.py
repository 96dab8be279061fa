"""Key-value caches of one generator side by side: memory, time, and how far pictures drift.

Every policy writes the same pictures: the same classes, noise and sampling. It is compared with the
full cache in the same run: the share of equal tokens, and the PSNR between the pictures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tessella.errors import ConfigError
from tessella.eval.psnr import psnr
from tessella.generation.cost import TransformerSizes, full_cache_bytes, generation_cost
from tessella.generation.kv_cache import CacheGeometry, KVCache, make_cache
from tessella.generation.pipelines import NextScalePipeline, PipelineOutput, seeded
from tessella.generation.sampling import Sampling

_FULL = "full"
_EQUAL_DB = 100.0  # what identical pictures count as


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """One policy on one model.

    Args:
        policy: its name.
        budget: what was asked for, as written; empty for the full cache.
        kv_bytes_peak: most bytes of keys and values that a scale found.
        kv_bytes_by_scale: bytes that each scale found.
        kv_bytes_allocated: most storage that the cache owned, working space included.
        kv_bytes_full: a full cache's bytes by formula.
        seconds: median of the runs.
        seconds_by_scale: of the median run.
        token_agreement: share of tokens equal to those of the full cache.
        psnr_to_full: mean decibels between pictures; 100 for identical ones.
        operations: floating-point operations by formula, with the lengths that were kept.
        attention_share: of attention in them.
    """

    policy: str
    budget: str
    kv_bytes_peak: int
    kv_bytes_by_scale: list[int]
    kv_bytes_allocated: int
    kv_bytes_full: int
    seconds: float
    seconds_by_scale: list[float]
    token_agreement: float
    psnr_to_full: float
    operations: float
    attention_share: float


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What is generated.

    Args:
        conditions: what the pipeline's generator takes, such as class labels: one a picture.
        pictures: how many that are.
        guidance_scale: strength of guidance.
        sampling: how tokens are drawn.
        seed: of the first picture's noise.
        repeats: runs of each policy, of which the median counts; one more warms up.
    """

    conditions: Any
    pictures: int
    guidance_scale: float = 4.0
    sampling: Sampling = field(default_factory=lambda: Sampling(top_k=900, top_p=0.95))
    seed: int = 0
    repeats: int = 3


@dataclass(frozen=True, slots=True)
class _Run:
    cache: KVCache
    output: PipelineOutput
    seconds: float


def bench_generation(
    pipe: NextScalePipeline,
    caches: Sequence[str],
    settings: BenchSettings,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[CacheRecord]:
    """Run every cache; the full one first, whether it is asked for or not.

    Args:
        pipe: generator and tokenizer.
        caches: names with budgets.
        settings: what is generated.
        on_progress: called with the number of finished policies and of all.

    Raises:
        ConfigError: if a name is unknown or a budget too small, before anything is generated.
    """
    names = [_FULL, *(name for name in caches if name != _FULL)]
    if len(set(names)) != len(names):
        raise ConfigError(f"caches {', '.join(caches)} given; expected each of them once")
    for name in names:
        make_cache(name)
    records = []
    reference: PipelineOutput | None = None
    for done, name in enumerate(names):
        runs = [_once(pipe, name, settings) for _ in range(settings.repeats + 1)][1:]
        middle = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
        reference = reference or middle.output
        records.append(_record(pipe, name, runs, middle, reference))
        if on_progress is not None:
            on_progress(done + 1, len(names))
    return records


def _once(pipe: NextScalePipeline, name: str, settings: BenchSettings) -> _Run:
    cache = make_cache(name)
    start = time.perf_counter()
    output = pipe.sample(
        settings.conditions,
        guidance_scale=settings.guidance_scale,
        sampling=settings.sampling,
        kv_cache=cache,
        noise=seeded(settings.seed, settings.pictures),
        scales=None,
        known=None,
        callback_on_scale_end=None,
    )
    return _Run(cache, output, time.perf_counter() - start)


def _record(
    pipe: NextScalePipeline,
    name: str,
    runs: Sequence[_Run],
    middle: _Run,
    reference: PipelineOutput,
) -> CacheRecord:
    policy, _, budget = name.partition(":")
    cache = middle.cache
    geometry = cache.geometry
    kept = [statistics.fmean(lengths) for lengths in cache.use.lengths_by_scale]
    cost = generation_cost(_sizes(pipe, geometry), geometry.sizes, kept)
    return CacheRecord(
        policy=policy,
        budget=budget,
        kv_bytes_peak=cache.use.peak_bytes,
        kv_bytes_by_scale=cache.use.bytes_by_scale,
        kv_bytes_allocated=cache.use.allocated_peak,
        kv_bytes_full=full_cache_bytes(geometry),
        seconds=statistics.median(run.seconds for run in runs),
        seconds_by_scale=[event.seconds for event in middle.output.scales],
        token_agreement=token_agreement(middle.output, reference),
        psnr_to_full=_psnr(middle.output, reference),
        operations=geometry.rows * cost.total,
        attention_share=cost.attention / cost.total,
    )


def _sizes(pipe: NextScalePipeline, geometry: CacheGeometry) -> TransformerSizes:
    sizes = pipe.generator.vocab_sizes
    return TransformerSizes(
        width=geometry.heads * geometry.head_dim,
        depth=geometry.layers,
        inputs=pipe.generator.input_channels,
        # a categorical head has a number a code, a bitwise one two a bit
        logits=sum(sizes),
        mlp_ratio=getattr(pipe.generator.config, "mlp_ratio", 4.0),
    )


def token_agreement(output: PipelineOutput, reference: PipelineOutput) -> float:
    """Return the share of tokens that are equal, over all scales."""
    ours, theirs = output.tokens.flatten(), reference.tokens.flatten()
    return float((ours == theirs).float().mean())


def _psnr(output: PipelineOutput, reference: PipelineOutput) -> float:
    found = []
    for ours, theirs in zip(output.images, reference.images, strict=True):
        images = [
            torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] for image in (ours, theirs)
        ]
        found.append(min(float(psnr(images[0], images[1])), _EQUAL_DB))
    return statistics.fmean(found)


def table(records: Sequence[CacheRecord]) -> str:
    """Return one line a policy as text."""
    head = (
        f"{'cache':<22} {'KV peak':>10} {'of full':>8} {'seconds':>8} {'tokens equal':>13} "
        f"{'PSNR to full':>13} {'GFLOP':>8} {'attention':>10}"
    )
    lines = [head]
    full = records[0].kv_bytes_peak
    for record in records:
        name = f"{record.policy}:{record.budget}" if record.budget else record.policy
        share = record.kv_bytes_peak / full if full else 0.0
        lines.append(
            f"{name:<22} {record.kv_bytes_peak / 1e6:>7.2f} MB {share:>8.1%} "
            f"{record.seconds:>8.3f} {record.token_agreement:>13.1%} "
            f"{record.psnr_to_full:>10.2f} dB {record.operations / 1e9:>8.2f} "
            f"{record.attention_share:>10.1%}"
        )
    return "\n".join(lines)


def plot(records: Sequence[CacheRecord], path: Path) -> None:
    """Draw memory against agreement, one point a policy."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    by_policy: dict[str, list[CacheRecord]] = {}
    for record in records:
        by_policy.setdefault(record.policy, []).append(record)
    full = max(records[0].kv_bytes_peak, 1)
    for name, points in by_policy.items():
        points = sorted(points, key=lambda record: record.kv_bytes_peak)
        axes.plot(
            [100 * record.kv_bytes_peak / full for record in points],
            [100 * record.token_agreement for record in points],
            "o-",
            label=name,
        )
    axes.set_xlabel("key-value memory, % of the full cache")
    axes.set_ylabel("tokens equal to the full cache's, %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


__all__ = [
    "BenchSettings",
    "CacheRecord",
    "bench_generation",
    "plot",
    "table",
    "token_agreement",
]
