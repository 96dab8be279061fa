"""One training run from its configuration to the saved tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessella.errors import ConfigError
from tessella.training.calibration import write_prior
from tessella.training.config import TrainingConfig
from tessella.training.config_file import load_config, read_config
from tessella.training.generators.config import SECTION
from tessella.training.latent.config import SECTION as RATE_SECTION
from tessella.training.model_card import MODEL_CARD, model_card
from tessella.training.outputs import (
    CONFIG,
    MODEL,
    check_config,
    make_reporters,
    new_model_folder,
    open_checkpoints,
    write_config,
)
from tessella.training.prepare import accelerated, make_trainer, open_pictures
from tessella.training.trainer import Trainer
from tessella.training.validation import Row, spread

if TYPE_CHECKING:
    from accelerate import Accelerator

_log = logging.getLogger(__name__)


def train(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    progress: bool | None = None,
) -> Path:
    """Train a tokenizer or a generator, or go on where an interrupted run of the folder stopped.

    Args:
        config: a shipped name such as ``progressive_gq_f8``, a YAML file, or a mapping; one with a
            section ``generator`` trains a generator, one with a section ``rate`` scalar latents.
        overrides: ``key=value`` with dotted keys, such as ``trainer.steps=1000``.
        progress: draw a progress bar on standard error instead of logging lines; by default when
            that is a terminal.

    Returns:
        The folder of the saved model, ``<trainer.output>/model``.

    Raises:
        ConfigError: for a wrong key, type or value, or data that is not there.
        CheckpointError: if the run in ``trainer.output`` is of another model or damaged.
        TessellaError: if the loss is no longer a number.
    """
    data = read_config(config)
    if SECTION in data:
        from tessella.training.generators.run import load_generator_config, train_generator

        return train_generator(load_generator_config(data, overrides), progress=progress)
    if RATE_SECTION in data:
        from tessella.training.latent.run import load_latent_config, train_latents

        return train_latents(load_latent_config(data, overrides), progress=progress)
    settings = load_config(data, overrides)
    if not settings.data.train_sources:
        raise ConfigError(
            "data.train is empty; give folders, glob patterns or tar shards, such as "
            "data.train=photos/"
        )
    with accelerated(settings.trainer) as accelerator:
        return _train(settings, accelerator, progress=progress)


def _train(settings: TrainingConfig, accelerator: Accelerator, *, progress: bool | None) -> Path:
    output = Path(settings.trainer.output).expanduser()
    checkpoints = open_checkpoints(settings.trainer)
    check_config(output, settings, of_model=("model.family", "model.config"))
    pictures, val_pictures = open_pictures(settings.data)
    trainer = make_trainer(
        settings,
        accelerator,
        checkpoints=checkpoints,
        pictures=pictures,
        val_pictures=val_pictures,
    )
    accelerator.wait_for_everyone()  # all have read the old configuration
    if accelerator.is_main_process:
        write_config(output, settings)
        trainer.reporters = make_reporters(output, settings.trainer, trainer.state.step, progress)
    try:
        rows = trainer.run()
    finally:
        trainer.reporters.close()
    if accelerator.is_main_process:
        _export(trainer, rows, output / MODEL)
    accelerator.wait_for_everyone()
    return output / MODEL


def _export(trainer: Trainer, rows: Sequence[Row], folder: Path) -> None:
    """Save the averaged weights, the entropy prior and the model card, all or nothing."""
    config, model = trainer.config, trainer.state.best_model
    with new_model_folder(folder) as aside:
        model.save_pretrained(aside)
        (aside / "README.md").unlink(missing_ok=True)  # the hub mixin's empty model card
        write_prior(model, trainer.pictures, aside, config.calibration, side=config.data.val_side)
        val_count = len(trainer.val_pictures) if trainer.val_pictures else 0
        card = model_card(
            model,
            config,
            rows=rows,
            counts=dict(zip(config.data.train_sources, trainer.pictures.counts, strict=True)),
            val_count=len(spread(val_count, config.data.val_pictures)) if val_count else 0,
            seconds=trainer.state.seconds,
            processes=trainer.accelerator.num_processes,
        )
        (aside / MODEL_CARD).write_text(card, encoding="utf-8")


__all__ = ["CONFIG", "MODEL", "train"]
