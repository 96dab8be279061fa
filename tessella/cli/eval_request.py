"""What ``tessella eval`` was asked for, and where its results go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from tessella.cli.options import chosen_device
from tessella.config import nearest
from tessella.errors import ConfigError

if TYPE_CHECKING:
    from tessella.eval.evaluation import EvalOptions, EvalSet
    from tessella.eval.evaluation.worker import Setup
    from tessella.eval.results import Results

_SAVE_AS = ("png", "same")


@dataclass(frozen=True, slots=True)
class Request:
    """Sets as they were typed.

    Args:
        sources: folders by kind (``images``, ``text``, ``faces``).
        canvas: sides, separated by commas.
        save_as: what is judged on a canvas.
        limit: pictures of each set; 0 for all.
        limit_marked: the same for sets with words or faces; None for ``limit``.
    """

    sources: Mapping[str, Sequence[str]]
    canvas: str = "0"
    save_as: str = "png"
    limit: int = 0
    limit_marked: int | None = None

    def sets(self) -> list[EvalSet]:
        """List the pictures of all sets.

        Raises:
            ConfigError: if there are none, or a source is no set.
        """
        from tessella.eval.evaluation import face_set, image_set, text_set, with_canvases

        if self.save_as not in _SAVE_AS:
            raise ConfigError(f"--save-as {self.save_as!r} given; expected png or same")
        sides = _integers("--canvas", self.canvas)
        found = [image_set(source, limit=self.limit) for source in self.sources.get("images", ())]
        marked_limit = self.limit if self.limit_marked is None else self.limit_marked
        for read, kind in ((text_set, "text"), (face_set, "faces")):
            for source in self.sources.get(kind, ()):
                marked = read(source, limit=marked_limit)
                found += with_canvases(marked, sides, cast("Any", self.save_as))
        if not found:
            raise ConfigError("no pictures given; expected --images, --text or --faces FOLDER")
        return found


def eval_options(
    metrics: str, protocol: str, weights: Sequence[str], device: str, **chosen: Any
) -> EvalOptions:
    """Return options of the evaluation.

    Args:
        metrics: names, separated by commas.
        protocol: name of a preset.
        weights: ``NAME=FILE`` each.
        device: as typed.
        chosen: other fields of the options.

    Raises:
        ConfigError: if one of them is unknown.
    """
    from tessella.eval.evaluation import EvalOptions
    from tessella.eval.protocol import PRESETS

    if protocol not in PRESETS:
        raise ConfigError(f"no protocol {protocol!r}; {nearest(protocol, list(PRESETS))}")
    return EvalOptions(
        metrics=tuple(name.strip() for name in metrics.split(",") if name.strip()),
        protocol=PRESETS[protocol],
        weights=_pairs(weights),
        device=chosen_device(device),
        **chosen,
    )


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files that are written.

    Args:
        json_file: all records.
        csv_file: the summary.
        html_file: a page to look at.
        shown: worst and best pictures on it, of each subject.
        work: folder of finished pieces that is kept; None for one that is deleted at the end.
    """

    json_file: Path | None
    csv_file: Path | None
    html_file: Path | None
    shown: int
    work: Path | None

    @property
    def folder(self) -> Path:
        """Where finished pieces are kept until the end."""
        if self.work is not None:
            return self.work
        first = self.json_file or self.html_file or self.csv_file or Path("tessella-eval")
        return first.with_name(f"{first.name}.work")

    def check(self) -> None:
        """Check that the files can be written, before hours of work.

        Raises:
            ConfigError: if a folder does not exist.
        """
        for path in (self.json_file, self.csv_file, self.html_file):
            if path is not None and not path.absolute().parent.is_dir():
                raise ConfigError(f"{path} cannot be written: there is no folder {path.parent}")

    def write(self, results: Results, setup: Setup) -> None:
        """Print the summary and write what was asked for; pieces are deleted last."""
        from tessella.eval.evaluation.journal import Journal
        from tessella.eval.evaluation.showing import shown_pictures
        from tessella.eval.report.page import write_report
        from tessella.eval.summary import text_table, write_csv

        typer.echo(text_table(results))
        if self.json_file is not None:
            results.save(self.json_file)
        if self.csv_file is not None:
            write_csv(results, self.csv_file)
        if self.html_file is not None:
            shown = shown_pictures(setup, results, each=self.shown)
            write_report(results, shown, self.html_file)
        if self.work is None:
            Journal(self.folder).remove()


def write_text_set(
    folder: Path, images: Sequence[str], models: Sequence[str], heights: str, count: int
) -> None:
    """Write words of known heights onto photographs, and say how many.

    Raises:
        ConfigError: if models were given, or no photographs; if the words do not fit.
    """
    if not images or models:
        raise ConfigError(
            "--make-text-set needs --images FOLDER with photographs to write words on, and no "
            "models: evaluate on the set afterwards, with --text"
        )
    from tessella.eval.tokbench.text_set import make_text_set

    made = make_text_set(folder, images, heights=_integers("--heights", heights), count=count)
    words = sum(len(picture.words) for picture in made)
    typer.echo(f"{folder}: {words} words on {len(made)} pictures")


def _integers(option: str, text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 0 or len(set(found)) != len(found):
        raise ConfigError(f"{option} {text!r} given; expected different numbers, as in 256,512")
    return found


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise ConfigError(f"--weights {text!r} given; expected NAME=FILE")
        found[name.strip()] = path
    return found


__all__ = ["Outputs", "Request", "eval_options", "write_text_set"]
