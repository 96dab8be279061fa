"""Time and memory of lookup-free quantizers beside vector-quantize-pytorch's.

One training-mode forward pass (codes, indices, entropy and commitment losses, graph kept) over
65 536 tokens at 18, 24 and 36 bits a token. Every case runs in a process of its own, in turn, ours
beside its peers, with a limit on its memory, so that a table that does not fit ends in a row that
says so and not in a machine that stands still.

* ``GQ``: ours, groups of 6 bits; ``GQ, one group`` is ours without groups, which is LFQ with its
  codebook entropy over sub-groups of at most 12 bits;
* ``LFQ, groups``: theirs with the same groups (``num_codebooks``);
* ``LFQ``: theirs with one codebook of 2^bits codes;
* ``ResidualLFQ``: theirs with as many levels as there are groups, 6 bits each.

The peer is optional: ``pip install vector-quantize-pytorch``. Its entropy penalty keeps one
histogram a codebook, so ours is given the same reduction.

Example:
    python benchmarks/quantizers.py --limit-gb 8
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch

TOKENS = 65_536
BITS = (18, 24, 36)
GROUP_BITS = 6
OURS = ("GQ", "GQ, one group")
PEERS = ("LFQ, groups", "LFQ", "ResidualLFQ")
PEER_PACKAGE = "vector_quantize_pytorch"
MISSING = "vector-quantize-pytorch is not installed (pip install vector-quantize-pytorch)"


def ours(case: str, bits: int) -> torch.nn.Module:
    """Build one of our quantizers."""
    from tessella.tokenizers.quantizers import GQ, EntropyConfig

    entropy = EntropyConfig(reduction="per_group_mean")
    if case == "GQ":
        return GQ(bits // GROUP_BITS, GROUP_BITS, entropy=entropy)
    return GQ(1, bits, entropy=entropy)


def peer(case: str, bits: int) -> torch.nn.Module:
    """Build one of vector-quantize-pytorch's quantizers.

    Raises:
        SystemExit: if the package is missing.
    """
    try:
        from vector_quantize_pytorch import LFQ, ResidualLFQ
    except ImportError as error:
        raise SystemExit(MISSING) from error
    groups, weights = bits // GROUP_BITS, {"commitment_loss_weight": 0.25}
    if case == "ResidualLFQ":
        sizes = {"num_quantizers": groups, "codebook_size": 2**GROUP_BITS}
        return ResidualLFQ(dim=bits, **sizes, **weights)
    if case == "LFQ":
        return LFQ(dim=bits, codebook_size=2**bits, **weights)
    return LFQ(dim=bits, codebook_size=2**GROUP_BITS, num_codebooks=groups, **weights)


def measure(case: str, bits: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time a case in this process and read its peak memory."""
    limit = int(arguments.limit_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    z = torch.randn(1, TOKENS, bits, device=device).requires_grad_()
    before = peak_mb(device)
    try:
        quantizer = (ours if case in OURS else peer)(case, bits).to(device).train()
        quantizer(z)  # warm-up
        times = [seconds(lambda: quantizer(z), device) for _ in range(arguments.repeats)]
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        return {"error": f"does not fit in {arguments.limit_gb:g} GB"}
    return {"seconds": statistics.median(times), "mb": peak_mb(device) - before}


def peak_mb(device: torch.device) -> float:
    """Return the most memory that this process (or its part of the GPU) has held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_process(case: str, bits: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure a case in a process of its own."""
    command = [sys.executable, __file__, "--measure", case, str(bits)]
    command += ["--repeats", str(arguments.repeats), "--device", arguments.device]
    command += ["--limit-gb", str(arguments.limit_gb)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode < 0:  # the system ended it, for want of memory
        return {"error": f"ended by signal {-done.returncode}"}
    if done.returncode:
        raise SystemExit(f"{case} at {bits} bits failed:\n{done.stderr}")
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def table(arguments: argparse.Namespace) -> None:
    """Print the comparison, ratios relative to our GQ."""
    has_peer = importlib.util.find_spec(PEER_PACKAGE) is not None
    cases = OURS + PEERS if has_peer else OURS
    versions = f"torch {metadata.version('torch')}"
    if has_peer:
        versions += f", vector-quantize-pytorch {metadata.version('vector-quantize-pytorch')}"
    print(versions)
    print(f"{TOKENS} tokens, {arguments.device}, {torch.get_num_threads()} threads, float32,")
    print(f"training-mode forward, median of {arguments.repeats}; peak is above the input's.")
    if not has_peer:
        print(f"Ours alone: {MISSING}.")
    print("\n| bits | quantizer | s | peak MB | time / GQ | memory / GQ |")
    print("| --- | --- | --- | --- | --- | --- |")
    for bits in arguments.bits:
        first: dict[str, Any] = {}
        for case in cases:
            found = in_process(case, bits, arguments)
            first = first or found
            print(f"| {bits} | {case} | {_cells(found, first)} |", flush=True)


def _cells(found: dict[str, Any], first: dict[str, Any]) -> str:
    if "error" in found:
        return f"{found['error']} | | |"
    numbers = f"{found['seconds']:.3f} | {found['mb']:.0f}"
    if "error" in first:
        return f"{numbers} | |"
    return (
        f"{numbers} | {found['seconds'] / first['seconds']:.2f} | {found['mb'] / first['mb']:.2f}"
    )


def main() -> None:
    """Parse arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bits", type=int, nargs="+", default=list(BITS), help="bits of a token")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit-gb", type=float, default=12.0, help="memory of a case")
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "BITS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        case, bits = arguments.measure
        print(json.dumps(measure(case, int(bits), arguments)))
        return
    table(arguments)


if __name__ == "__main__":
    main()
