"""Everything that the training of scalar latents is told; YAML has the same shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tessella.codecs.entropy.latent.network import LatentPriorConfig
from tessella.config import from_dict
from tessella.errors import ConfigError
from tessella.tokenizers.scalar_latent import QUALITIES, ScalarLatentConfig
from tessella.training.config import DataSection, OptimizerSection, TrainerSection
from tessella.training.config_file import apply_override, check_keys

SECTION = "rate"


@dataclass(frozen=True, slots=True)
class LatentModelSection:
    """What is trained.

    Args:
        tokenizer: sizes of the tokenizer.
        prior: sizes of the prior's network.
        initialize_with: number of crops that set data-dependent weights before the first step.
    """

    tokenizer: ScalarLatentConfig = field(default_factory=ScalarLatentConfig)
    prior: LatentPriorConfig = field(default_factory=LatentPriorConfig)
    initialize_with: int = 512

    def __post_init__(self) -> None:
        if self.initialize_with < 1:
            raise ConfigError(f"model.initialize_with={self.initialize_with} given; expected > 0")


@dataclass(frozen=True, slots=True)
class RateSection:
    """The loss ``bits / pixel + weight(quality) 255^2 MSE`` (images in [0, 1]).

    Args:
        least: weight at quality 0.
        most: weight at quality 99; in between it is geometric.
        balance: a picture's loss is divided by its weight to this power, so that high qualities,
            whose losses are large, do not drown the others; 0 for the plain sum.
        rounded_from: share of the run after which bits are those of rounded values, not noisy ones.
    """

    least: float = 0.0009
    most: float = 0.045
    balance: float = 0.5
    rounded_from: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.least < self.most or not 0 <= self.balance <= 1:
            raise ConfigError(
                f"rate.least={self.least}, rate.most={self.most}, rate.balance={self.balance} "
                "given; expected 0 < least < most, and a balance of 0 to 1"
            )

    def weight(self, quality: float) -> float:
        """Return the weight of the distortion at a quality of 0 to 99."""
        ratio: float = (self.most / self.least) ** (quality / (QUALITIES - 1))
        return self.least * ratio


@dataclass(frozen=True, slots=True)
class LatentTrainingConfig:
    """A whole run."""

    model: LatentModelSection = field(default_factory=LatentModelSection)
    data: DataSection = field(default_factory=DataSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    rate: RateSection = field(default_factory=RateSection)
    trainer: TrainerSection = field(default_factory=TrainerSection)


def load_latent_config(
    data: Mapping[str, Any], overrides: Sequence[str] = ()
) -> LatentTrainingConfig:
    """Override and check a configuration; sizes of the prior follow the tokenizer's.

    Raises:
        ConfigError: naming the key that is wrong and the nearest right one.
    """
    given: dict[str, Any] = dict(data)
    for override in overrides:
        apply_override(given, override)
    check_keys(given, LatentTrainingConfig, free=("optimizer.lr_multipliers.",))
    result = from_dict(LatentTrainingConfig, given)
    tokenizer = result.model.tokenizer
    prior = dataclasses.replace(
        result.model.prior,
        slices=tokenizer.slices,
        hyper_channels=tokenizer.hyper_channels,
        points=tokenizer.points,
    )
    return dataclasses.replace(result, model=dataclasses.replace(result.model, prior=prior))


__all__ = [
    "SECTION",
    "LatentModelSection",
    "LatentTrainingConfig",
    "RateSection",
    "load_latent_config",
]
