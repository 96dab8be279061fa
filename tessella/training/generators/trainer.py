"""The training loop of generators."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tessella.data.crops import StepSampler
from tessella.data.token_sets import TokenBatch
from tessella.generation.next_scale import NextScaleGenerator
from tessella.generation.pipelines import PIPELINES, seeded
from tessella.generation.sampling import Sampling
from tessella.generation.writing import contact_sheet
from tessella.tokenizers.next_scale import NextScaleTokenizer
from tessella.training.checkpoints import CheckpointFolder
from tessella.training.generators.batches import Batches
from tessella.training.generators.config import GeneratorTrainingConfig
from tessella.training.generators.progress import progress_at
from tessella.training.loop import TrainingLoop
from tessella.training.optimizers import learning_rate, set_learning_rate
from tessella.training.reporters import Reporters
from tessella.training.state import TrainingState

if TYPE_CHECKING:
    from accelerate import Accelerator

_SAMPLES = 10


@dataclass
class GeneratorTrainer(TrainingLoop[NextScaleGenerator]):
    """A run, ready to go on from its state's step.

    Args:
        config: the whole configuration.
        accelerator: device, precision and processes.
        state: what training changes.
        network: the generator wrapped for precision and data parallelism.
        optimizer: the wrapped optimizer.
        tokenizer: whose tokens are learned.
        batches: training batches.
        val_batches: batches of a validation.
        checkpoints: where checkpoints go.
        reporters: who is told; nobody on processes other than the main one.
    """

    config: GeneratorTrainingConfig
    accelerator: Accelerator
    state: TrainingState[NextScaleGenerator]
    network: nn.Module
    optimizer: Any
    tokenizer: NextScaleTokenizer
    batches: Batches
    val_batches: list[TokenBatch]
    checkpoints: CheckpointFolder
    reporters: Reporters

    def run(self) -> dict[str, float]:
        """Train to the last step and return the figures of the last validation.

        Raises:
            TessellaError: if the loss is no longer a number.
        """
        settings, state = self.config.trainer, self.state
        found: dict[str, float] = {}
        sampler = StepSampler(
            state.step,
            settings.steps,
            self.config.data.batch,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )
        self._clock = time.perf_counter()
        for batch in self.batches.steps(sampler):
            self.train_step(batch)
            step, is_last = state.step, state.step == settings.steps
            self.reporters.advance(step)
            is_measured = is_last or (settings.val_every and step % settings.val_every == 0)
            if is_measured:
                found = self.measure()
                self._draw()
            if step % settings.log_every == 0 or is_measured:
                self.report(found if is_measured else None)
            if step % settings.save_every == 0 or is_last:
                self.save()
        return found or self.measure()

    def train_step(self, batch: TokenBatch) -> None:
        """Change the weights once."""
        state, settings = self.state, self.config.optimizer
        rate = learning_rate(state.step, steps=self.config.trainer.steps, settings=settings)
        set_learning_rate(state.optimizer, rate)
        progress = progress_at(
            state.step,
            steps=self.config.trainer.steps,
            warmup=settings.warmup,
            scales=len(state.model.grids),
            settings=self.config.progressive,
        )
        output = self.network(
            batch.tokens,
            batch.labels,
            tokenizer=self.tokenizer,
            generator=self.noise(),
            progress=progress,
        )
        loss = torch.stack([term.float() for term in output.losses.values()]).sum()
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        numbers = self.clip() | dict(output.stats)
        self.optimizer.step()
        if state.average:
            state.average.update(state.model, step=state.step)
        state.meter.add(numbers | {"loss": loss.detach()})
        state.step += 1

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Return the mean figures of the averaged weights on validation batches."""
        start = time.perf_counter()
        model = self.state.best_model.eval()
        totals: dict[str, float] = {}
        count = 0
        for batch in self.val_batches:
            output = model(batch.tokens, batch.labels, tokenizer=self.tokenizer)
            for name, value in output.stats.items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(batch.labels)
            count += len(batch.labels)
        if not self.state.average:
            model.train()
        self._paused += time.perf_counter() - start
        return {f"val_{name}": value / count for name, value in totals.items()}

    def _draw(self) -> None:
        """Report pictures of the averaged weights."""
        if not self.accelerator.is_main_process:
            return
        start = time.perf_counter()
        samples, model = self.config.samples, self.state.best_model
        classes = list(samples.classes) or list(range(min(_SAMPLES, model.config.classes)))
        pipe = PIPELINES[model.family](model, self.tokenizer)
        pipe.set_progress_bar_config(disable=True)
        images = pipe.sample(
            classes,
            guidance_scale=samples.guidance_scale,
            sampling=Sampling(top_k=samples.top_k, top_p=samples.top_p),
            kv_cache="full",
            noise=seeded(self.config.trainer.seed, len(classes)),
            scales=None,
            known=None,
            callback_on_scale_end=None,
        ).images
        if not self.state.average:
            model.train()
        sheet = np.asarray(contact_sheet(images))
        self.reporters.pictures(self.state.step, ([str(label) for label in classes], sheet))
        self._paused += time.perf_counter() - start


__all__ = ["GeneratorTrainer"]
