"""Two hundred steps of every tokenizer family, through the command line.

Each family's tiny preset is trained by ``tessella train`` in a process of its own, with one thread.
The table shows means over the first and the last ten steps of the run's own log, and how much of
the codebook is in use: afterwards, over the tokens of crops that the saved model encodes, drawn by
another random stream than those of training.

Usage is the share of codes that occur at all. Levels that share a codebook are counted together;
levels and groups with a codebook each are counted apart and averaged; groups of one bit are the
digits of one code. Continuous families have no codebook.

A family passes if its loss falls, more than half of its codes are in use and every number of the
log is finite.

Example:
    python benchmarks/train_smoke.py --images photos/ --families vqgan,wetok
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

import tessella
from tessella.data.crops import CropDataset, CropSettings, collate
from tessella.data.pictures import PictureSet
from tessella.tokenizers import families
from tessella.tokens import Tokens

CROP, BATCH = 32, 16  # what the tiny presets are made for
ZOOM = (0.5, 1.0)
LOG_EVERY = 10
ENCODED = 512  # crops
MOST_BITS = 16  # of a code made of one-bit groups
LEAST_USAGE = 0.5

#: what a family's own recipe has and its tiny preset, made for tests of milliseconds, has not
SETTINGS: dict[str, tuple[str, ...]] = {
    # The published codebook starts from k-means and revives dead codes; below a quarter of the
    # average of hits here, as running counts need 370 steps to fall to the published threshold.
    # The autoencoder, here of random weights, is held still as in the recipe: latents that are
    # trained together with the flow outgrow its noise.
    "selftok": (
        "model.config.kmeans_iterations=10",
        "model.config.dead_code_threshold=2",
        "optimizer.lr_multipliers.autoencoder=0",
        "loss={sqrt_mse: 0, l1: 0, mse: 0.1}",
    ),
    # published with 1e-4; at the 3e-3 of the others its codes collapse
    "one_d_piece": ("optimizer.lr=1e-3",),
}


@dataclass(frozen=True)
class Outcome:
    """What a family's run came to.

    Args:
        family: its name.
        first: mean loss of the first ten steps.
        last: mean loss of the last ten.
        psnr: mean PSNR of the last ten training batches in decibels.
        usage: share of codes in use; None for continuous tokens.
        is_finite: whether every number of the log is.
        seconds: processor time of the whole command.
        error: end of what the command wrote, if it failed.
    """

    family: str
    first: float = math.nan
    last: float = math.nan
    psnr: float = math.nan
    usage: float | None = None
    is_finite: bool = False
    seconds: float = 0.0
    error: str = ""

    @property
    def verdict(self) -> str:
        """``ok``, or what is wrong."""
        if self.error:
            return f"failed: {self.error.splitlines()[-1]}"
        wrong = []
        if not self.is_finite:
            wrong.append("not finite")
        if not self.last < self.first:
            wrong.append("loss does not fall")
        if self.usage is not None and self.usage <= LEAST_USAGE:
            wrong.append("codes unused")
        return ", ".join(wrong) or "ok"


def tiny_preset(family: str) -> str:
    """Return the name of a family's smallest size."""
    return next(p.name for p in families()[family].presets if p.name.endswith("-tiny"))


def recipe(family: str, images: str, output: Path, steps: int) -> dict[str, Any]:
    """Return a training configuration that suits every family."""
    return {
        "model": {"family": family, "preset": tiny_preset(family), "initialize_with": 64},
        "data": {
            "train": images,
            "crop": CROP,
            "batch": BATCH,
            "zoom": list(ZOOM),
            "val_side": CROP,
        },
        "optimizer": {"lr": 3e-3, "final_lr": 3e-4, "warmup": 20, "betas": [0.9, 0.95]},
        "loss": {"sqrt_mse": 0.0, "mse": 1.0, "l1": 0.5},
        "trainer": {
            "output": str(output),
            "steps": steps,
            "device": "cpu",
            "ema": 0.0,
            "log_every": LOG_EVERY,
            "val_every": 0,
            "save_every": steps,
            "tensorboard": False,
        },
        "calibration": {"pictures": 4, "steps": 0},
    }


def run(family: str, images: str, folder: Path, steps: int) -> Outcome:
    """Train a family and look at what came out."""
    output, config = folder / family, folder / f"{family}.yaml"
    config.write_text(yaml.safe_dump(recipe(family, images, output, steps)))
    command = [sys.executable, "-m", "tessella.cli", "train", str(config)]
    command += SETTINGS.get(family, ())
    start = cpu_seconds()
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | one_thread()
    )
    seconds = cpu_seconds() - start
    if done.returncode:
        return Outcome(family, seconds=seconds, error=done.stderr.strip() or "no message")
    lines = (output / "metrics.jsonl").read_text().splitlines()
    log = [record for record in map(json.loads, lines) if record["kind"] == "training"]
    numbers = [v for record in log for v in record.values() if isinstance(v, (int, float))]
    return Outcome(
        family,
        first=log[0]["loss"],
        last=log[-1]["loss"],
        psnr=log[-1]["psnr"],
        usage=codes_in_use(output / "model", images),
        is_finite=all(math.isfinite(number) for number in numbers),
        seconds=seconds,
    )


def cpu_seconds() -> float:
    """Return the processor time of the processes that have ended."""
    times = resource.getrusage(resource.RUSAGE_CHILDREN)
    return times.ru_utime + times.ru_stime


def one_thread() -> dict[str, str]:
    """Return the environment of a process that uses one core."""
    return {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def codes_in_use(model_folder: Path, images: str) -> float | None:
    """Return the share of codes that occur in the tokens of crops; None for continuous tokens."""
    model = tessella.load(str(model_folder))
    if model.layout(CROP, CROP).levels[0].is_continuous:
        return None
    crops = CropDataset(PictureSet([images]), CropSettings(CROP, ZOOM), seed=(1,))
    found: list[Tokens] = []
    for step in range(ENCODED // 64):
        batch = collate([crops[step, place] for place in range(64)])
        found.append(model.encode(batch.images.float() / 127.5 - 1))
    return usage(found)


def usage(found: Sequence[Tokens]) -> float:
    """Return the share of codes that occur; see the module's text."""
    levels = [level.vocab_sizes for level in found[0].layout.levels]
    if len(set(levels)) == 1:
        return _usage([level for tokens in found for level in tokens.levels], levels[0])
    apart = [
        _usage([tokens.levels[i] for tokens in found], sizes) for i, sizes in enumerate(levels)
    ]
    return sum(apart) / len(apart)


def _usage(maps: Sequence[torch.Tensor], sizes: tuple[int, ...]) -> float:
    indices = torch.cat([level.flatten(0, -2) for level in maps])
    if set(sizes) == {2} and len(sizes) <= MOST_BITS:
        indices = (indices << torch.arange(len(sizes))).sum(dim=1, keepdim=True)
        sizes = (2 ** len(sizes),)
    shares = [indices[:, g].unique().numel() / size for g, size in enumerate(sizes)]
    return sum(shares) / len(shares)


def row(outcome: Outcome) -> str:
    """Return a line of the Markdown table."""
    codes = "none" if outcome.usage is None else f"{100 * outcome.usage:.0f} %"
    nan = "no" if outcome.is_finite else "yes"
    return (
        f"| {outcome.family} | {outcome.first:.3f} | {outcome.last:.3f} | {outcome.psnr:.1f} "
        f"| {codes} | {nan} | {outcome.seconds:.0f} | {outcome.verdict} |"
    )


def main() -> int:
    """Parse arguments, train, print the table; 1 if a family fails."""
    parser = argparse.ArgumentParser(description="Train every tokenizer family for a few steps.")
    parser.add_argument("--images", required=True, help="folder of pictures or tar shards")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--families", default="", help="comma-separated; all by default")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file as well")
    arguments = parser.parse_args()
    names = arguments.families.split(",") if arguments.families else list(families())
    print(f"torch {torch.__version__}, {arguments.steps} steps of {BATCH} crops of {CROP}x{CROP}\n")
    print("| family | first loss | last loss | PSNR, dB | codes in use | NaN | CPU s | verdict |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            outcomes.append(run(name, arguments.images, Path(folder), arguments.steps))
            print(row(outcomes[-1]), flush=True)
    if arguments.json:
        records = [asdict(outcome) | {"verdict": outcome.verdict} for outcome in outcomes]
        arguments.json.write_text(json.dumps(records, indent=1))
    return 0 if all(outcome.verdict == "ok" for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
