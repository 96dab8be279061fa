"""What training loops of tokenizers and generators share: noise, clipping, reports, saving."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tessella.errors import TessellaError
from tessella.training.checkpoints import CheckpointFolder
from tessella.training.config import OptimizerSection, TrainerSection
from tessella.training.optimizers import learning_rate
from tessella.training.reporters import Reporters
from tessella.training.state import TrainingState

if TYPE_CHECKING:
    from accelerate import Accelerator

_NOISE = 2  # stream of random numbers; 0 is the crops', 1 the initialization's
M = TypeVar("M", bound=nn.Module)


class _Batch(Protocol):
    @property
    def batch(self) -> int: ...


class LoopConfig(Protocol):
    """The sections that every configuration has."""

    @property
    def trainer(self) -> TrainerSection:
        """The run itself."""

    @property
    def optimizer(self) -> OptimizerSection:
        """AdamW and its rate."""

    @property
    def data(self) -> _Batch:
        """Where batches come from, and how large they are."""


class TrainingLoop(Generic[M]):
    """Steps that do not depend on what is trained; subclasses are dataclasses with these fields."""

    config: LoopConfig
    accelerator: Accelerator
    state: TrainingState[M]
    optimizer: Any
    checkpoints: CheckpointFolder
    reporters: Reporters
    _clock: float = 0.0
    _paused: float = 0.0

    def noise(self) -> torch.Generator:
        """Seed this step's random numbers, those of layers such as dropout included."""
        seed = self.config.trainer.seed
        key = (seed, _NOISE, self.state.step, self.accelerator.process_index)
        seeds = np.random.SeedSequence(key).generate_state(2, np.uint64).tolist()
        torch.manual_seed(seeds[0])
        return torch.Generator().manual_seed(seeds[1])

    def clip(self) -> dict[str, Tensor]:
        """Limit the gradient's norm, and return it."""
        largest = self.config.optimizer.clip
        if not largest:
            return {}
        self.accelerator.unscale_gradients(self.optimizer)
        parameters = [p for group in self.state.optimizer.param_groups for p in group["params"]]
        return {"grad_norm": nn.utils.clip_grad_norm_(parameters, largest)}

    def report(self, found: dict[str, float] | None = None) -> None:
        """Tell the means since the last report and what was found besides, and start new ones."""
        state, settings = self.state, self.config
        state.meter.share(self.accelerator)
        values = self._checked_means()
        values["lr"] = learning_rate(
            state.step - 1, steps=settings.trainer.steps, settings=settings.optimizer
        )
        elapsed = self._tick()
        counted = state.step % settings.trainer.log_every or settings.trainer.log_every
        values["images_per_second"] = counted * settings.data.batch / max(elapsed, 1e-9)
        self.reporters.training(state.step, values | (found or {}))
        state.meter.clear()

    def save(self) -> None:
        """Write a checkpoint; a collective call."""
        start = time.perf_counter()
        state = self.state
        state.meter.share(self.accelerator)
        self._checked_means()
        if self.accelerator.is_main_process:
            self.checkpoints.save(state.step, state.tensors(), state.record())
        self.accelerator.wait_for_everyone()
        self._paused += time.perf_counter() - start

    def _checked_means(self) -> dict[str, float]:
        values = self.state.meter.means()
        loss = values.get("loss", 0.0)
        if not math.isfinite(loss):
            raise TessellaError(
                f"the loss is {loss} at step {self.state.step}; expected a finite number: lower "
                "optimizer.lr or raise optimizer.warmup. The last checkpoint was written before"
            )
        return values

    def _tick(self) -> float:
        """Return the seconds of training since the last call, and add all time to the state."""
        now = time.perf_counter()
        elapsed, paused = now - self._clock, self._paused
        self.state.seconds += elapsed
        self._clock, self._paused = now, 0.0
        return elapsed - paused


__all__ = ["LoopConfig", "TrainingLoop"]
