"""Agreement with recordings of HeatKV's scores, orders and static plans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kv_tools import make_geometry
from recordings import assert_close, load_parts

from tessella.generation.kv_cache.heat_kv_calibration import HeatCalibrator
from tessella.generation.kv_cache.heat_kv_schedule import Removal, Schedule, make_schedule
from tessella.tokenizers.infinity_schedules import infinity_schedule

pytestmark = pytest.mark.parity
TOLERANCE = 1e-6
Removed = dict[str, dict[str, list[int]]]


@pytest.fixture
def plan(parity_dir: Path) -> dict[str, Any]:
    path = parity_dir / "heatkv" / "schedule.json"
    if not path.is_file():
        pytest.skip("no recording heatkv")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _removals(by_source: Removed) -> set[Removal]:
    return {
        Removal(int(source), head, int(layer))
        for source, layers in by_source.items()
        for layer, heads in layers.items()
        for head in heads
    }


def test_plans(plan: dict[str, Any]) -> None:
    sizes = [height * width for height, width in infinity_schedule((64, 64))]
    first, layers, heads = plan["source_scale_start"], plan["num_layers"], plan["num_heads"]
    orders = {
        first + i: tuple((head, layer) for head, layer in order)
        for i, order in enumerate(plan["removal_orders"])
    }
    for budget, expected in plan["results"].items():
        capacity = int(float(budget) * layers * heads * sum(sizes[:-1]) + 1e-9)
        ours = make_schedule(
            sizes,
            orders,
            layers=layers,
            heads=heads,
            protected=plan["protected_prefix_scales"],
            capacity=capacity,
        )
        assert list(ours.counts) == list(expected["prune_counts"].values())
        _check_sets(ours, expected)


def _check_sets(ours: Schedule, expected: dict[str, Any]) -> None:
    for scale in range(len(ours.counts)):
        key = str(scale)
        assert ours.removed_while(scale) == _removals(expected["removed_while_generating"][key])
        assert ours.removed_after(scale) == _removals(expected["removed_after"][key])
        early = {
            int(layer): {Removal(source, head, other) for source, head, other in entries}
            for layer, entries in expected["early"][key].items()
        }
        assert {layer: set(items) for layer, items in ours.early[scale].items()} == early


@pytest.mark.parametrize("queries", [4, 10_000])
def test_scores_and_orders(plan: dict[str, Any], parity_dir: Path, queries: int) -> None:
    recorded = load_parts(parity_dir / "heatkv", "scas*.safetensors")
    scores = recorded["scas"]
    layers, heads, scales = scores.shape
    geometry = make_geometry(
        tuple(plan["scas_sides"]), layers=layers, heads=heads, is_guided=True, rows=2
    )
    calibrator = HeatCalibrator()
    for prompt in range(plan["scas_prompts"]):
        for scale in range(scales):
            for layer in range(layers):
                probabilities = recorded[f"probs.prompt{prompt}.scale{scale}.layer{layer}"][:1]
                for some in probabilities.split(queries, dim=2):
                    calibrator.add(layer, scale, some, geometry)
        calibrator.end_run()
    found = calibrator.finish()
    for source in range(scales - 1):
        if not bool(scores[..., source].isnan().any()):
            ours = torch.tensor(found.scores[source], dtype=torch.float64)
            assert_close(ours, scores[..., source], TOLERANCE)
    for i, order in enumerate(recorded["orders_head_layer"].tolist()):
        assert [list(pair) for pair in found.order(plan["scas_sink"] + i)] == order
