"""All that a run changes, as one object that goes to a checkpoint and comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from tessella.errors import CheckpointError, ConfigError
from tessella.training.adversarial import Adversary
from tessella.training.checkpoints import Checkpoint
from tessella.training.ema import MovingAverage
from tessella.training.meter import Meter
from tessella.training.optimizers import load_optimizer, optimizer_tensors

if TYPE_CHECKING:
    from accelerate import Accelerator

M = TypeVar("M", bound=nn.Module)


@dataclass
class TrainingState(Generic[M]):
    """Weights, averages, optimizers and counters.

    Random numbers are not among them: every draw comes from a stream seeded by the run's seed and
    the step, so that there is no state to keep.

    Args:
        model: the tokenizer or generator in training.
        optimizer: its optimizer.
        meter: means since the last line of the log.
        average: moving average of the weights, if any.
        adversary: the discriminator, if any.
        adversary_optimizer: its optimizer.
        scaler: loss scaling of fp16, if any.
        step: completed steps.
        seconds: time spent so far, over all interruptions.
    """

    model: M
    optimizer: torch.optim.Optimizer
    meter: Meter
    average: MovingAverage[M] | None = None
    adversary: Adversary | None = None
    adversary_optimizer: torch.optim.Optimizer | None = None
    scaler: torch.amp.GradScaler | None = None
    step: int = 0
    seconds: float = 0.0

    @classmethod
    def begin(
        cls,
        model: M,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        *,
        ema: float,
    ) -> TrainingState[M]:
        """Return the state of a model that was not trained yet; ``ema`` of 0 keeps no average."""
        return cls(
            model,
            optimizer,
            Meter(accelerator.device),
            average=MovingAverage(model, decay=ema) if ema else None,
            scaler=accelerator.scaler,
        )

    def resume(self, checkpoint: Checkpoint, *, steps: int) -> None:
        """Continue from a checkpoint of a run of so many steps.

        Raises:
            CheckpointError: if it is of another model or lacks a part.
            ConfigError: if the run has done more steps already.
        """
        self.load(checkpoint)
        if self.step > steps:
            raise ConfigError(
                f"trainer.steps={steps} given, and the run has done {self.step}: give at least "
                "that, or another trainer.output"
            )

    @property
    def best_model(self) -> M:
        """The averaged model, or the model itself where no average is kept."""
        return self.average.model if self.average else self.model

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors of each file of a checkpoint."""
        files = {
            "model": dict(self.model.state_dict()),
            "optimizer": optimizer_tensors(self.optimizer, self.model),
        }
        if self.average:
            files["ema"] = dict(self.average.model.state_dict())
        if self.adversary and self.adversary_optimizer:
            files["adversary"] = dict(self.adversary.state_dict())
            files["adversary_optimizer"] = optimizer_tensors(
                self.adversary_optimizer, self.adversary
            )
        return files

    def record(self) -> dict[str, Any]:
        """Return the rest as JSON values."""
        return {
            "meter": self.meter.state(),
            "seconds": self.seconds,
            "scaler": self.scaler.state_dict() if self.scaler else None,
        }

    def load(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            CheckpointError: if it is of another model or lacks a part.
        """
        files = checkpoint.tensors
        missing = sorted(self.tensors().keys() - files.keys())
        if missing:
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step} has no {', '.join(missing)}: it was "
                "written with other trainer.ema or loss.adversarial settings"
            )
        _load_module(self.model, files["model"], "model")
        load_optimizer(self.optimizer, self.model, files["optimizer"])
        if self.average:
            _load_module(self.average.model, files["ema"], "ema")
        if self.adversary and self.adversary_optimizer:
            _load_module(self.adversary, files["adversary"], "adversary")
            load_optimizer(self.adversary_optimizer, self.adversary, files["adversary_optimizer"])
        if self.scaler and checkpoint.state["scaler"]:
            self.scaler.load_state_dict(checkpoint.state["scaler"])
        self.meter.load(checkpoint.state["meter"])
        self.seconds = float(checkpoint.state["seconds"])
        self.step = checkpoint.step


def _load_module(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    own = module.state_dict()
    other = sorted(own.keys() ^ tensors.keys()) or sorted(
        name for name in own if own[name].shape != tensors[name].shape
    )
    if other:
        raise CheckpointError(
            f"the checkpoint's {what} differs from the configured one at {other[:5]} "
            f"({len(other)} tensors in all): continue with the configuration it was started with"
        )
    module.load_state_dict(dict(tensors))


__all__ = ["TrainingState"]
