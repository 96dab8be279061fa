"""Options that several verbs share, and how verbs report errors."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from tessella.errors import ConfigError, TessellaError

P = ParamSpec("P")
R = TypeVar("R")

TOKEN_SUFFIX = ".tsl"  # noqa: S105  # the suffix of token files, not a password

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Device = Annotated[
    str, typer.Option("--device", help="cpu, cuda, mps, or auto: a GPU if there is one.")
]
Keep = Annotated[
    int | None,
    typer.Option(
        "-q", "--keep", min=1, help="Groups (positions, levels) to keep; fewer is smaller."
    ),
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Files at once, a process each.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MaxPixels = Annotated[
    int, typer.Option("--max-pixels", min=0, help="Refuse larger pictures; 0 for no limit.")
]
Model = Annotated[str, typer.Option("--model", "-m", help="A name, a folder, or a hub id.")]
ModelOfFile = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model to use; by default the one the file names."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", help="File, folder (for several files, or ending in /), or - (stdout)."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


def verb(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function a verb: errors become one line on stderr and an exit code."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _short_warnings():
                return function(*args, **kwargs)
        except (TessellaError, OSError) as error:
            if kwargs.get("debug"):
                raise
            fail(error)
            raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from error
        except KeyboardInterrupt as error:
            fail("interrupted")
            raise typer.Exit(130) from error

    return run


def fail(message: object) -> None:
    """Print one line of error on stderr."""
    text = " ".join(str(message).split())
    typer.echo(f"tessella: {text}", err=True)


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Print warnings as one line each, without their place in the code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        fail(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def chosen_device(name: str) -> str:
    """Return a torch device for the option: a GPU for ``auto`` where there is one.

    Raises:
        ConfigError: if there is no such device here.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(f"device {name!r} cannot be used: {reason}") from error
    return name


def pixel_limit(option: int) -> int | None:
    """Return the limit that an option of ``--max-pixels`` means; None for no limit."""
    return option or None


def is_terminal(stream: Any) -> bool:
    """Return whether a person looks at a stream."""
    return bool(getattr(stream, "isatty", lambda: False)())


def check_stdout() -> None:
    """Check that bytes may go to standard output.

    Raises:
        typer.BadParameter: if that is a terminal.
    """
    if is_terminal(sys.stdout):
        raise typer.BadParameter("bytes would go to a terminal; redirect it, or give -o FILE")


__all__ = [
    "TOKEN_SUFFIX",
    "Debug",
    "Device",
    "Jobs",
    "Json",
    "Keep",
    "MaxPixels",
    "Model",
    "ModelOfFile",
    "Output",
    "Overwrite",
    "check_stdout",
    "chosen_device",
    "fail",
    "is_terminal",
    "pixel_limit",
    "verb",
]
