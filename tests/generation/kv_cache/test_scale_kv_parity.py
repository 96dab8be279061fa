"""Agreement with recordings of ScaleKV's selection, budgets and calibration."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts
from torch import Tensor

from tessella.generation.kv_cache import CacheGeometry
from tessella.generation.kv_cache.evicting import EvictingCache
from tessella.generation.kv_cache.policy import StepContext
from tessella.generation.kv_cache.scale_kv import Plan, ScaleKV
from tessella.generation.kv_cache.scale_kv_budgets import scale_budgets
from tessella.generation.kv_cache.scale_kv_calibration import (
    ScaleKVCalibrator,
    selectivity_scores,
)
from tessella.generation.kv_cache.windows import grid_window

pytestmark = pytest.mark.parity
SCORES, INDICES = 1e-5, 1e-6
#: sides of the 1024-pixel schedule of the models whose budgets were published
INFINITY = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)


class RecordedBudgets(ScaleKV):
    """ScaleKV with the budgets of a recording."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(1.0, kernel=config["kernel_size"])
        assert config["pooling"] == "maxpool"
        base, scales, layers = config["base_capacity"], len(config["sides"]), config["layers"]
        # a budget is that of the 1-based scale that comes next; the last serves twice
        rows = [
            config["budgets"].get(str(min(scale + 1, scales)), [base] * layers)
            for scale in range(scales + 1)
        ]
        self._recorded = Plan(base, tuple(map(tuple, rows)), math.isqrt(config["window_size"]))

    def plan(self, geometry: CacheGeometry) -> Plan:
        return self._recorded


class Case(NamedTuple):
    config: dict[str, Any]
    io: Recording
    geometry: CacheGeometry
    policy: RecordedBudgets

    def kept(self, layer: int, scale: int) -> Tensor:
        """Numbers of what was recorded to stay; before the first scale, none."""
        if scale < 0:
            return torch.zeros(self.geometry.rows, self.geometry.heads, 0).long()
        return self.io[f"kept.layer{layer}.scale{scale}"].long()

    def context(self, layer: int, scale: int) -> StepContext:
        """What the recorded selection saw."""
        end, size = self.geometry.ends[scale], self.geometry.sizes[scale]
        new = torch.arange(end - size, end).expand(self.geometry.rows, self.geometry.heads, -1)
        origin = torch.cat([self.kept(layer, scale - 1), new], dim=-1)
        every = [self.io[f"input.k.layer{layer}.scale{k}"] for k in range(scale + 1)]
        index = origin.unsqueeze(-1).expand(-1, -1, -1, self.geometry.head_dim)
        keys = torch.cat(every, dim=2).gather(2, index)
        queries = self.io[f"input.q.layer{layer}.scale{scale}"]
        lengths = (keys.shape[2],) * self.geometry.heads
        return StepContext(layer, scale, keys, keys, queries, origin.int(), lengths, self.geometry)


@pytest.fixture
def case(parity_dir: Path) -> Case:
    folder = parity_dir / "scalekv" / "selection"
    config = load_config(folder)
    # another scale behind the recorded ones: they select after their last scale, too
    sides = (*config["sides"], 1)
    geometry = CacheGeometry(
        config["layers"], config["heads"], config["head_dim"], config["batch"],
        tuple((side, side) for side in sides), attention_scale=config["head_dim"] ** -0.5,
    )  # fmt: skip
    policy = RecordedBudgets(config)
    policy.start(geometry)
    return Case(config, load_parts(folder, "io*.safetensors"), geometry, policy)


def _steps(case: Case) -> list[tuple[int, int]]:
    return [(i, k) for i in case.config["save_layers"] for k in range(len(case.config["sides"]))]


def test_scores_and_windows(case: Case) -> None:
    compared = 0
    for layer, scale in _steps(case):
        name = f"layer{layer}.scale{scale}"
        if f"pooled.{name}" not in case.io:
            continue
        context = case.context(layer, scale)
        side = math.isqrt(case.config["window_size"])
        window = grid_window(context.keys.shape[2], case.geometry.grids[scale], side)
        assert torch.equal(window, case.io[f"window.{name}"].long().flatten())
        ours, theirs = case.policy.scores(context, window), case.io[f"pooled.{name}"]
        finite = theirs.isfinite()
        assert torch.equal(ours.isfinite(), finite)
        assert_close(ours[finite], theirs[finite], SCORES)
        compared += 1
    assert compared


def test_kept_tokens(case: Case) -> None:
    for layer, scale in _steps(case):
        name = f"layer{layer}.scale{scale}"
        context, theirs = case.context(layer, scale), case.kept(layer, scale)
        places = case.policy.select(context)
        if places is None:
            assert torch.equal(context.origin.long(), theirs)
            continue
        ours = context.origin.long().gather(-1, places)
        assert ours.shape == theirs.shape
        scores = case.io[f"pooled.{name}"]
        for row in range(case.geometry.rows):
            for head in range(case.geometry.heads):
                found, expected = (set(x[row, head].tolist()) for x in (ours, theirs))
                if not case.io[f"cutoff_tied.{name}"][row, head]:
                    assert found == expected
                    continue
                score = dict(
                    zip(context.origin[row, head].tolist(), scores[row, head].tolist(), strict=True)
                )
                # of tokens that tie at the cut, any may stay
                cut = min(score[n] for n in expected if score[n] > -math.inf)
                assert all(abs(score[n] - cut) <= SCORES for n in found ^ expected)


def test_lengths_of_a_whole_run(case: Case) -> None:
    cache = EvictingCache(case.policy)
    cache.start(case.geometry)
    for scale in range(len(case.config["sides"])):
        cache.begin_scale(scale)
        for layer in case.config["save_layers"]:
            keys, queries = (case.io[f"input.{x}.layer{layer}.scale{scale}"] for x in "kq")
            cache.update(layer, keys, keys, queries)
            recorded = case.config["kept_length_per_layer_and_scale"][layer][scale]
            assert cache.origin(layer).shape[2] == recorded


def test_published_budgets(parity_dir: Path) -> None:
    path = parity_dir / "scalekv" / "published_budgets_10pct.json"
    if not path.is_file():
        pytest.skip("no published budgets")
    sizes = [side * side for side in INFINITY]
    for model in json.loads(path.read_text()).values():
        rows = {int(scale) - 1: row for scale, row in model["scales"].items()}
        drafters = [rows[k]["drafter_layers"] if k in rows else () for k in range(len(sizes))]
        budgets = scale_budgets(sizes, model["layers"], model["average_tokens"], drafters)
        for scale, row in rows.items():
            assert budgets[scale].drafter == row["drafter_tokens"]
            assert budgets[scale].refiner == row["refiner_tokens"]
            assert budgets[scale].limit == row["largest_possible"]


@pytest.mark.parametrize("together", [False, True])
def test_calibration(parity_dir: Path, together: bool) -> None:
    folder = parity_dir / "scalekv" / "calibration"
    path = folder / "asi_config.json"
    if not path.is_file():
        pytest.skip("no recording of calibration")
    config = json.loads(path.read_text())
    io = load_parts(folder, "asi*.safetensors")
    layers, prompts = config["layers"], config["prompts"]
    geometry = CacheGeometry(
        layers, config["heads"], 1, prompts, tuple((side, side) for side in config["sides"])
    )
    calibrator = ScaleKVCalibrator(
        top=config["top_k"], first_scale=config["first_scale"], drafters=config["n_drafters"]
    )
    batches = [list(range(prompts))] if together else [[prompt] for prompt in range(prompts)]
    for batch in batches:
        for scale in range(len(config["sides"])):
            for layer in range(layers):
                maps = [io[f"attn.prompt{p}.layer{layer}.scale{scale}"] for p in batch]
                calibrator.add(layer, scale, torch.stack(maps), geometry)
        calibrator.end_run()
    found = calibrator.finish()
    selectivity = torch.tensor(found.selectivity, dtype=torch.float64)
    assert_close(selectivity, io["asi"], INDICES)
    scores = selectivity_scores(selectivity, config["first_scale"])
    assert torch.equal(scores.isnan(), io["z"].isnan())
    assert_close(scores.nan_to_num(), io["z"].nan_to_num(), INDICES)
    assert [list(pair) for pair in found.drafters] == io["drafters_layer_scale"].tolist()
