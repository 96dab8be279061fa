"""The model card that goes with trained weights: what was done, and what came out."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from tessella.config import to_dict
from tessella.tokenizers.base import Tokenizer
from tessella.training.config import TrainingConfig
from tessella.training.validation import Row

MODEL_CARD = "MODEL_CARD.md"


def model_card(
    model: Tokenizer,
    config: TrainingConfig,
    *,
    rows: Sequence[Row],
    counts: Mapping[str, int],
    val_count: int,
    seconds: float,
    processes: int,
) -> str:
    """Return the text of a model card in Markdown.

    Args:
        model: the trained tokenizer.
        config: how it was trained.
        rows: the last validation.
        counts: number of pictures by training source; only the last part of a path is shown.
        val_count: number of validation pictures.
        seconds: time of training, all interruptions added up.
        processes: number of processes.
    """
    parameters = sum(p.numel() for p in model.parameters())
    data = config.data
    sources = "\n".join(f"- `{Path(s).name}`: {n} pictures" for s, n in counts.items())
    zoom = f"{data.zoom[0]:g} to {data.zoom[1]:g}"
    return f"""# {config.model.family}

A `{config.model.family}` tokenizer of {parameters / 1e6:.2f} million parameters, trained with
`tessella train`.

## Data

{sources}

Random crops of {data.crop} x {data.crop} pixels, enlarged {zoom} times
{"and mirrored half of the time" if data.flip else "and never mirrored"}.
The licences of these pictures apply to what was learned from them.

## Training

- steps: {config.trainer.steps}, batches of {data.batch} crops
- time: {_duration(seconds)}
- hardware: {_hardware(config, processes)}
- precision: {_precision(config)}

```yaml
{_recipe(config)}```

## Validation

{_table(rows, val_count)}
"""


def _table(rows: Sequence[Row], count: int) -> str:
    if not rows:
        return "No validation pictures were given."
    lines = [
        f"Means over {count} pictures, 8-bit RGB; bits before entropy coding; PSNR is the mean of",
        "the pictures' values, SSIM and MS-SSIM use the Gaussian window of 11 pixels.",
        "",
        "| kept | bits per pixel | PSNR (dB) | SSIM | MS-SSIM |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        similarities = [
            "" if value is None else f"{value:.4f}" for value in (row.ssim, row.ms_ssim)
        ]
        lines.append(
            f"| {row.keep} | {row.bpp:.4g} | {row.psnr:.2f} | {' | '.join(similarities)} |"
        )
    return "\n".join(lines)


def _recipe(config: TrainingConfig) -> str:
    """Return the configuration as YAML, without the folders of the machine it ran on."""
    plain: dict[str, Any] = to_dict(config)
    for name in ("train", "val"):
        plain["data"][name] = [Path(s).name for s in getattr(config.data, f"{name}_sources")]
    plain["trainer"].pop("output")
    if plain["model"]["weights"]:
        plain["model"]["weights"] = Path(plain["model"]["weights"]).name
    return yaml.safe_dump(plain, sort_keys=False)


def _hardware(config: TrainingConfig, processes: int) -> str:
    if torch.cuda.is_available() and config.trainer.device == "auto":
        return f"{processes} x {torch.cuda.get_device_name()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} CPU cores ({platform.machine()}), {processes} process(es)"


def _precision(config: TrainingConfig) -> str:
    name = config.trainer.mixed_precision
    return "float32" if name == "no" else f"{name} autocast, losses in float32"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes else f"{seconds:.0f} s"


__all__ = ["MODEL_CARD", "model_card"]
