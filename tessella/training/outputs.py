"""The folder of a run: configuration, checkpoints and model, and who is told of its progress."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tessella.config import to_dict
from tessella.errors import CheckpointError, ConfigError
from tessella.training.checkpoints import CheckpointFolder
from tessella.training.config import TrainerSection
from tessella.training.config_file import changed_keys, parse_yaml
from tessella.training.files import remove_folder, replace_file, replace_folder, settle_folder
from tessella.training.model_card import MODEL_CARD
from tessella.training.reporters import (
    JsonLines,
    LogLines,
    PictureFiles,
    Reporter,
    Reporters,
    TensorBoard,
    TerminalBar,
)

CONFIG = "config.yaml"
MODEL = "model"
_log = logging.getLogger("tessella.training")


def open_checkpoints(settings: TrainerSection) -> CheckpointFolder:
    """Return the checkpoints of a run.

    Raises:
        ConfigError: if there are some and the run must not go on from them.
    """
    output = Path(settings.output).expanduser()
    checkpoints = CheckpointFolder(output / "checkpoints", keep=settings.keep_last)
    if settings.resume == "never" and checkpoints.steps():
        raise ConfigError(
            f"trainer.resume=never given, and {output} has checkpoints of steps "
            f"{checkpoints.steps()}: give another trainer.output, or trainer.resume=auto"
        )
    return checkpoints


def check_config(output: Path, settings: Any, *, of_model: tuple[str, ...]) -> None:
    """Compare with the configuration that the folder's run was started with.

    Args:
        output: folder of the run.
        settings: the configuration that shall go on.
        of_model: beginnings of the keys that must not differ.

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
    other = [key for key in changed if key.startswith(of_model)]
    if other:
        raise CheckpointError(
            f"{output} holds a run of another model: {', '.join(other)} differ(s) from "
            f"{path}: give another trainer.output"
        )
    if changed:
        _log.warning("the run in %s goes on with other %s", output, ", ".join(changed))


def write_config(output: Path, settings: Any) -> None:
    """Record the configuration of a run, in the folder that is made for it."""
    output.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(to_dict(settings), sort_keys=False)
    replace_file(output / CONFIG, text.encode())


@contextmanager
def new_model_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder aside, with a model card, and put it in the place of ``folder`` when done."""
    aside = folder.with_name(f".{folder.name}.writing")
    if aside.exists():
        remove_folder(aside)
    yield aside
    settle_folder(aside, like=aside / MODEL_CARD)
    replace_folder(aside, folder)


def make_reporters(
    output: Path, settings: TrainerSection, step: int, progress: bool | None
) -> Reporters:
    """Return the reporters of a run that goes on after ``step``.

    Args:
        output: folder of the run.
        settings: of the run.
        step: steps done before.
        progress: a progress bar in place of log lines; None for one on terminals.
    """
    reporters: list[Reporter] = [JsonLines(output, step=step), PictureFiles(output)]
    if settings.tensorboard:
        reporters.append(TensorBoard(output, step=step))
    with_bar = sys.stderr.isatty() if progress is None else progress
    bar = TerminalBar(settings.steps, step=step) if with_bar else LogLines(settings.steps)
    reporters.append(bar)
    return Reporters(reporters)


__all__ = [
    "CONFIG",
    "MODEL",
    "check_config",
    "make_reporters",
    "new_model_folder",
    "open_checkpoints",
    "write_config",
]
