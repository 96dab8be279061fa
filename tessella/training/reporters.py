"""Where numbers and pictures of a run go: log, JSON lines, TensorBoard, PNG files, terminal."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tessella.errors import MissingDependencyError
from tessella.images import Pixels, save_image
from tessella.training.files import replace_file
from tessella.training.validation import Row

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = "metrics.jsonl"

_WIDE = 120  # columns of a terminal that has room for the terms of the loss
_log = logging.getLogger("tessella.training")

Grid = tuple[list[str], Pixels]


class Reporter(Protocol):
    """Something that takes in what a run has to tell; every call comes from the main process."""

    def advance(self, step: int) -> None:
        """A step is done."""

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Means over the steps since the last call."""

    def validation(self, step: int, rows: Sequence[Row]) -> None:
        """Results of a validation, least bits first."""

    def pictures(self, step: int, grid: Grid) -> None:
        """Pictures and their reconstructions, with the labels of the columns."""

    def close(self) -> None:
        """Nothing more will come."""


class Silent:
    """A reporter that does nothing; the others override what they need."""

    def advance(self, step: int) -> None:
        """Ignore."""

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Ignore."""

    def validation(self, step: int, rows: Sequence[Row]) -> None:
        """Ignore."""

    def pictures(self, step: int, grid: Grid) -> None:
        """Ignore."""

    def close(self) -> None:
        """Ignore."""


class LogLines(Silent):
    """One line a report through :mod:`logging`, logger ``tessella.training``."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Log the means."""
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        _log.info("step %d/%d  %s", step, self.steps, numbers)

    def validation(self, step: int, rows: Sequence[Row]) -> None:
        """Log PSNR and SSIM of every truncation."""
        _log.info("step %d/%d  validation  %s", step, self.steps, describe(rows))


class JsonLines(Silent):
    """``metrics.jsonl``: one object a report.

    Args:
        folder: folder of the run.
        step: the run continues after this step; lines of later ones are of a run that was
            interrupted, and are removed.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self.path = folder / METRICS
        if self.path.exists():
            kept = [line for line in self.path.read_bytes().splitlines() if _step(line) <= step]
            replace_file(self.path, b"".join(line + b"\n" for line in kept))
        self._stream = self.path.open("a", encoding="utf-8")

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Append the means."""
        self._write({"kind": "training", "step": step, **values})

    def validation(self, step: int, rows: Sequence[Row]) -> None:
        """Append the table."""
        table = [dataclasses.asdict(row) for row in rows]
        self._write({"kind": "validation", "step": step, "rows": table})

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()


class PictureFiles(Silent):
    """PNG files ``pictures/step-*.png``; columns are named in ``pictures/columns.txt``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "pictures"

    def pictures(self, step: int, grid: Grid) -> None:
        """Write the grid."""
        labels, pixels = grid
        self.folder.mkdir(parents=True, exist_ok=True)
        save_image(self.folder / f"step-{step:08d}.png", pixels)
        replace_file(self.folder / "columns.txt", ("\n".join(labels) + "\n").encode())


class TensorBoard(Silent):
    """Curves and pictures for TensorBoard, in ``tensorboard/``.

    Args:
        folder: folder of the run.
        step: later steps of an interrupted run are hidden.

    Raises:
        MissingDependencyError: if the package ``tensorboard`` is not installed.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self._writer = _summary_writer(folder / "tensorboard", step)

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to every curve."""
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def validation(self, step: int, rows: Sequence[Row]) -> None:
        """Add a point to the curves of every truncation."""
        for row in rows:
            for name in ("psnr", "ssim", "ms_ssim"):
                value = getattr(row, name)
                if value is not None:
                    self._writer.add_scalar(f"val_{name}/{row.keep}", value, step)

    def pictures(self, step: int, grid: Grid) -> None:
        """Add the grid."""
        labels, pixels = grid
        self._writer.add_image(" | ".join(labels), pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class TerminalBar(Silent):
    """A progress bar on standard error with speed, loss and PSNR.

    Args:
        steps: length of the run.
        step: steps done before.
    """

    def __init__(self, steps: int, *, step: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self._progress = Progress(
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            Remaining(),
            TextColumn("{task.fields[numbers]}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("", total=steps, completed=step, numbers="")
        self._progress.start()

    def advance(self, step: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step)

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Show the numbers beside the bar."""
        quality = f"{values['psnr']:.2f} dB  " if "psnr" in values else ""
        numbers = f"{values['images_per_second']:.4g} img/s  {quality}loss {values['loss']:.4g}"
        if self._progress.console.width >= _WIDE:
            terms = (name for name in values if name.startswith("loss_"))
            parts = (f"{name.removeprefix('loss_')} {values[name]:.3g}" for name in terms)
            numbers += f" ({', '.join(parts)})"
        self._progress.update(self._task, numbers=numbers)

    def validation(self, step: int, rows: Sequence[Row]) -> None:
        """Leave a line above the bar."""
        self._progress.console.print(f"step {step}  {describe(rows)}", highlight=False)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()


class Reporters:
    """Several reporters as one.

    Args:
        reporters: who is told, in this order.
    """

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self._reporters = tuple(reporters)

    def advance(self, step: int) -> None:
        """A step is done."""
        for reporter in self._reporters:
            reporter.advance(step)

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Means over the steps since the last call."""
        for reporter in self._reporters:
            reporter.training(step, values)

    def validation(self, step: int, rows: Sequence[Row]) -> None:
        """Results of a validation."""
        for reporter in self._reporters:
            reporter.validation(step, rows)

    def pictures(self, step: int, grid: Grid) -> None:
        """Pictures and their reconstructions."""
        for reporter in self._reporters:
            reporter.pictures(step, grid)

    def close(self) -> None:
        """Close all of them, also when one fails."""
        with ExitStack() as stack:
            for reporter in self._reporters:
                stack.callback(reporter.close)


def describe(rows: Sequence[Row]) -> str:
    """Return PSNR and SSIM of every truncation in one line."""
    return "  ".join(
        f"{row.keep} {row.psnr:.2f} dB" + (f" {row.ssim:.4f}" if row.ssim is not None else "")
        for row in rows
    )


def _step(line: bytes) -> float:
    """Return the step of a line; infinite if the line was cut short."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _summary_writer(folder: Path, step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(
            "trainer.tensorboard=true needs the package tensorboard: pip install tensorboard, or "
            "set trainer.tensorboard=false"
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1)  # type: ignore[no-untyped-call]


__all__ = [
    "METRICS",
    "Grid",
    "JsonLines",
    "LogLines",
    "PictureFiles",
    "Reporter",
    "Reporters",
    "Silent",
    "TensorBoard",
    "TerminalBar",
    "describe",
]
