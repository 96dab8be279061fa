"""The training loop."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tessella.data.crops import CropDataset, CropSettings, StepSampler, make_loader
from tessella.data.pictures import PictureSet
from tessella.tokenizers.base import Tokenizer
from tessella.training.checkpoints import CheckpointFolder
from tessella.training.config import TrainingConfig
from tessella.training.critic import Critic
from tessella.training.loop import TrainingLoop
from tessella.training.losses import ReconstructionLoss, batch_psnr
from tessella.training.optimizers import learning_rate, set_learning_rate
from tessella.training.reporters import Reporters
from tessella.training.state import TrainingState
from tessella.training.validation import Row, picture_grid, spread, validate

if TYPE_CHECKING:
    from accelerate import Accelerator

_GRID_SIDE = 256
_CROPS = 0  # stream of random numbers
_log = logging.getLogger(__name__)


@dataclass
class Trainer(TrainingLoop[Tokenizer]):
    """A run, ready to go on from its state's step.

    Args:
        config: the whole configuration.
        accelerator: device, precision and processes.
        state: what training changes.
        network: the tokenizer wrapped for precision and data parallelism.
        optimizer: the wrapped optimizer of the tokenizer.
        critic: the discriminator, if any.
        loss: reconstruction terms.
        pictures: training pictures.
        val_pictures: validation pictures, if any.
        checkpoints: where checkpoints go.
        reporters: who is told; nobody on processes other than the main one.
    """

    config: TrainingConfig
    accelerator: Accelerator
    state: TrainingState[Tokenizer]
    network: nn.Module
    optimizer: Any
    critic: Critic | None
    loss: ReconstructionLoss
    pictures: PictureSet
    val_pictures: PictureSet | None
    checkpoints: CheckpointFolder
    reporters: Reporters
    _warned: set[str] = field(default_factory=set)

    def run(self) -> list[Row]:
        """Train to the last step and return the last validation.

        Raises:
            TessellaError: if the loss is no longer a number.
        """
        settings, state = self.config.trainer, self.state
        rows: list[Row] | None = None
        self._clock = time.perf_counter()
        for batch in self._batches():
            self._warn(batch.problems)
            images = batch.images.to(self.accelerator.device, non_blocking=True)
            self.train_step(images.float().div(127.5).sub(1))
            step, is_last = state.step, state.step == settings.steps
            self.reporters.advance(step)
            if step % settings.log_every == 0 or is_last:
                self.report()
            if is_last or (settings.val_every and step % settings.val_every == 0):
                rows = self.measure(is_final=is_last)
                self.reporters.validation(step, rows)
                self._draw()
            if step % settings.save_every == 0 or is_last:
                self.save()
        return self.measure(is_final=True) if rows is None else rows

    def train_step(self, images: Tensor) -> None:
        """Change the weights once.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1], this process's share of the batch.
        """
        state, settings = self.state, self.config.optimizer
        images = images.contiguous(memory_format=torch.channels_last)
        rate = learning_rate(state.step, steps=self.config.trainer.steps, settings=settings)
        set_learning_rate(state.optimizer, rate)
        output = self.network(images, generator=self.noise())
        terms = self.loss(output.images, images)
        reconstruction = _total(terms)
        weight = self.config.loss.bottleneck
        terms |= {name: weight * term for name, term in output.losses.items()}
        critic = self.critic if state.step >= self.config.loss.adversarial.start else None
        if critic:
            terms["adversarial"] = critic.judge(output.images, reconstruction)
        loss = _total(terms)

        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        numbers = self.clip() | dict(output.stats)
        self.optimizer.step()
        if state.average:
            state.average.update(state.model, step=state.step)
        if critic:
            numbers["discriminator"] = critic.train_step(images, output.images)
        numbers |= {f"loss_{name}": term for name, term in terms.items()}
        numbers |= {"loss": loss, "psnr": batch_psnr(output.images, images)}
        state.meter.add(numbers)
        state.step += 1

    def measure(self, *, is_final: bool = False) -> list[Row]:
        """Validate the averaged weights; with MS-SSIM at the end. A collective call."""
        if self.val_pictures is None:
            return []
        start = time.perf_counter()
        data = self.config.data
        rows = validate(
            self.state.best_model,
            self.val_pictures,
            spread(len(self.val_pictures), data.val_pictures),
            side=data.val_side,
            accelerator=self.accelerator,
            with_ms_ssim=is_final,
        )
        self._paused += time.perf_counter() - start
        return rows

    def _batches(self) -> Any:
        data, trainer = self.config.data, self.config.trainer
        settings = CropSettings(data.crop, data.zoom, data.flip)
        sampler = StepSampler(
            self.state.step,
            trainer.steps,
            data.batch,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )
        dataset = CropDataset(self.pictures, settings, seed=(trainer.seed, _CROPS))
        return make_loader(dataset, sampler, workers=data.workers)

    def _draw(self) -> None:
        """Report reconstructions of a few validation pictures."""
        count = self.config.trainer.grid_pictures
        if self.val_pictures is None or not count or not self.accelerator.is_main_process:
            return
        start = time.perf_counter()
        indices = spread(len(self.val_pictures), count)
        model = self.state.best_model
        grid = picture_grid(model, self.val_pictures, indices, side=_GRID_SIDE)
        if grid:
            self.reporters.pictures(self.state.step, grid)
        self._paused += time.perf_counter() - start

    def _warn(self, problems: tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self._warned:
                self._warned.add(problem)
                _log.warning("picture skipped: %s", problem)


def _total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack([term.float() for term in terms.values()]).sum()


__all__ = ["Trainer"]
