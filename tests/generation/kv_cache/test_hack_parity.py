"""Agreement of HACK's classes, scores and rules with values computed from its formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from kv_tools import make_geometry
from recordings import Recording, assert_close, load_config, load_parts

from tessella.generation.kv_cache import CacheGeometry
from tessella.generation.kv_cache.hack import (
    HACK,
    class_budgets,
    observation_scores,
    structural_places,
)
from tessella.generation.kv_cache.hack_calibration import HeadCalibration, HeadCalibrator
from tessella.generation.kv_cache.policy import StepContext

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5


class Case(NamedTuple):
    config: dict[str, Any]
    io: Recording
    geometry: CacheGeometry

    def kept(self, rule: str, layer: int, head: int) -> list[int]:
        found: list[int] = self.io[f"select.{rule}.{layer}.{head}"].tolist()
        return found


@pytest.fixture
def case(parity_dir: Path) -> Case:
    config = load_config(parity_dir / "hack_formula")
    io = load_parts(parity_dir / "hack_formula", "io*.safetensors")
    geometry = make_geometry(
        tuple(config["sides"]),
        layers=config["layers"],
        heads=config["heads"],
        head_dim=config["head_dim"],
        rows=1,
        attention_scale=config["attention_scale"],
    )
    return Case(config, io, geometry)


def _calibration(case: Case, queries: int) -> HeadCalibration:
    """Measure the recorded attention, some queries at a time."""
    last = len(case.geometry.sizes) - 1
    calibrator = HeadCalibrator()
    for sample in range(case.config["samples"]):
        attention = case.io[f"classify.attn.sample{sample}"]
        for layer in range(case.config["layers"]):
            for some in attention[layer].unsqueeze(0).split(queries, dim=2):
                calibrator.add(layer, last, some, case.geometry)
        calibrator.end_run()
    return calibrator.finish()


@pytest.mark.parametrize("queries", [7, 10_000])
def test_variances_and_classes(case: Case, queries: int) -> None:
    found = _calibration(case, queries)
    assert found.pictures == case.config["samples"]
    assert_close(
        torch.tensor(found.variances).double(),
        case.io["classify.sum_of_column_variance"],
        TOLERANCE,
    )
    classes = torch.tensor(found.is_contextual(case.config["alpha"]))
    assert torch.equal(classes, case.io["classify.is_contextual"].bool())


def test_budgets(case: Case) -> None:
    config = case.config
    heads = config["layers"] * config["heads"]
    count = round(config["alpha_effective"] * heads)
    budgets = class_budgets(config["B"], config["B_C"], count, heads, case.geometry.stored)
    assert budgets == (config["B_C"], config["B_S"])


def test_scores_and_structural_rules(case: Case) -> None:
    config, io = case.config, case.io
    scores = observation_scores(
        io["select.q"], io["select.k"], scale=config["attention_scale"], count=config["n_obs"]
    )
    recent = case.geometry.sizes[config["step"]]
    for layer in range(config["layers"]):
        for head in range(config["heads"]):
            ours = scores[layer, head]
            assert_close(ours.double(), io[f"select.score.{layer}.{head}"], TOLERANCE)
            for rule, budget in (("structural", "B_S"), ("structural_small", "B_S_small")):
                places = structural_places(
                    ours, config[budget], first=config["n_init"], recent=recent
                )
                assert places.tolist() == case.kept(rule, layer, head)


def test_policy_keeps_what_the_class_of_a_head_says(case: Case) -> None:
    config, io, geometry = case.config, case.io, case.geometry
    policy = HACK(
        config["B"],
        calibration=_calibration(case, 64),
        contextual_share=config["alpha"],
        contextual_budget=config["B_C"],
        observed_queries=config["n_obs"],
    )
    policy.start(geometry)
    for layer in range(config["layers"]):
        keys, queries = io["select.k"][layer].unsqueeze(0), io["select.q"][layer].unsqueeze(0)
        total = keys.shape[2]
        origin = torch.arange(total, dtype=torch.int32).expand(1, config["heads"], -1)
        lengths = (total,) * config["heads"]
        context = StepContext(layer, config["step"], keys, keys, queries, origin, lengths, geometry)
        keep = policy.select(context)
        assert isinstance(keep, list)
        for head, places in enumerate(keep):
            is_contextual = bool(io["classify.is_contextual"][layer, head])
            rule = "contextual" if is_contextual else "structural"
            assert places[0].tolist() == case.kept(rule, layer, head)
