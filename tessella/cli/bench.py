"""``tessella bench``: measurements side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tessella.cli.asking import class_numbers
from tessella.cli.bench_codecs import codecs
from tessella.cli.options import Debug, Device, chosen_device, verb
from tessella.cli.progress import ProgressBar
from tessella.errors import ConfigError

bench = typer.Typer(
    name="bench",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure things side by side.",
)

_CACHES = "full,scale:0.5,scale:0.1,snapkv:0.5,snapkv:0.1,streaming:0.5,head:0.5"


@bench.callback()
def _root() -> None:
    """Measure things side by side."""


@bench.command()
@verb
def generation(  # noqa: PLR0913  # the options of a verb
    model: Annotated[str, typer.Argument(help="A pipeline: name, folder, hub id, or preset.")],
    *,
    kv_cache: Annotated[
        str, typer.Option(help="Caches with their budgets, separated by commas.")
    ] = _CACHES,
    classes: Annotated[
        str, typer.Option("--class", help="Class numbers, one a picture; random by default.")
    ] = "",
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="Pictures.")] = 4,
    cfg: Annotated[float, typer.Option(help="Guidance scale; 0 for none.")] = 4.0,
    seed: Annotated[int, typer.Option(help="Picture i has the noise of SEED + i.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Runs; the median counts.")] = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the records to a file.")
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Draw memory against agreement (PNG, SVG).")
    ] = None,
    device: Device = "auto",
    debug: Debug = False,
) -> None:
    """Compare key-value caches on one generator.

    All caches write the same pictures with the same noise; tokens and pictures are compared with
    those of the full cache. Agreement of free-running generation is strict: one token that differs
    changes all that follow.

    \b
    Examples:
      tessella bench generation var-tiny --kv-cache full,scale:0.1,head:0.5 --json caches.json
      tessella bench generation var-folder --class 207,360 --plot caches.png
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    labels = class_numbers(classes) if classes else []
    caches = [name.strip() for name in kv_cache.split(",") if name.strip()]
    if not caches:
        raise ConfigError("--kv-cache is empty; give names with budgets, as in full,scale:0.1")

    from tessella.eval.generation_bench import BenchSettings, bench_generation, plot, table
    from tessella.generation.pipelines import load_pipeline

    pipe = load_pipeline(model).to(chosen_device(device))
    pipe.set_progress_bar_config(disable=True)
    if labels and pipe.family != "var":
        raise ConfigError(f"--class given for a {pipe.family!r} model, which knows no classes")
    conditions = labels or pipe.random_conditions(number, seed=seed)
    settings = BenchSettings(conditions, len(conditions), cfg, seed=seed, repeats=repeats)
    with ProgressBar(len(caches), "caches") as bar:
        records = bench_generation(
            pipe, caches, settings, on_progress=lambda done, total: bar.file_done()
        )
    typer.echo(table(records))
    if json_file is not None:
        import json

        from tessella.images import atomic_file

        with atomic_file(json_file) as stream:
            text = json.dumps([asdict(record) for record in records], indent=2)
            stream.write((text + "\n").encode("utf-8"))
    if plot_file is not None:
        plot(records, plot_file)


bench.command()(codecs)

__all__ = ["bench"]
