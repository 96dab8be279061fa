"""One training run from its configuration to the saved tokenizer."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from tessella.config import to_dict
from tessella.errors import CheckpointError, ConfigError
from tessella.training.calibration import write_prior
from tessella.training.checkpoints import CheckpointFolder
from tessella.training.config import TrainingConfig
from tessella.training.config_file import changed_keys, load_config, parse_yaml, read_config
from tessella.training.files import remove_folder, replace_file, replace_folder, settle_folder
from tessella.training.generators.config import SECTION
from tessella.training.model_card import MODEL_CARD, model_card
from tessella.training.outputs import CONFIG, MODEL, make_reporters
from tessella.training.prepare import make_accelerator, make_trainer, open_pictures
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
            section ``generator`` trains a generator.
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
    settings = load_config(data, overrides)
    if not settings.data.train_sources:
        raise ConfigError(
            "data.train is empty; give folders, glob patterns or tar shards, such as "
            "data.train=photos/"
        )
    was_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    accelerator = make_accelerator(settings.trainer)
    is_cuda = accelerator.device.type == "cuda"
    devices = [torch.cuda.current_device()] if is_cuda else []
    try:
        # seeds are set within, and the caller's random state comes back after
        with torch.random.fork_rng(devices=devices):
            return _train(settings, accelerator, progress=progress)
    finally:
        if not was_distributed and accelerator.num_processes > 1:
            accelerator.end_training()


def _train(settings: TrainingConfig, accelerator: Accelerator, *, progress: bool | None) -> Path:
    output = Path(settings.trainer.output).expanduser()
    checkpoints = CheckpointFolder(output / "checkpoints", keep=settings.trainer.keep_last)
    if settings.trainer.resume == "never" and checkpoints.steps():
        raise ConfigError(
            f"trainer.resume=never given, and {output} has checkpoints of steps "
            f"{checkpoints.steps()}: give another trainer.output, or trainer.resume=auto"
        )
    _check_config(output, settings)
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
        output.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(to_dict(settings), sort_keys=False)
        replace_file(output / CONFIG, text.encode())
        trainer.reporters = make_reporters(output, settings.trainer, trainer.state.step, progress)
    try:
        rows = trainer.run()
    finally:
        trainer.reporters.close()
    if accelerator.is_main_process:
        _export(trainer, rows, output / MODEL)
    accelerator.wait_for_everyone()
    return output / MODEL


def _check_config(output: Path, settings: TrainingConfig) -> None:
    """Compare with the configuration that the folder's run was started with.

    Raises:
        CheckpointError: if the model differs.
    """
    path = output / CONFIG
    if not path.exists():
        return
    old = parse_yaml(path.read_text(encoding="utf-8"), where=str(path))
    # through JSON, as tuples have become lists in the file
    new = json.loads(json.dumps(to_dict(settings)))
    changed = changed_keys(old, new)
    of_model = [key for key in changed if key.startswith(("model.family", "model.config"))]
    if of_model:
        raise CheckpointError(
            f"{output} holds a run of another model: {', '.join(of_model)} differ(s) from "
            f"{path}: give another trainer.output"
        )
    if changed:
        _log.warning("the run in %s goes on with other %s", output, ", ".join(changed))


def _export(trainer: Trainer, rows: Sequence[Row], folder: Path) -> None:
    """Save the averaged weights, the entropy prior and the model card, all or nothing."""
    config, model = trainer.config, trainer.state.best_model
    aside = folder.with_name(f".{folder.name}.writing")
    if aside.exists():
        remove_folder(aside)
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
    settle_folder(aside, like=aside / MODEL_CARD)
    replace_folder(aside, folder)


__all__ = ["CONFIG", "MODEL", "train"]
