"""AdamW over named parameters, its learning rate, and its state as plain tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from tessella.config import nearest
from tessella.errors import CheckpointError, ConfigError
from tessella.training.config import OptimizerSection


def make_optimizer(model: nn.Module, settings: OptimizerSection) -> torch.optim.AdamW:
    """Group the parameters by learning-rate multiplier and decay; freeze those of multiplier 0.

    Weights of two or more axes decay, but for those that the model's ``undecayed`` names.

    Raises:
        ConfigError: if a prefix fits no parameter, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    undecayed = tuple(getattr(model, "undecayed", ()))
    for prefix in settings.lr_multipliers:
        if not any(_has_prefix(name, prefix) for name in names):
            raise ConfigError(
                f"optimizer.lr_multipliers.{prefix} fits no parameter; "
                f"{nearest(prefix, _prefixes(names))}"
            )
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        multiplier = _multiplier(name, settings.lr_multipliers)
        if multiplier == 0:
            parameter.requires_grad_(False)
        else:
            is_decayed = parameter.ndim >= 2 and not any(part in name for part in undecayed)
            groups.setdefault((multiplier, is_decayed), []).append(parameter)
    if not groups:
        raise ConfigError("optimizer.lr_multipliers freezes every parameter; nothing to train")
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "multiplier": multiplier,
                "weight_decay": settings.weight_decay if is_decayed else 0.0,
            }
            for (multiplier, is_decayed), parameters in groups.items()
        ],
        lr=settings.lr,
        betas=settings.betas,
    )


def learning_rate(step: int, *, steps: int, settings: OptimizerSection) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine or a straight line.

    Args:
        step: 0 for the first.
        steps: length of the run.
        settings: largest and final rate, length of the warm-up, schedule.
    """
    warm = min(1.0, (step + 1) / max(settings.warmup, 1))
    if settings.schedule == "linear":
        done = (step - settings.warmup) / max(steps - settings.warmup, 1)
        left = min(1.0, (1 - done) / (1 - settings.plateau))
    else:
        left = 0.5 + 0.5 * math.cos(math.pi * min(step / steps, 1.0))
    return warm * (settings.final_lr + (settings.lr - settings.final_lr) * left)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its multiple of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("multiplier", 1.0)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as ``<parameter>|<entry>``."""
    return {
        f"{name}|{entry}": value
        for name, parameter in model.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Restore what :func:`optimizer_tensors` returned.

    Raises:
        CheckpointError: if the state is of other parameters.
    """
    named = dict(model.named_parameters())
    state: dict[Tensor, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("|")
        parameter = named.get(name)
        if parameter is None or (value.ndim and value.shape != parameter.shape):
            raise CheckpointError(
                f"optimizer state {key!r} of shape {tuple(value.shape)} given; the model has no "
                "such parameter: the checkpoint is of another model"
            )
        # the step counter stays on the CPU, as AdamW keeps it
        kept = torch.empty_like(parameter).copy_(value) if value.ndim else value.clone()
        state.setdefault(parameter, {})[entry] = kept
    optimizer.state.clear()
    optimizer.state.update(state)


def _multiplier(name: str, multipliers: Mapping[str, float]) -> float:
    fitting = [prefix for prefix in multipliers if _has_prefix(name, prefix)]
    return multipliers[max(fitting, key=len)] if fitting else 1.0


def _has_prefix(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _prefixes(names: Iterable[str]) -> list[str]:
    found = set()
    for name in names:
        parts = name.split(".")
        found |= {".".join(parts[: i + 1]) for i in range(len(parts))}
    return sorted(found)


__all__ = [
    "learning_rate",
    "load_optimizer",
    "make_optimizer",
    "optimizer_tensors",
    "set_learning_rate",
]
