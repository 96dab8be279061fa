"""Everything a training run is told, as frozen dataclasses; YAML has the same shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tessella.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModelSection:
    """What is trained.

    Args:
        family: registered tokenizer family.
        preset: one of the family's named sizes; its defaults when empty.
        config: keys of the family's config that differ from the preset.
        weights: folder of a saved tokenizer of the same sizes to start from; empty for none.
        initialize_with: number of crops that set data-dependent weights before the first step;
            0 keeps random weights.
    """

    family: str = "progressive_gq"
    preset: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    initialize_with: int = 512

    def __post_init__(self) -> None:
        _at_least("model.initialize_with", self.initialize_with, 0)


@dataclass(frozen=True, slots=True)
class DataSection:
    """Where pictures come from and how crops are cut.

    Args:
        train: folders, glob patterns, tar shards or pictures; one or a list.
        val: the same for validation; empty for none.
        weights: one number a training source: how often its pictures are drawn relative to those
            of other sources; empty for all alike.
        crop: side of a training crop in pixels.
        batch: crops of a step, over all processes.
        zoom: least and largest enlargement of a crop, drawn log-uniformly.
        flip: mirror half of the crops.
        val_pictures: pictures of a validation, spread evenly over ``val``; 0 for all.
        val_side: longer sides are cut to the central part of this many pixels.
        workers: processes that decode pictures; 0 decodes in the training process.
        cache_mb: megabytes of decoded pictures kept in memory.
    """

    train: str | tuple[str, ...] = ()
    val: str | tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    crop: int = 128
    batch: int = 16
    zoom: tuple[float, float] = (0.85, 2.0)
    flip: bool = True
    val_pictures: int = 24
    val_side: int = 768
    workers: int = 0
    cache_mb: int = 2000

    def __post_init__(self) -> None:
        for name in ("crop", "batch", "val_side"):
            _at_least(f"data.{name}", getattr(self, name), 1)
        for name in ("val_pictures", "workers", "cache_mb"):
            _at_least(f"data.{name}", getattr(self, name), 0)
        low, high = self.zoom
        if not 0 < low <= high:
            raise ConfigError(
                f"data.zoom={list(self.zoom)} given; expected 0 < least <= largest, such as [1, 2]"
            )

    @property
    def train_sources(self) -> tuple[str, ...]:
        """The training sources as a tuple."""
        return _as_tuple(self.train)

    @property
    def val_sources(self) -> tuple[str, ...]:
        """The validation sources as a tuple."""
        return _as_tuple(self.val)


@dataclass(frozen=True, slots=True)
class OptimizerSection:
    """AdamW, warm-up and decay.

    Args:
        lr: largest learning rate.
        final_lr: learning rate at the end.
        schedule: how it gets there: ``cosine``; or ``linear``, after a plateau, as for VAR.
        warmup: steps of linear warm-up.
        plateau: share of the steps after the warm-up that the full rate is kept for, if linear.
        betas: decay rates of AdamW's averages.
        weight_decay: of tensors with two or more axes; biases and scales are not decayed.
        lr_multipliers: factor of the learning rate by prefix of the parameter's name; the longest
            prefix counts, 0 freezes.
        clip: largest norm of the gradient; 0 for no limit.
    """

    lr: float = 8e-4
    final_lr: float = 2e-6
    schedule: Literal["cosine", "linear"] = "cosine"
    warmup: int = 200
    plateau: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 1e-4
    lr_multipliers: dict[str, float] = field(default_factory=dict)
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "final_lr", "warmup", "weight_decay", "clip"):
            _at_least(f"optimizer.{name}", getattr(self, name), 0)
        if not 0 <= self.plateau < 1:
            raise ConfigError(f"optimizer.plateau={self.plateau} given; expected 0 to below 1")
        for prefix, factor in self.lr_multipliers.items():
            _at_least(f"optimizer.lr_multipliers.{prefix}", factor, 0)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"optimizer.betas={list(self.betas)} given; expected two numbers from 0 to below 1"
            )


@dataclass(frozen=True, slots=True)
class AdversarialSection:
    """A patch discriminator.

    Args:
        weight: factor of the generator's adversarial term; 0 for no discriminator.
        start: step from which discriminator and term are active.
        kind: ``hinge`` or ``non_saturating`` (softplus of per-picture mean logits).
        is_adaptive: scale the term so that its gradient at the reconstruction is as large as the
            reconstruction loss's, before ``weight``.
        lecam: factor of the LeCam regularizer (arXiv 2104.03310).
        channels: width of the discriminator's first layer.
        layers: its number of strided layers.
        lr: its learning rate.
    """

    weight: float = 0.0
    start: int = 0
    kind: Literal["hinge", "non_saturating"] = "hinge"
    is_adaptive: bool = False
    lecam: float = 0.0
    channels: int = 64
    layers: int = 3
    lr: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("weight", "start", "lecam", "lr"):
            _at_least(f"loss.adversarial.{name}", getattr(self, name), 0)
        for name in ("channels", "layers"):
            _at_least(f"loss.adversarial.{name}", getattr(self, name), 1)


@dataclass(frozen=True, slots=True)
class LossSection:
    """Factors of the terms of the training loss, on images in [-1, 1]; 0 leaves a term out.

    Args:
        sqrt_mse: mean over pictures of the root of the mean squared error.
        mse: mean squared error.
        l1: mean absolute error.
        ssim: 1 - SSIM.
        ms_ssim: 1 - MS-SSIM over as many scales as the crop allows.
        lpips: LPIPS (needs the weights of a classification network).
        lpips_network: ``vgg``, ``alex`` or ``squeeze``.
        bottleneck: the tokenizer's own terms (commitment, entropy, ...).
        adversarial: the patch discriminator.
    """

    sqrt_mse: float = 1.0
    mse: float = 0.0
    l1: float = 0.1
    ssim: float = 0.0
    ms_ssim: float = 0.0
    lpips: float = 0.0
    lpips_network: Literal["vgg", "alex", "squeeze"] = "vgg"
    bottleneck: float = 1.0
    adversarial: AdversarialSection = field(default_factory=AdversarialSection)

    def __post_init__(self) -> None:
        for name in ("sqrt_mse", "mse", "l1", "ssim", "ms_ssim", "lpips", "bottleneck"):
            _at_least(f"loss.{name}", getattr(self, name), 0)


@dataclass(frozen=True, slots=True)
class TrainerSection:
    """The run itself.

    Args:
        output: folder of the run.
        steps: number of steps.
        seed: everything random follows from it.
        device: ``auto`` takes a GPU where there is one.
        mixed_precision: autocast type of the networks; losses stay in float32.
        ema: decay of the averaged weights, which are validated and shipped; 0 for none.
        log_every: steps between lines of the log.
        val_every: steps between validations; 0 for the last step only.
        save_every: steps between checkpoints.
        keep_last: number of checkpoints kept.
        resume: ``auto`` continues from the newest whole checkpoint in ``output``; ``never``
            refuses a folder that has any.
        tensorboard: write curves and pictures for TensorBoard.
        grid_pictures: validation pictures shown with their reconstructions.
    """

    output: str = "runs/tessella"
    steps: int = 100_000
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    ema: float = 0.999
    log_every: int = 50
    val_every: int = 1000
    save_every: int = 1000
    keep_last: int = 2
    resume: Literal["auto", "never"] = "auto"
    tensorboard: bool = True
    grid_pictures: int = 4

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "save_every", "keep_last"):
            _at_least(f"trainer.{name}", getattr(self, name), 1)
        for name in ("seed", "val_every", "grid_pictures"):
            _at_least(f"trainer.{name}", getattr(self, name), 0)
        if not 0 <= self.ema < 1:
            raise ConfigError(f"trainer.ema={self.ema} given; expected 0 (none) to below 1")
        if not self.output:
            raise ConfigError("trainer.output is empty; give the folder of the run")


@dataclass(frozen=True, slots=True)
class CalibrationSection:
    """How the entropy prior is made at the end.

    Args:
        pictures: training pictures that are tokenized for it, spread evenly; 0 for all.
        steps: steps of fitting the context model, for each group; 0 for histograms only.
    """

    pictures: int = 1000
    steps: int = 2000

    def __post_init__(self) -> None:
        for name in ("pictures", "steps"):
            _at_least(f"calibration.{name}", getattr(self, name), 0)


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """A whole training run."""

    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    loss: LossSection = field(default_factory=LossSection)
    trainer: TrainerSection = field(default_factory=TrainerSection)
    calibration: CalibrationSection = field(default_factory=CalibrationSection)


def dotted_keys(cls: type, prefix: str = "") -> list[str]:
    """Return every key of a tree of config dataclasses as a dotted path."""
    keys = []
    for f in dataclasses.fields(cls):
        path = f"{prefix}{f.name}"
        keys.append(path)
        if f.default_factory is not dataclasses.MISSING and dataclasses.is_dataclass(
            f.default_factory
        ):
            keys.extend(dotted_keys(f.default_factory, f"{path}."))  # type: ignore[arg-type]
    return keys


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ConfigError(f"{name}={value} given; expected at least {least}")


def _as_tuple(sources: str | Sequence[str]) -> tuple[str, ...]:
    return (sources,) if isinstance(sources, str) else tuple(sources)


__all__ = [
    "AdversarialSection",
    "CalibrationSection",
    "DataSection",
    "LossSection",
    "ModelSection",
    "OptimizerSection",
    "TrainerSection",
    "TrainingConfig",
    "dotted_keys",
]
