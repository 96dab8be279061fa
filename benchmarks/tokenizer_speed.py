"""Speed of a tokenizer beside diffusers' AutoencoderTiny and the machine's own convolution rate.

Everything is measured in one run, in turn, so that a drifting machine drifts for all:

* encode and decode of one picture inside Python: ours, AutoencoderTiny (random weights), the ratio;
* the share of the 3x3 convolution rate (fp32, channels-last) that ours reaches; operations are
  counted by torch's own counter;
* with ``--sizes``: seconds per megapixel and peak memory from 0.4 to 96 megapixels, each size in a
  process of its own.

Example:
    python benchmarks/tokenizer_speed.py --sizes
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

SIZES = ((512, 768), (1024, 1536), (2048, 3072), (4000, 6000), (8000, 12000))


def seconds(functions: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Time functions in turn, after a warm-up of each."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeats):
        for function, record in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            record.append(time.perf_counter() - start)
    return times


def convolution(channels: int, size: int = 64) -> tuple[Callable[[], object], float]:
    """Return a 3x3 convolution to time and its floating-point operations."""
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1)
    layer = layer.to(memory_format=torch.channels_last)
    x = torch.randn(1, channels, size, size).contiguous(memory_format=torch.channels_last)

    def run() -> object:
        with torch.inference_mode():
            return layer(x)

    return run, 2.0 * size * size * channels * channels * 9


def count_operations(function: Callable[[], object]) -> float:
    """Count floating-point operations of matrix products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())


def compare(model_name: str, repeats: int) -> None:
    """Print the comparison on one 768x512 picture."""
    import diffusers

    import tessella

    ours = tessella.load(model_name).eval().to(memory_format=torch.channels_last)
    tiny = diffusers.AutoencoderTiny().eval().to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 512, 768, generator=generator) * 2 - 1
    images = images.contiguous(memory_format=torch.channels_last)
    tokens = ours.encode(images)
    with torch.inference_mode():
        latents = tiny.encode(images).latents

    def tiny_encode() -> object:
        with torch.inference_mode():
            return tiny.encode(images).latents

    def tiny_decode() -> object:
        with torch.inference_mode():
            return tiny.decode(latents).sample

    kernels = [convolution(width) for width in (64, 128, 160, 256)]
    runs = [lambda: ours.encode(images), lambda: ours.decode(tokens), tiny_encode, tiny_decode]
    times = seconds(runs + [run for run, _ in kernels], repeats)
    middle = [statistics.median(record) for record in times]
    rates = [flops / best for (_, flops), best in zip(kernels, middle[4:], strict=True)]
    peak = max(rates)
    print(f"threads {torch.get_num_threads()}, median of {repeats}, 768x512, fp32")
    print(f"3x3 convolution rate: {peak / 1e9:.0f} GFLOP/s (best of widths 64 to 256)")
    print("| | ours s | AutoencoderTiny s | times faster | ours GFLOP | share of conv rate |")
    print("| --- | --- | --- | --- | --- | --- |")
    flops = [count_operations(run) for run in runs[:2]]
    for i, name in enumerate(("encode", "decode")):
        share = flops[i] / middle[i] / peak
        print(
            f"| {name} | {middle[i]:.3f} | {middle[i + 2]:.3f} | "
            f"{middle[i + 2] / middle[i]:.2f} | {flops[i] / 1e9:.1f} | {share:.0%} |"
        )
    pairs = [(c + d) / (a + b) for a, b, c, d in zip(*times[:4], strict=True)]
    print(f"encode + decode: {statistics.median(pairs):.2f} times faster (median of pairs)")


def measure_size(model_name: str, height: int, width: int) -> None:
    """Encode and decode one made picture by tiles and print a JSON record."""
    import numpy as np

    import tessella
    from tessella.tokenizers.tiling import decode_tiled, encode_tiled

    model = tessella.load(model_name)
    rows = np.linspace(0, 255, height).astype(np.uint8)[:, None, None]
    columns = (np.arange(width)[None, :, None] * np.array([3, 5, 7]) % 256).astype(np.uint8)
    picture = rows + columns  # wraps around; nothing larger than the picture is made
    encode_tiled(model, picture[:512, :768])  # warm-up
    start = time.perf_counter()
    tokens = encode_tiled(model, picture)
    middle = time.perf_counter()
    decode_tiled(model, tokens)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    megapixels = height * width / 1e6
    record = {
        "megapixels": megapixels,
        "encode": (middle - start) / megapixels,
        "decode": (end - middle) / megapixels,
        "peak_mb": peak,
    }
    print(json.dumps(record))


def sizes(model_name: str) -> None:
    """Print seconds per megapixel and peak memory for growing pictures."""
    print("| megapixels | encode s/MP | decode s/MP | peak MB |")
    print("| --- | --- | --- | --- |")
    for height, width in SIZES:
        command = [sys.executable, __file__, "--model", model_name]
        command += ["--measure", str(height), str(width)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        r = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {r['megapixels']:.1f} | {r['encode']:.3f} | {r['decode']:.3f} | "
            f"{r['peak_mb']:.0f} |",
            flush=True,
        )


def main() -> None:
    """Parse arguments and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="progressive-gq-f8")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--sizes", action="store_true", help="also growing pictures")
    parser.add_argument("--measure", type=int, nargs=2, metavar=("H", "W"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure_size(arguments.model, *arguments.measure)
        return
    compare(arguments.model, arguments.repeats)
    if arguments.sizes:
        sizes(arguments.model)


if __name__ == "__main__":
    main()
