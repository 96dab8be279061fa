from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from tessella.errors import CheckpointError, ConfigError
from tessella.training.config import OptimizerSection
from tessella.training.ema import MovingAverage
from tessella.training.optimizers import (
    learning_rate,
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
    set_learning_rate,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def test_learning_rate_warms_up_and_ends_at_the_final_rate() -> None:
    settings = OptimizerSection(lr=1.0, final_lr=0.1, warmup=10)
    rates = [learning_rate(i, steps=100, settings=settings) for i in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[50] == pytest.approx(0.55)  # half-way between the two
    assert rates[100] == pytest.approx(0.1)
    assert rates[25] == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)
    assert all(a < b for a, b in itertools.pairwise(rates[:10]))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_multipliers_decay_and_freezing_follow_the_names() -> None:
    model = network()
    settings = OptimizerSection(
        weight_decay=0.5, lr_multipliers={"0": 0.1, "0.bias": 0.2, "2": 0.0}
    )
    optimizer = make_optimizer(model, settings)
    set_learning_rate(optimizer, 2.0)
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    named = {n: found.get(id(p)) for n, p in model.named_parameters()}
    assert named == {
        "0.weight": (0.2, 0.5),
        "0.bias": (0.4, 0.0),
        "1.weight": (2.0, 0.0),
        "1.bias": (2.0, 0.0),
        "2.weight": None,
        "2.bias": None,
    }
    assert [p.requires_grad for p in model.parameters()] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    ("multipliers", "message"),
    [
        ({"0.weigth": 0.1}, "did you mean '0.weight'"),
        ({"0": 0, "1": 0, "2": 0}, "nothing to train"),
    ],
)
def test_wrong_multipliers(multipliers: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_optimizer(network(), OptimizerSection(lr_multipliers=multipliers))


def test_restored_state_continues_exactly() -> None:
    model = network().to(torch.float32)
    optimizer = make_optimizer(model, OptimizerSection(lr=0.1))
    for seed in range(3):
        step(model, optimizer, seed)
    weights = {n: t.clone() for n, t in model.state_dict().items()}
    saved = {n: t.clone() for n, t in optimizer_tensors(optimizer, model).items()}
    for seed in range(3, 6):
        step(model, optimizer, seed)

    other = network()
    other.load_state_dict(weights)
    again = make_optimizer(other, OptimizerSection(lr=0.1))
    load_optimizer(again, other, saved)
    for seed in range(3, 6):
        step(other, again, seed)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_state_of_another_model_is_refused() -> None:
    model = network()
    optimizer = make_optimizer(model, OptimizerSection())
    with pytest.raises(CheckpointError, match="no such parameter"):
        load_optimizer(optimizer, model, {"9.weight|exp_avg": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="of shape"):
        load_optimizer(optimizer, model, {"0.weight|exp_avg": torch.zeros(2, 2)})


def test_moving_average_is_the_weighted_sum_of_its_history() -> None:
    model = nn.Linear(1, 1, bias=False)
    history = torch.arange(1.0, 41.0)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = MovingAverage(model, decay=0.9)
    expected = 0.0
    for i, value in enumerate(history.tolist()):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update(model, step=i)
        kept = min(0.9, (1 + i) / (10 + i))
        expected = kept * expected + (1 - kept) * value
    assert average.model.weight.item() == pytest.approx(expected, rel=1e-5)
    assert not average.model.weight.requires_grad
