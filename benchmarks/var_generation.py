"""Speed and key-value memory of VAR generation, against a plain sampler with the same weights.

Both run in this process, in turn, with random weights of a published size and the same noise; the
tokens must be identical. Decoding pixels is no part of it. Prints time by scale, memory of keys and
values, where the time goes, and how far that is from the machine's own matrix rate.

Example:
    python benchmarks/var_generation.py --depth 12 --pixels 256 512
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from plain_var import PlainRun, PlainVAR

from tessella.generation.kv_cache import make_cache
from tessella.generation.layers.packed_linear import allow_packing
from tessella.generation.sampling import Sampling
from tessella.generation.saved import enliven
from tessella.generation.var import VARConfig, VARGenerator
from tessella.tokenizers.multiscale_vq import (
    VAR_SIDES,
    MultiScaleVQConfig,
    MultiScaleVQTokenizer,
)

SIDES = {256: VAR_SIDES[0], 512: VAR_SIDES[1]}
TOP_K, TOP_P, GUIDANCE = 900, 0.95, 4.0


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--depth", type=int, nargs="+", default=[12])
    parser.add_argument("--pixels", type=int, nargs="+", default=[256, 512], choices=[256, 512])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    found = []
    for depth in arguments.depth:
        for pixels in arguments.pixels:
            found.append(compare(depth, pixels, arguments.batch, arguments.repeats))
            show(found[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


def compare(depth: int, pixels: int, batch: int, repeats: int) -> dict:
    """Measure both samplers in turn."""
    torch.manual_seed(0)
    # the tokenizer's codes matter, its networks do not
    tokenizer = MultiScaleVQTokenizer(MultiScaleVQConfig(channels=32)).eval()
    model = VARGenerator(VARConfig.of_depth(depth, sides=SIDES[pixels])).eval()
    enliven(model)
    plain = PlainVAR(model, tokenizer)
    labels = torch.arange(batch) * 7 % 1000
    ours, theirs = [], []
    matrix_rate = []
    for repeat in range(repeats + 1):  # the first warms up
        fast = run_ours(model, tokenizer, labels)
        slow = plain.generate(
            labels, cfg=GUIDANCE, top_k=TOP_K, top_p=TOP_P,
            noise=torch.Generator().manual_seed(0),
        )  # fmt: skip
        same = [bool(torch.equal(a, b)) for a, b in zip(fast.levels, slow.levels, strict=True)]
        if repeat:
            ours.append(fast)
            theirs.append(slow)
            matrix_rate.append(measure_matrix_rate(model.config.width))
    operations = count_operations(model.config, batch)
    seconds = statistics.median(sum(run.seconds) for run in ours)
    return {
        "depth": depth,
        "pixels": pixels,
        "batch": batch,
        "tokens_identical": all(same),
        "seconds": seconds,
        "plain_seconds": statistics.median(sum(run.seconds) for run in theirs),
        "seconds_by_scale": by_scale(ours),
        "plain_seconds_by_scale": by_scale(theirs),
        "kv_bytes": max(run.kv_peak for run in ours),
        "plain_kv_bytes": max(run.kv_peak for run in theirs),
        "gflops": operations / seconds / 1e9,
        "matrix_gflops": max(matrix_rate),
        "profile": profile(model, tokenizer, labels),
    }


def run_ours(
    model: VARGenerator, tokenizer: MultiScaleVQTokenizer, labels: torch.Tensor
) -> PlainRun:
    """Generate with the library."""
    cache = make_cache("full")
    seconds: list[float] = []
    tokens = model.generate(
        labels,
        tokenizer=tokenizer,
        guidance_scale=GUIDANCE,
        sampling=Sampling(top_k=TOP_K, top_p=TOP_P),
        generator=torch.Generator().manual_seed(0),
        kv_cache=cache,
        on_scale_end=lambda event: seconds.append(event.seconds),
    )
    return PlainRun(list(tokens.levels), seconds, [cache.use.allocated_peak])


def by_scale(runs: list[PlainRun]) -> list[float]:
    """Median seconds of each scale."""
    return [statistics.median(times) for times in zip(*(r.seconds for r in runs), strict=True)]


def measure_matrix_rate(width: int) -> float:
    """GFLOP/s of one large float32 matrix product, the better of packed and unpacked weights."""
    rows, out = 2048, 4 * width
    from tessella.generation.layers.packed_linear import PackedLinear

    layer = PackedLinear(width, out)
    x = torch.randn(rows, width)
    best = 0.0
    with torch.inference_mode():
        for allowed in (False, True):
            allow_packing(layer, allowed=allowed)
            layer(x)
            start = time.perf_counter()
            layer(x)
            best = max(best, 2.0 * rows * width * out / (time.perf_counter() - start))
    return best / 1e9


def count_operations(config: VARConfig, batch: int) -> float:
    """Floating-point operations of the transformer, both branches: linear layers and attention."""
    width, depth = config.width, config.depth
    sizes = [side * side for side in config.sides]
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    linear = 24 * width**2 * depth * ends[-1]
    attention = 4 * width * depth * sum(n * s for n, s in zip(sizes, ends, strict=True))
    head = 2 * width * config.codebook_size * ends[-1] / 2  # once for both branches
    return 2.0 * batch * (linear + attention + head)


def profile(
    model: VARGenerator, tokenizer: MultiScaleVQTokenizer, labels: torch.Tensor
) -> dict[str, float]:
    """Share of the time by kind of operation."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    kinds = {
        "linear layers": ("_linear_pointwise", "addmm", "aten::mm", "aten::linear"),
        "attention": ("flash_attention", "attention"),
        "drawing": ("multinomial", "topk", "softmax", "cumsum", "sort", "exponential"),
        "normalisation": ("layer_norm", "linalg_vector_norm"),
    }
    with record(activities=[ProfilerActivity.CPU]) as found:
        run_ours(model, tokenizer, labels)
    shares = dict.fromkeys((*kinds, "other"), 0.0)
    for event in found.key_averages():
        kind = next(
            (k for k, names in kinds.items() if any(n in event.key for n in names)), "other"
        )
        shares[kind] += event.self_cpu_time_total
    whole = sum(shares.values())
    return {kind: value / whole for kind, value in shares.items()}


def show(found: dict) -> None:
    """Print one comparison."""
    ratio = found["plain_seconds"] / found["seconds"]
    memory = found["plain_kv_bytes"] / found["kv_bytes"]
    print(
        f"\nVAR-d{found['depth']} {found['pixels']} px, batch {found['batch']}: tokens identical: "
        f"{found['tokens_identical']}\n"
        f"  seconds {found['seconds']:.2f}, plain {found['plain_seconds']:.2f}: {ratio:.2f} x\n"
        f"  key-value MB {found['kv_bytes'] / 1e6:.1f}, plain {found['plain_kv_bytes'] / 1e6:.1f}: "
        f"{memory:.2f} x less\n"
        f"  {found['gflops']:.1f} GFLOP/s of {found['matrix_gflops']:.1f} in one large product: "
        f"{found['gflops'] / found['matrix_gflops']:.0%}"
    )
    pairs = zip(found["seconds_by_scale"], found["plain_seconds_by_scale"], strict=True)
    print("  scale   seconds   plain   ratio")
    for scale, (fast, slow) in enumerate(pairs):
        print(f"  {scale:5d}   {fast:7.3f} {slow:7.3f}   {slow / fast:5.2f}")
    print("  " + ", ".join(f"{kind} {share:.0%}" for kind, share in found["profile"].items()))


if __name__ == "__main__":
    main()
