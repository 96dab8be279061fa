"""A progress bar on a terminal, and silence elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from tessella.cli.options import is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressBar:
    """Counts finished files, and the tiles of a large picture; drawn on stderr.

    Args:
        total: number of files.
        verb: what is done to them.
    """

    def __init__(self, total: int, verb: str) -> None:
        self._total = total
        self._verb = verb
        self._bar: Progress | None = None
        self._files: TaskID | None = None
        self._tiles: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        if is_terminal(sys.stderr):
            self._start()
        return self

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=is_terminal(sys.stdout),
        )
        self._bar.start()
        if self._total > 1:
            self._files = self._bar.add_task(self._verb, total=self._total)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def file_done(self) -> None:
        """Count a file."""
        if self._bar is None:
            return
        if self._files is not None:
            self._bar.advance(self._files)
        if self._tiles is not None:
            self._bar.remove_task(self._tiles)
            self._tiles = None

    def advance_to(self, done: int, total: int) -> None:
        """Show that so many of all files are finished."""
        if self._bar is not None and self._files is not None:
            self._bar.update(self._files, completed=done, total=total)

    def tile_done(self, done: int, total: int) -> None:
        """Count a tile of the picture at work; small pictures show nothing."""
        if self._bar is None or total < 2:
            return
        if self._tiles is None:
            self._tiles = self._bar.add_task("tiles", total=total)
        self._bar.update(self._tiles, completed=done, total=total)


__all__ = ["ProgressBar"]
