"""Speed of our VQGAN beside diffusers' VQModel with the same weights.

The network of taming-transformers' f16 model with random weights; both sides encode pictures to
indices and decode indices to pictures. The two take turns within every repeat, and so does who is
first: on a machine that other work shares, the median of the ratios of pairs says more than the
ratio of medians. Indices and pictures of both sides are compared first.

``VQModel`` is used as its documentation does, and in channels-last layout as well; ours is in the
layout that a loaded model has, channels-last. ``--cpu-time`` measures processor time instead of
time on the clock, which other processes disturb less; use it with one thread.

Example:
    python benchmarks/vqmodel_speed.py --sizes 256 512 --repeats 5
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import torch

from tessella.tokenizers.vqgan import VQGAN, VQGANConfig
from tessella.tokens import Tokens

MOST = 1.05  # times their time
TOLERANCE = 1e-4
Run = Callable[[], torch.Tensor]
Clock = Callable[[], float]


class Sides(NamedTuple):
    """The same work by both: ours, theirs, and theirs in channels-last layout."""

    ours: Run
    theirs: Run
    channels_last: Run


def same_weights(config: VQGANConfig) -> tuple[VQGAN, Any, Any]:
    """Return our model, theirs, and a copy of theirs in channels-last layout."""
    from diffusers import VQModel

    torch.manual_seed(0)
    ours = VQGAN(config).eval()
    torch.nn.init.normal_(ours.quantizer.codebook, std=0.5)  # so that many codes are in use
    attends = [level in config.attention_levels for level in range(len(config.multipliers))]
    sizes = {
        "block_out_channels": tuple(config.channels * m for m in config.multipliers),
        "layers_per_block": config.blocks,
        "latent_channels": config.latent_channels,
        "vq_embed_dim": config.code_dim,
        "num_vq_embeddings": config.codebook_size,
        "norm_num_groups": config.norm_groups,
        "down_block_types": tuple(
            "AttnDownEncoderBlock2D" if attend else "DownEncoderBlock2D" for attend in attends
        ),
        "up_block_types": tuple(
            "AttnUpDecoderBlock2D" if attend else "UpDecoderBlock2D" for attend in attends[::-1]
        ),
    }
    state = {
        name.replace("quantizer.codebook", "quantize.embedding.weight"): tensor
        for name, tensor in ours.state_dict().items()
    }
    pair = []
    for _ in range(2):
        theirs = VQModel(**sizes).eval()
        theirs.load_state_dict(state)
        pair.append(theirs)
    form = torch.channels_last
    return ours.to(memory_format=form), pair[0], pair[1].to(memory_format=form)


def encoding(ours: VQGAN, pair: tuple[Any, Any], images: torch.Tensor) -> Sides:
    """Return what turns images into indices ``(B, h, w)``."""

    def theirs(model: Any, given: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            latents = model.encode(given).latents
            grid = (len(latents), *latents.shape[-2:])
            return model.quantize(latents)[2][2].view(grid)

    last = images.contiguous(memory_format=torch.channels_last)
    return Sides(
        lambda: ours.encode(images).levels[0][..., 0],
        lambda: theirs(pair[0], images),
        lambda: theirs(pair[1], last),
    )


def decoding(ours: VQGAN, pair: tuple[Any, Any], tokens: Tokens) -> Sides:
    """Return what turns indices into images."""
    indices = tokens.levels[0][..., 0]
    shape = (*indices.shape, ours.config.code_dim)

    def theirs(model: Any, form: torch.memory_format) -> torch.Tensor:
        with torch.inference_mode():
            codes = model.quantize.get_codebook_entry(indices.flatten(), shape)
            codes = codes.contiguous(memory_format=form)
            return model.decode(codes, force_not_quantize=True).sample.clamp(-1, 1)

    return Sides(
        lambda: ours.decode(tokens),
        lambda: theirs(pair[0], torch.contiguous_format),
        lambda: theirs(pair[1], torch.channels_last),
    )


def seconds(runs: Sides, repeats: int, clock: Clock) -> list[list[float]]:
    """Time the sides in turn, after a warm-up of each; the order turns around every time."""
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    order = list(range(len(runs)))
    for _ in range(repeats):
        for side in order:
            start = clock()
            runs[side]()
            times[side].append(clock() - start)
        order.reverse()
    return times


def agreement(encode: Sides, decode: Sides) -> float:
    """Check that both sides find the same indices and pictures; return the largest difference.

    Raises:
        SystemExit: if they do not.
    """
    found = [run() for run in encode]
    same = float((found[0] == found[1]).float().mean())
    pictures = [run() for run in decode]
    difference = float((pictures[0] - pictures[1]).abs().max())
    if same < 0.999 or difference > TOLERANCE:  # float rounding flips an index now and then
        raise SystemExit(f"{same:.2%} of the indices agree, pictures differ by {difference:.1e}")
    return difference


def compare(side: int, repeats: int, models: tuple[VQGAN, Any, Any], clock: Clock) -> list[float]:
    """Print the rows of a size, and return the ratios to VQModel as it comes."""
    ours, *pair = models
    generator = torch.Generator().manual_seed(side)
    images = torch.rand(1, 3, side, side, generator=generator) * 2 - 1
    tokens = ours.encode(images)
    both = encoding(ours, tuple(pair), images), decoding(ours, tuple(pair), tokens)
    difference = agreement(*both)
    ratios, whole = [], []
    for name, runs in zip(("encode", "decode"), both, strict=True):
        times = seconds(runs, repeats, clock)
        whole.append(times)
        ratios.append(_row(side, name, times, difference))
    sums = [[a + b for a, b in zip(*pairs, strict=True)] for pairs in zip(*whole, strict=True)]
    return [*ratios, _row(side, "both", sums, difference)]


def _row(side: int, name: str, times: list[list[float]], difference: float) -> float:
    middle = [statistics.median(record) for record in times]
    ratios = [
        statistics.median(a / b for a, b in zip(times[0], other, strict=True))
        for other in times[1:]
    ]
    cells = [f"{value:.3f}" for value in middle] + [f"{ratio:.2f}" for ratio in ratios]
    print(f"| {side} | {name} | {' | '.join(cells)} | {difference:.0e} |", flush=True)
    return ratios[0]


def main() -> int:
    """Parse arguments and print the table; 1 if ours is slower anywhere."""
    parser = argparse.ArgumentParser(description="Speed of our VQGAN beside diffusers' VQModel.")
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 512])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="measure processor time")
    parser.add_argument("--channels", type=int, default=128, help="width of the network")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    models = same_weights(VQGANConfig(channels=arguments.channels))
    print(f"torch {torch.__version__}, diffusers {metadata.version('diffusers')}, float32,")
    kind = "processor time, " if arguments.cpu_time else ""
    print(f"{kind}{arguments.threads} thread(s), medians of {arguments.repeats};")
    print("ratios are ours / theirs, medians of pairs, below 1 where ours is faster.\n")
    print(
        "| side | | ours s | VQModel s | channels-last s | ratio | ratio, channels-last | differ |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    rows = [compare(side, arguments.repeats, models, clock) for side in arguments.sizes]
    ratios = [ratio for row in rows for ratio in row]
    return 0 if max(ratios) <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
