"""Names inside the folder of a run, and who is told of its progress."""

from __future__ import annotations

import sys
from pathlib import Path

from tessella.training.config import TrainerSection
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


__all__ = ["CONFIG", "MODEL", "make_reporters"]
