"""Doing one piece of work for every file, in this process or in several."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import typer

from tessella.cli.options import check_stdout, fail
from tessella.cli.paths import Source, Task
from tessella.cli.progress import ProgressBar
from tessella.errors import ConfigError, TessellaError, TokenFileError

OnTile = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file.

    Args:
        line: what to say about it.
        note: a warning; empty for none.
        data: what belongs on standard output, if its target is that.
    """

    line: str
    note: str = ""
    data: bytes = b""


Work = Callable[[Task, OnTile | None], Outcome]


def run_tasks(
    tasks: Sequence[Task], work: Work, *, jobs: int, verb: str, debug: bool = False
) -> None:
    """Work on all files; one that fails does not stop the others.

    Args:
        tasks: inputs and outputs.
        work: does one of them; sent to other processes if ``jobs`` is more than 1.
        jobs: number of processes.
        verb: what is done, for the progress bar.
        debug: stop at the first error and raise it.

    Raises:
        ConfigError: from the first file whose settings are impossible.
        typer.Exit: with code 1 if a file failed.
        typer.BadParameter: if bytes would go to a terminal.
    """
    if any(task.target is None for task in tasks):
        check_stdout()
    failed = 0
    with ProgressBar(len(tasks), verb) as bar:
        for task, result in _results(tasks, work, jobs=jobs, bar=bar):
            bar.file_done()
            if isinstance(result, ConfigError) or (debug and isinstance(result, Exception)):
                raise result
            if isinstance(result, Exception):
                failed += 1
                fail(result)
                continue
            if result.note:
                fail(f"warning: {result.note}")
            _say(task, result)
    if failed:
        if len(tasks) > 1:
            fail(f"{failed} of {len(tasks)} files failed")
        raise typer.Exit(1)


def _say(task: Task, outcome: Outcome) -> None:
    if task.target is None:
        typer.echo(outcome.data, nl=False)
    typer.echo(outcome.line, err=task.target is None)


def _results(
    tasks: Sequence[Task], work: Work, *, jobs: int, bar: ProgressBar
) -> Iterator[tuple[Task, Outcome | Exception]]:
    if jobs == 1 or len(tasks) == 1:
        for task in tasks:
            yield task, _attempt(task, work, bar.tile_done)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    jobs = min(jobs, len(tasks))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # forked copies of a process with torch's threads may hang, so new ones are started
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_set_threads, initargs=(threads,)
    ) as pool:
        futures = [pool.submit(_attempt, task, work, None) for task in tasks]
        try:
            for task, future in zip(tasks, futures, strict=True):
                yield task, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _set_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def _attempt(task: Task, work: Work, on_tile: OnTile | None) -> Outcome | Exception:
    if task.problem:
        return TessellaError(task.problem)
    try:
        return work(task, on_tile)
    except (TessellaError, OSError) as error:
        return error


def open_source(source: Source) -> Path | BinaryIO:
    """Return what to read of an input."""
    if source.path is not None:
        return source.path
    return sys.stdin.buffer


def read_bytes(source: Source) -> bytes:
    """Read a whole input.

    Raises:
        TokenFileError: if it is missing or unreadable.
    """
    if source.path is None:
        return sys.stdin.buffer.read()
    try:
        return source.path.read_bytes()
    except FileNotFoundError as error:
        raise TokenFileError("there is no such file") from error
    except OSError as error:
        raise TokenFileError(f"it cannot be read: {error.strerror}") from error


def prepare(target: Path) -> Path:
    """Make the folder of an output."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


__all__ = ["Outcome", "Work", "open_source", "prepare", "read_bytes", "run_tasks"]
