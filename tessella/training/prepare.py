"""Building everything that a run needs from its configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tessella.data.crops import CropDataset, CropSettings, collate
from tessella.data.pictures import PictureSet
from tessella.errors import ConfigError
from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.registry import family
from tessella.tokenizers.saved import WEIGHTS_NAME, load_weights
from tessella.training.adversarial import Adversary
from tessella.training.checkpoints import CheckpointFolder
from tessella.training.config import (
    AdversarialSection,
    DataSection,
    TrainerSection,
    TrainingConfig,
)
from tessella.training.config_file import tokenizer_config
from tessella.training.critic import Critic
from tessella.training.losses import ReconstructionLoss
from tessella.training.optimizers import make_optimizer
from tessella.training.reporters import Reporters
from tessella.training.state import TrainingState
from tessella.training.trainer import Trainer

if TYPE_CHECKING:
    from accelerate import Accelerator

_INITIALIZATION = 1  # stream of random numbers


def make_accelerator(settings: TrainerSection) -> Accelerator:
    """Choose device, precision and processes.

    Raises:
        ConfigError: if the device cannot do the precision.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    # accelerate keeps device and precision for the life of the process; a second run in it may
    # have others
    AcceleratorState._reset_state(reset_partial_state=True)
    # quantizers and discriminator keep their buffers equal themselves
    parallel = DistributedDataParallelKwargs(broadcast_buffers=False)
    try:
        return Accelerator(
            mixed_precision=settings.mixed_precision,
            cpu=settings.device == "cpu",
            kwargs_handlers=[parallel],
        )
    except ValueError as error:
        raise ConfigError(
            f"trainer.mixed_precision={settings.mixed_precision} cannot be had here: {error}"
        ) from error


@contextmanager
def accelerated(settings: TrainerSection) -> Iterator[Accelerator]:
    """Set up device, precision and processes for a run; the caller's random state comes back.

    Raises:
        ConfigError: if the device cannot do the precision.
    """
    was_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    accelerator = make_accelerator(settings)
    is_cuda = accelerator.device.type == "cuda"
    devices = [torch.cuda.current_device()] if is_cuda else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield accelerator
    finally:
        if not was_distributed and accelerator.num_processes > 1:
            accelerator.end_training()


def open_pictures(settings: DataSection) -> tuple[PictureSet, PictureSet | None]:
    """Index the training and the validation pictures.

    Raises:
        ConfigError: if a source holds none.
        PictureError: if a shard is damaged.
    """
    share = settings.cache_mb // max(settings.workers, 1)
    pictures = PictureSet(settings.train_sources, weights=settings.weights, cache_mb=share)
    return pictures, PictureSet(settings.val_sources) if settings.val_sources else None


def make_trainer(
    config: TrainingConfig,
    accelerator: Accelerator,
    *,
    checkpoints: CheckpointFolder,
    pictures: PictureSet,
    val_pictures: PictureSet | None,
) -> Trainer:
    """Build model, optimizers and losses, and continue from the newest checkpoint if there is one.

    Raises:
        ConfigError: if sections do not fit one another.
        CheckpointError: if the checkpoint does not fit the configuration.
    """
    torch.manual_seed(config.trainer.seed)
    checkpoint = checkpoints.load_newest()
    model = make_model(config, pictures, is_new=checkpoint is None)
    model = model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, config.optimizer)
    state = TrainingState.begin(model, optimizer, accelerator, ema=config.trainer.ema)
    network, wrapped = accelerator.prepare(model, optimizer)
    critic = _make_critic(state, config.loss.adversarial, accelerator)
    if checkpoint:
        state.resume(checkpoint, steps=config.trainer.steps)
    return Trainer(
        config,
        accelerator,
        state,
        network.train(),
        wrapped,
        critic,
        ReconstructionLoss(config.loss, crop=config.data.crop).to(accelerator.device),
        pictures,
        val_pictures,
        checkpoints,
        Reporters(()),
    )


def make_model(config: TrainingConfig, pictures: PictureSet, *, is_new: bool) -> Tokenizer:
    """Build the tokenizer; a new one starts from saved weights or from a look at the data.

    Raises:
        ConfigError: if the crops do not fit the tokenizer.
        CheckpointError: if the saved weights do not fit.
    """
    section = config.model
    model = family(section.family).model_class(tokenizer_config(config))
    if config.data.crop % model.stride:
        raise ConfigError(
            f"data.crop={config.data.crop} given; expected a multiple of the tokenizer's stride "
            f"{model.stride}"
        )
    if is_new and section.weights:
        load_weights(model, Path(section.weights).expanduser() / WEIGHTS_NAME)
    elif is_new and section.initialize_with and type(model).initialize is not Tokenizer.initialize:
        model.initialize(first_crops(config, pictures, section.initialize_with))
    return model


def _make_critic(
    state: TrainingState[Tokenizer], settings: AdversarialSection, accelerator: Accelerator
) -> Critic | None:
    """Add a discriminator to the state, if the loss has one."""
    if not settings.weight:
        return None
    adversary = Adversary(settings).to(accelerator.device)
    optimizer = torch.optim.AdamW(
        adversary.parameters(), lr=settings.lr, betas=(0.5, 0.9), weight_decay=0.0
    )
    state.adversary, state.adversary_optimizer = adversary, optimizer
    network, wrapped = accelerator.prepare(adversary, optimizer)
    return Critic(adversary, network, wrapped, accelerator)


def first_crops(config: TrainingConfig, pictures: PictureSet, count: int) -> Tensor:
    """Return crops ``(B, 3, H, W)`` in [-1, 1] that are the same in every process."""
    data = config.data
    settings = CropSettings(data.crop, data.zoom, data.flip)
    dataset = CropDataset(pictures, settings, seed=(config.trainer.seed, _INITIALIZATION))
    batch = collate([dataset[0, place] for place in range(count)])
    return batch.images.float() / 127.5 - 1


__all__ = [
    "accelerated",
    "first_crops",
    "make_accelerator",
    "make_model",
    "make_trainer",
    "open_pictures",
]
