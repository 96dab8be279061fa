"""One training run of a generator, from its configuration to the saved pipeline."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from tessella.config import from_dict, to_dict
from tessella.data.labelled import LabelledSet
from tessella.errors import ConfigError
from tessella.generation.next_scale import NextScaleGenerator
from tessella.generation.pipelines import PIPELINES
from tessella.generation.registry import GENERATORS
from tessella.hub import load
from tessella.tokenizers.next_scale import NextScaleTokenizer
from tessella.tokenizers.saved import WEIGHTS_NAME, load_weights
from tessella.training.checkpoints import CheckpointFolder
from tessella.training.config_file import apply_override, check_keys
from tessella.training.generators.batches import open_batches, validation_batches
from tessella.training.generators.card import generator_card
from tessella.training.generators.config import GeneratorTrainingConfig, generator_config
from tessella.training.generators.trainer import GeneratorTrainer
from tessella.training.model_card import MODEL_CARD
from tessella.training.optimizers import make_optimizer
from tessella.training.outputs import (
    MODEL,
    check_config,
    make_reporters,
    new_model_folder,
    open_checkpoints,
    write_config,
)
from tessella.training.prepare import accelerated
from tessella.training.reporters import Reporters
from tessella.training.state import TrainingState

if TYPE_CHECKING:
    from accelerate import Accelerator

_log = logging.getLogger(__name__)


def load_generator_config(
    data: Mapping[str, Any], overrides: Sequence[str] = ()
) -> GeneratorTrainingConfig:
    """Override and check a configuration.

    Args:
        data: a mapping of the shape of :class:`GeneratorTrainingConfig`.
        overrides: ``dotted.key=value``; ``data=FOLDER`` is short for ``data.train=FOLDER``.

    Raises:
        ConfigError: naming the key that is wrong and the nearest right one.
    """
    whole = copy.deepcopy(dict(data))
    for override in overrides:
        short = override.replace("data=", "data.train=", 1) if override[:5] == "data=" else override
        apply_override(whole, short)
    check_keys(whole, GeneratorTrainingConfig, free=("generator.config.",))
    return from_dict(GeneratorTrainingConfig, whole)


def train_generator(settings: GeneratorTrainingConfig, *, progress: bool | None = None) -> Path:
    """Train a generator, or go on where an interrupted run of the same folder stopped.

    Returns:
        The folder of the saved pipeline, ``<trainer.output>/model``.

    Raises:
        ConfigError: for settings that do not fit one another, or data that is not there.
        CheckpointError: if the tokenizer or the run in ``trainer.output`` does not fit.
        TessellaError: if the loss is no longer a number.
    """
    if not settings.data.train_sources:
        raise ConfigError("data.train is empty; give labelled pictures, such as data=photos/")
    if not settings.tokenizer:
        raise ConfigError("tokenizer is empty; give a name or folder, such as tokenizer=runs/vq")
    pipeline = PIPELINES.get(settings.generator.family)
    if pipeline is None or pipeline.condition_kind != "class":
        raise ConfigError(
            f"generator.family={settings.generator.family} given; data has class labels and no "
            "texts: expected a generator of classes, such as var"
        )
    with accelerated(settings.trainer) as accelerator:
        return _train(settings, accelerator, progress=progress)


def _train(
    settings: GeneratorTrainingConfig, accelerator: Accelerator, *, progress: bool | None
) -> Path:
    output = Path(settings.trainer.output).expanduser()
    checkpoints = open_checkpoints(settings.trainer)
    tokenizer = load(settings.tokenizer, device=accelerator.device)
    if not isinstance(tokenizer, NextScaleTokenizer):
        raise ConfigError(
            f"tokenizer={settings.tokenizer} is of the family {tokenizer.family!r}; expected one "
            "whose tokens are pyramids, such as multiscale_vq"
        )
    pictures = LabelledSet(settings.data.train_sources, cache_mb=settings.data.cache_mb)
    settings = _completed(settings, tokenizer, pictures.classes)
    check_config(output, settings, of_model=("generator.family", "generator.config", "tokenizer"))
    trainer = _make_trainer(settings, accelerator, checkpoints, tokenizer, pictures)
    accelerator.wait_for_everyone()  # all have read the old configuration
    if accelerator.is_main_process:
        write_config(output, settings)
        trainer.reporters = make_reporters(output, settings.trainer, trainer.state.step, progress)
    try:
        found = trainer.run()
    finally:
        trainer.reporters.close()
    if accelerator.is_main_process:
        _export(trainer, pictures, found, output / MODEL)
    accelerator.wait_for_everyone()
    return output / MODEL


def _completed(
    settings: GeneratorTrainingConfig, tokenizer: NextScaleTokenizer, classes: int
) -> GeneratorTrainingConfig:
    """Fill in the sizes that follow from the tokenizer and the data."""
    grids = tokenizer.grids(settings.data.size, settings.data.size)
    implied = {
        "sides": [height for height, _ in grids],
        "codebook_size": tokenizer.quantizer.vocab_sizes[0],
        "code_dim": tokenizer.input_channels,
        "classes": classes,
    }
    config = generator_config(settings.generator, implied)
    section = dataclasses.replace(settings.generator, config=to_dict(config))
    return dataclasses.replace(settings, generator=section)


def _make_trainer(
    settings: GeneratorTrainingConfig,
    accelerator: Accelerator,
    checkpoints: CheckpointFolder,
    tokenizer: NextScaleTokenizer,
    pictures: LabelledSet,
) -> GeneratorTrainer:
    torch.manual_seed(settings.trainer.seed)
    checkpoint = checkpoints.load_newest()
    family = GENERATORS.get(settings.generator.family)
    model = cast(NextScaleGenerator, family.model_class(generator_config(settings.generator, {})))
    model.check_tokenizer(tokenizer)
    if checkpoint is None and settings.generator.weights:
        load_weights(model, Path(settings.generator.weights).expanduser() / WEIGHTS_NAME)
    model = model.to(accelerator.device)
    optimizer = make_optimizer(model, settings.optimizer)
    state = TrainingState.begin(model, optimizer, accelerator, ema=settings.trainer.ema)
    network, wrapped = accelerator.prepare(model, optimizer)
    if checkpoint:
        state.resume(checkpoint, steps=settings.trainer.steps)
    with accelerator.main_process_first():  # which makes the token shard, if one is asked for
        batches = open_batches(settings.data, pictures, tokenizer, settings.trainer.seed)
    val: LabelledSet | None = None
    if settings.data.val_sources:
        val = LabelledSet(settings.data.val_sources, names=pictures.names)
    return GeneratorTrainer(
        settings,
        accelerator,
        state,
        network.train(),
        wrapped,
        tokenizer,
        batches,
        validation_batches(val, tokenizer, settings.data) if val else [],
        checkpoints,
        Reporters(()),
    )


def _export(
    trainer: GeneratorTrainer, pictures: LabelledSet, found: dict[str, float], folder: Path
) -> None:
    """Save the pipeline of the averaged weights and its card, all or nothing."""
    model = trainer.state.best_model
    with new_model_folder(folder) as aside:
        PIPELINES[model.family](model, trainer.tokenizer).save_pretrained(aside)
        card = generator_card(
            model, trainer.config, found, count=len(pictures), seconds=trainer.state.seconds
        )
        (aside / MODEL_CARD).write_text(card, encoding="utf-8")


__all__ = ["load_generator_config", "train_generator"]
