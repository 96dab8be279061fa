"""The bench of key-value caches, and the formulas beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tessella.cli import app
from tessella.errors import ConfigError
from tessella.eval.generation_bench import BenchSettings, bench_generation, plot, table
from tessella.generation.cost import TransformerSizes, full_cache_bytes, generation_cost
from tessella.generation.kv_cache import CacheGeometry
from tessella.generation.pipelines import VARPipeline
from tessella.tokenizers.multiscale_vq import VAR_SIDES


@pytest.mark.parametrize(
    ("depth", "sides", "teraflops", "share", "mib"),
    [
        # published: TFLOP of both branches, share of attention, MiB kept at 2 bytes a number
        (16, VAR_SIDES[0], 0.601, 0.062, 53.0),
        (24, VAR_SIDES[0], 1.964, 0.043, 119.2),
        (30, VAR_SIDES[0], 3.790, 0.035, 186.3),
        (16, VAR_SIDES[1], 2.274, 0.188, 152.0),
        (36, VAR_SIDES[1], 22.80, 0.095, 769.5),
    ],
)
def test_formulas_give_the_figures_of_published_sizes(
    depth: int, sides: tuple[int, ...], teraflops: float, share: float, mib: float
) -> None:
    tokens = [side * side for side in sides]
    cost = generation_cost(TransformerSizes(64 * depth, depth, 32, 4096), tokens)
    # AdaLN of every scale is part of the published count: 12 C^2 a block (shared: a model)
    modulation = 12 * (64 * depth) ** 2 * (1 if depth == 36 else depth) * len(tokens)
    total = 2 * (cost.total + modulation)
    assert total / 1e12 == pytest.approx(teraflops, rel=0.01)
    assert cost.attention / (total / 2) == pytest.approx(share, abs=0.002)
    geometry = CacheGeometry(
        depth, depth, 64, 2, tuple((side, side) for side in sides), dtype=torch.float16
    )
    assert full_cache_bytes(geometry) / 2**20 == pytest.approx(mib, abs=0.1)


def test_records_of_caches(tmp_path: Path) -> None:
    pipe = VARPipeline.from_preset("var-tiny")
    pipe.set_progress_bar_config(disable=True)
    caches = ["streaming:1.0", "streaming:0.5"]
    steps: list[tuple[int, int]] = []
    records = bench_generation(
        pipe, caches, BenchSettings([1, 2], 2, repeats=1), on_progress=lambda *n: steps.append(n)
    )
    full, whole, half = records
    assert (full.policy, full.budget, half.budget) == ("full", "", "0.5")
    assert full.kv_bytes_peak == full.kv_bytes_full == full.kv_bytes_by_scale[-1]
    assert (whole.token_agreement, whole.psnr_to_full) == (1.0, 100.0)
    assert half.kv_bytes_peak <= 0.5 * full.kv_bytes_peak
    assert half.token_agreement < 1
    assert half.operations < full.operations
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert len(table(records).splitlines()) == 4
    plot(records, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    with pytest.raises(ConfigError, match="each of them once"):
        bench_generation(pipe, ["streaming:0.5"] * 2, BenchSettings([1], 1))


def test_the_verb(tmp_path: Path) -> None:
    arguments = ["bench", "generation", "var-tiny", "--kv-cache", "full,streaming:0.5"]
    options = ["--class", "1,2", "--repeats", "1", "--json", str(tmp_path / "a.json")]
    result = CliRunner().invoke(app, arguments + options)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "a.json").read_text())
    wanted = {
        "policy", "budget", "kv_bytes_peak", "kv_bytes_by_scale", "seconds", "token_agreement",
        "psnr_to_full",
    }  # fmt: skip
    assert len(found) == 2
    assert all(wanted <= set(record) for record in found)
    assert "streaming:0.5" in result.stdout
