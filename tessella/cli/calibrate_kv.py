"""``tessella calibrate-kv``: what cache policies may know of a generator beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tessella.cli.options import Debug, Device, Overwrite, chosen_device, verb
from tessella.errors import ConfigError

Number = Annotated[int, typer.Option("-n", "--number", min=1, help="Pictures to measure.")]
_METHODS = "scale,head,heat"


@verb
def calibrate_kv(  # noqa: PLR0913  # the options of a verb
    model: Annotated[str, typer.Argument(help="A name, a folder, a hub id, or a preset.")],
    *,
    method: Annotated[str, typer.Option(help="For which caches, by comma.")] = _METHODS,
    classes: Annotated[
        str, typer.Option("--class", help="Class numbers, in turn; by default evenly spread.")
    ] = "",
    number: Number = 10,
    cfg: Annotated[float, typer.Option(help="Guidance scale; 0 for none.")] = 4.0,
    top_k: Annotated[int, typer.Option(min=0, help="Draw among so many tokens; 0: all.")] = 900,
    top_p: Annotated[float, typer.Option(help="Draw among this much probability.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Picture i has the noise of SEED + i.")] = 0,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path(
        "calibration.json"
    ),
    device: Device = "auto",
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Measure a generator's attention for the caches scale, head and heat.

    Pictures are written with a full cache and thrown away; ten suffice. The file goes behind a
    cache's budget.

    \b
    Examples:
      tessella calibrate-kv var-folder -o var.json
      tessella generate var-folder --class 207 --kv-cache head:0.5:var.json
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists; give another name, or --overwrite")
    given = _numbers(classes) if classes else []

    from tessella.generation.kv_cache.calibrating import calibrate, make_calibrator
    from tessella.generation.kv_cache.calibration import save_calibrations
    from tessella.generation.pipelines import load_pipeline
    from tessella.generation.sampling import Sampling

    calibrators = [make_calibrator(name.strip()) for name in method.split(",")]
    pipe = load_pipeline(model).to(chosen_device(device))
    found = calibrate(
        pipe.generator,
        pipe.tokenizer,
        [[label] for label in _labels(given, number, pipe.generator.config)],
        calibrators,
        sampling=Sampling(top_k=top_k, top_p=top_p),
        guidance_scale=cfg,
        seed=seed,
    )
    save_calibrations(output, found)
    typer.echo(f"{output}  {', '.join(part.method for part in found)}  {number} pictures")


def _labels(given: list[int], number: int, config: Any) -> list[int]:
    """Return a class a picture."""
    if given:
        return [given[i % len(given)] for i in range(number)]
    known = getattr(config, "classes", None)
    if known is None:
        raise ConfigError("this generator writes no classes; it cannot be calibrated here")
    return [i * known // number for i in range(number)]


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--class {text!r} given; expected class numbers, as in --class 207,360"
        ) from error


__all__ = ["calibrate_kv"]
