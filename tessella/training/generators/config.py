"""Everything that the training of a generator is told; YAML has the same shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tessella.config import from_dict, nearest, to_dict
from tessella.errors import ConfigError
from tessella.families import Preset
from tessella.generation.registry import GENERATORS
from tessella.training.config import OptimizerSection, TrainerSection

SECTION = "generator"


@dataclass(frozen=True, slots=True)
class GeneratorSection:
    """What is trained.

    Args:
        family: registered generator family.
        preset: one of the family's named sizes; its defaults when empty.
        config: keys of the family's config that differ from the preset. Those that follow from the
            tokenizer and the data (sides, codebook, classes) are filled in unless they are given.
        weights: folder of a saved generator of the same sizes to start from; empty for none.
    """

    family: str = "var"
    preset: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    weights: str = ""


@dataclass(frozen=True, slots=True)
class GeneratorDataSection:
    """Where labelled pictures come from and how they become squares.

    Args:
        train: folders of class folders, tar shards with labels, glob patterns; one or a list.
        val: the same for validation; empty for none.
        tokens: a token shard: pictures are tokenized once into it and read from it; empty to
            tokenize on the fly.
        views: squares of each picture in the token shard.
        size: side of the squares in pixels.
        batch: squares of a step, over all processes.
        enlarge: the shorter side is resized to this many times the size before a random cut.
        flip: mirror half of the squares.
        val_batches: batches of a validation; 0 for all.
        workers: processes that decode pictures, on the fly.
        cache_mb: megabytes of decoded pictures kept in memory.
    """

    train: str | tuple[str, ...] = ()
    val: str | tuple[str, ...] = ()
    tokens: str = ""
    views: int = 4
    size: int = 256
    batch: int = 64
    enlarge: float = 1.125
    flip: bool = False
    val_batches: int = 4
    workers: int = 0
    cache_mb: int = 2000

    def __post_init__(self) -> None:
        for name in ("views", "size", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name}={getattr(self, name)} given; expected at least 1")
        if self.enlarge < 1:
            raise ConfigError(f"data.enlarge={self.enlarge} given; expected 1 or more")

    @property
    def train_sources(self) -> tuple[str, ...]:
        """The training sources as a tuple."""
        return (self.train,) if isinstance(self.train, str) else self.train

    @property
    def val_sources(self) -> tuple[str, ...]:
        """The validation sources as a tuple."""
        return (self.val,) if isinstance(self.val, str) else self.val


@dataclass(frozen=True, slots=True)
class ProgressiveSection:
    """Progressive training: the first scales first (arXiv 2404.02905).

    Args:
        share: part of the run, after the warm-up, in which scales are added; 0 trains all at once.
        first: index of the last scale that is trained at the beginning.
        ramp: steps over which the loss of a scale that was just added rises.
    """

    share: float = 0.0
    first: int = 4
    ramp: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.first < 0 or self.ramp < 0:
            raise ConfigError(
                f"progressive share={self.share}, first={self.first}, ramp={self.ramp} given; "
                "expected a share of 0 to 1 and no negative numbers"
            )


@dataclass(frozen=True, slots=True)
class SamplesSection:
    """Pictures that are drawn from time to time.

    Args:
        classes: their classes; the first ten when empty.
        guidance_scale: strength of guidance.
        top_k: draw among so many tokens; 0 for all.
        top_p: draw among this much probability; 0 for all.
    """

    classes: tuple[int, ...] = ()
    guidance_scale: float = 2.0
    top_k: int = 0
    top_p: float = 0.95


@dataclass(frozen=True, slots=True)
class GeneratorTrainingConfig:
    """A whole run.

    Args:
        tokenizer: name or folder of the tokenizer whose tokens are learned.
    """

    generator: GeneratorSection = field(default_factory=GeneratorSection)
    tokenizer: str = ""
    data: GeneratorDataSection = field(default_factory=GeneratorDataSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    progressive: ProgressiveSection = field(default_factory=ProgressiveSection)
    samples: SamplesSection = field(default_factory=SamplesSection)
    trainer: TrainerSection = field(default_factory=TrainerSection)


def generator_config(section: GeneratorSection, implied: Mapping[str, Any]) -> Any:
    """Build the config dataclass of the generator's family.

    Args:
        section: what was asked for.
        implied: keys that follow from tokenizer and data; what is asked for goes before.

    Raises:
        ConfigError: with the dotted path of what is wrong.
    """
    family = GENERATORS.get(section.family)
    presets: dict[str, Preset] = {preset.name: preset for preset in family.presets}
    if section.preset not in ("", *presets):
        hint = nearest(section.preset, list(presets))
        raise ConfigError(f"generator.preset: {section.preset!r} given; {hint}")
    base = to_dict(presets[section.preset].config) if section.preset else {}
    names = {f.name for f in dataclasses.fields(family.config_class)}
    fitting = {key: value for key, value in implied.items() if key in names}
    given = {**base, **fitting, **section.config}
    return from_dict(family.config_class, given, path="generator.config")


__all__ = [
    "SECTION",
    "GeneratorDataSection",
    "GeneratorSection",
    "GeneratorTrainingConfig",
    "ProgressiveSection",
    "SamplesSection",
    "generator_config",
]
