"""The training loop of scalar latents and their prior."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tessella.data.crops import CropDataset, CropSettings, StepSampler, make_loader
from tessella.data.pictures import PictureSet
from tessella.tokenizers.scalar_latent import QUALITIES
from tessella.training.checkpoints import CheckpointFolder
from tessella.training.latent.config import LatentTrainingConfig
from tessella.training.latent.model import RatedImages, RatedTokenizer
from tessella.training.latent.validation import rate_rows
from tessella.training.loop import TrainingLoop
from tessella.training.losses import batch_psnr
from tessella.training.optimizers import learning_rate, set_learning_rate
from tessella.training.reporters import Reporters
from tessella.training.state import TrainingState
from tessella.training.validation import Row, spread

if TYPE_CHECKING:
    from accelerate import Accelerator

_CROPS = 0  # stream of random numbers
_PEAK = 127.5**2  # 255^2 MSE of images in [0, 1], from images in [-1, 1]
_log = logging.getLogger(__name__)


@dataclass
class LatentTrainer(TrainingLoop[RatedTokenizer]):
    """A run, ready to go on from its state's step.

    Args:
        config: the whole configuration.
        accelerator: device, precision and processes.
        state: what training changes.
        network: the model wrapped for precision and data parallelism.
        optimizer: the wrapped optimizer.
        pictures: training pictures.
        val_pictures: validation pictures, if any.
        checkpoints: where checkpoints go.
        reporters: who is told; nobody on processes other than the main one.
    """

    config: LatentTrainingConfig
    accelerator: Accelerator
    state: TrainingState[RatedTokenizer]
    network: nn.Module
    optimizer: Any
    pictures: PictureSet
    val_pictures: PictureSet | None
    checkpoints: CheckpointFolder
    reporters: Reporters

    def run(self) -> list[Row]:
        """Train to the last step and return the last validation.

        Raises:
            TessellaError: if the loss is no longer a number.
        """
        settings, state = self.config.trainer, self.state
        rows: list[Row] | None = None
        self._clock = time.perf_counter()
        for batch in self._batches():
            for problem in batch.problems:
                _log.warning("picture skipped: %s", problem)
            images = batch.images.to(self.accelerator.device, non_blocking=True)
            self.train_step(images.float().div(127.5).sub(1))
            step, is_last = state.step, state.step == settings.steps
            self.reporters.advance(step)
            if step % settings.log_every == 0 or is_last:
                self.report()
            if is_last or (settings.val_every and step % settings.val_every == 0):
                rows = self.measure()
                self.reporters.validation(step, rows)
            if step % settings.save_every == 0 or is_last:
                self.save()
        return self.measure() if rows is None else rows

    def train_step(self, images: Tensor) -> None:
        """Change the weights once.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1], this process's share of the batch.
        """
        state, steps = self.state, self.config.trainer.steps
        images = images.contiguous(memory_format=torch.channels_last)
        rate = learning_rate(state.step, steps=steps, settings=self.config.optimizer)
        set_learning_rate(state.optimizer, rate)
        noise = self.noise()
        quality = torch.randint(QUALITIES, (len(images),), generator=noise).to(images.device)
        is_noisy = state.step < self.config.rate.rounded_from * steps
        output = self.network(images, quality, generator=noise if is_noisy else None)
        loss, numbers = self._loss(output, images, quality)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        numbers |= self.clip()
        self.optimizer.step()
        if state.average:
            state.average.update(state.model, step=state.step)
        state.meter.add(numbers)
        state.step += 1

    def _loss(
        self, output: RatedImages, images: Tensor, quality: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        settings = self.config.rate
        pixels = images.shape[-2] * images.shape[-1]
        bits = (output.hyper_bits + output.latent_bits) / pixels
        weights = torch.tensor([settings.weight(q) for q in quality.tolist()], device=bits.device)
        error = (output.images.float() - images).square().mean(dim=(1, 2, 3))
        each = bits + weights * _PEAK * error
        middle = settings.weight((QUALITIES - 1) / 2)
        loss = (each * (middle / weights) ** settings.balance).mean()
        return loss, {
            "loss": loss,
            "rate_distortion": each.mean(),
            "bpp": bits.mean(),
            "hyper_bpp": (output.hyper_bits / pixels).mean(),
            "psnr": batch_psnr(output.images, images),
        }

    def measure(self) -> list[Row]:
        """Validate the averaged weights at a few qualities."""
        if self.val_pictures is None:
            return []
        start = time.perf_counter()
        data = self.config.data
        rows = rate_rows(
            self.state.best_model,
            self.val_pictures,
            spread(len(self.val_pictures), data.val_pictures),
            side=data.val_side,
            accelerator=self.accelerator,
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


__all__ = ["LatentTrainer"]
