"""One training run of scalar latents, from its configuration to checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tessella.codecs.entropy.prior import PRIOR_FILE, Prior
from tessella.data.crops import CropDataset, CropSettings, collate
from tessella.data.pictures import PictureSet
from tessella.errors import ConfigError
from tessella.training.checkpoints import CheckpointFolder
from tessella.training.latent.config import LatentTrainingConfig, load_latent_config
from tessella.training.latent.export import integer_model
from tessella.training.latent.model import RatedTokenizer
from tessella.training.latent.trainer import LatentTrainer
from tessella.training.optimizers import make_optimizer
from tessella.training.outputs import (
    MODEL,
    check_config,
    make_reporters,
    open_checkpoints,
    write_config,
)
from tessella.training.prepare import accelerated, open_pictures
from tessella.training.reporters import Reporters
from tessella.training.state import TrainingState

if TYPE_CHECKING:
    from accelerate import Accelerator

_INITIALIZATION = 1  # stream of random numbers


def train_latents(settings: LatentTrainingConfig, *, progress: bool | None = None) -> Path:
    """Train, or go on where an interrupted run of the folder stopped.

    Args:
        settings: the whole configuration.
        progress: see :func:`tessella.training.run.train`.

    Returns:
        The folder of the saved tokenizer and prior, ``<trainer.output>/model``.

    Raises:
        ConfigError: for data that is not there, or crops that do not fit.
        CheckpointError: if the run in ``trainer.output`` is of another model or damaged.
        TessellaError: if the loss is no longer a number.
    """
    if not settings.data.train_sources:
        raise ConfigError("data.train is empty; give folders, glob patterns or tar shards")
    with accelerated(settings.trainer) as accelerator:
        output = Path(settings.trainer.output).expanduser()
        checkpoints = open_checkpoints(settings.trainer)
        check_config(output, settings, of_model=("model.tokenizer", "model.prior"))
        trainer = _make_trainer(settings, accelerator, checkpoints)
        accelerator.wait_for_everyone()  # all have read the old configuration
        if accelerator.is_main_process:
            write_config(output, settings)
            trainer.reporters = make_reporters(
                output, settings.trainer, trainer.state.step, progress
            )
        try:
            trainer.run()
        finally:
            trainer.reporters.close()
        if accelerator.is_main_process:
            _export(trainer.state.best_model, output / MODEL)
        accelerator.wait_for_everyone()
    return output / MODEL


def _export(model: RatedTokenizer, folder: Path) -> None:
    """Save the tokenizer, and the prior rounded to integers."""
    model.tokenizer.save_pretrained(folder)
    Prior({}, latent_model=integer_model(model)).save(folder / PRIOR_FILE)


def _make_trainer(
    settings: LatentTrainingConfig, accelerator: Accelerator, checkpoints: CheckpointFolder
) -> LatentTrainer:
    torch.manual_seed(settings.trainer.seed)
    pictures, val_pictures = open_pictures(settings.data)
    checkpoint = checkpoints.load_newest()
    model = _make_model(settings, pictures, is_new=checkpoint is None)
    model = model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, settings.optimizer)
    state = TrainingState.begin(model, optimizer, accelerator, ema=settings.trainer.ema)
    network, wrapped = accelerator.prepare(model, optimizer)
    if checkpoint:
        state.resume(checkpoint, steps=settings.trainer.steps)
    return LatentTrainer(
        settings,
        accelerator,
        state,
        network.train(),
        wrapped,
        pictures,
        val_pictures,
        checkpoints,
        Reporters(()),
    )


def _make_model(
    settings: LatentTrainingConfig, pictures: PictureSet, *, is_new: bool
) -> RatedTokenizer:
    section, data = settings.model, settings.data
    model = RatedTokenizer(section.tokenizer, section.prior)
    if data.crop % model.tokenizer.stride:
        raise ConfigError(
            f"data.crop={data.crop} given; expected a multiple of the tokenizer's stride "
            f"{model.tokenizer.stride}"
        )
    if is_new:
        cut = CropSettings(data.crop, data.zoom, data.flip)
        dataset = CropDataset(pictures, cut, seed=(settings.trainer.seed, _INITIALIZATION))
        batch = collate([dataset[0, place] for place in range(section.initialize_with)])
        model.initialize(batch.images.float() / 127.5 - 1)
    return model


__all__ = ["load_latent_config", "train_latents"]
