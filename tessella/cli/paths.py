"""From the arguments of a verb to pairs of input and output files."""

from __future__ import annotations

import glob
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

STDIO = "-"
_PATTERN = "*?["


@dataclass(frozen=True, slots=True)
class Source:
    """One input.

    Args:
        path: the file; None for standard input.
        relative: where it goes below an output folder.
    """

    path: Path | None
    relative: Path

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return str(self.path) if self.path else "standard input"


@dataclass(frozen=True, slots=True)
class Task:
    """One input and its output.

    Args:
        source: what to read.
        target: what to write; None for standard output.
        problem: why it must not be done; empty if it may.
    """

    source: Source
    target: Path | None
    problem: str = ""


def find_sources(arguments: Sequence[str], suffixes: Collection[str]) -> list[Source]:
    """Expand files, glob patterns and folders; a file that is named need not exist.

    Raises:
        typer.BadParameter: if a folder or pattern holds nothing, or ``-`` is not alone.
    """
    if STDIO in arguments and len(arguments) > 1:
        raise typer.BadParameter("- (standard input) must be the only input")
    sources = []
    for argument in arguments:
        path = Path(argument).expanduser()
        if argument == STDIO:
            sources.append(Source(None, Path("picture")))
        elif path.is_dir():
            files = (file for file in sorted(path.rglob("*")) if _suits(file, suffixes))
            found = [Source(file, file.relative_to(path)) for file in files]
            sources += found or _nothing(f"the folder {argument} holds", suffixes)
        elif any(sign in argument for sign in _PATTERN) and not path.exists():
            matches = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207
            found = [Source(file, Path(file.name)) for file in matches if _suits(file, suffixes)]
            sources += found or _nothing(f"the pattern {argument} matches", suffixes)
        else:
            sources.append(Source(path, Path(path.name)))
    return sources


def _suits(path: Path, suffixes: Collection[str]) -> bool:
    is_hidden = path.name.startswith(".")
    return path.suffix.lower() in suffixes and not is_hidden and path.is_file()


def _nothing(what: str, suffixes: Collection[str]) -> list[Source]:
    raise typer.BadParameter(f"{what} no files of these kinds: {', '.join(sorted(suffixes))}")


def plan(
    sources: Sequence[Source], output: str | None, *, suffix: str, overwrite: bool
) -> list[Task]:
    """Decide where each input goes.

    Without ``output`` a file goes beside its input, and standard input to standard output.

    Raises:
        typer.BadParameter: if several inputs would go into one file.
    """
    if output is None:
        targets = [s.path.with_suffix(suffix) if s.path else None for s in sources]
    elif output == STDIO:
        targets = [None] * len(sources)
    elif output.endswith(("/", "\\")) or Path(output).expanduser().is_dir() or len(sources) > 1:
        folder = Path(output).expanduser()
        targets = [folder / s.relative.with_suffix(suffix) for s in sources]
        if folder.exists() and not folder.is_dir():
            raise typer.BadParameter(f"{output} is a file; expected a folder for several inputs")
    else:
        targets = [Path(output).expanduser()]
    if len(sources) > 1 and None in targets:
        raise typer.BadParameter(f"{len(sources)} inputs given for standard output; expected one")
    tasks: list[Task] = []
    taken: dict[Path, Source] = {}
    for source, target in zip(sources, targets, strict=True):
        tasks.append(Task(source, target, _problem(source, target, taken, overwrite=overwrite)))
        if target is not None:
            taken.setdefault(target, source)
    return tasks


def _problem(
    source: Source, target: Path | None, taken: dict[Path, Source], *, overwrite: bool
) -> str:
    if target is None:
        return ""
    if target in taken:
        return f"{source.name}: {target} is already the output of {taken[target].name}"
    if target.exists() and not overwrite:
        return f"{source.name}: {target} exists; give --overwrite to replace it"
    return ""


__all__ = ["STDIO", "Source", "Task", "find_sources", "plan"]
