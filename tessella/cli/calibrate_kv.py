"""``tessella calibrate-kv``: what cache policies may know of a generator beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tessella.cli.asking import Asked
from tessella.cli.generate import Cfg, Model, Prompts, Seed, Size, TextEncoder, TextFeatures
from tessella.cli.options import Debug, Device, Overwrite, chosen_device, verb
from tessella.errors import ConfigError

if TYPE_CHECKING:
    from tessella.generation.pipelines import NextScalePipeline

Method = Annotated[str, typer.Option(help="For which caches, by comma.")]
Classes = Annotated[str, typer.Option("--class", help="Class numbers; by default evenly spread.")]
Number = Annotated[
    int, typer.Option("-n", "--number", min=1, help="Pictures, of the classes or texts in turn.")
]
File = Annotated[Path, typer.Option("-o", "--output", help="The file to write.")]


@verb
def calibrate_kv(  # noqa: PLR0913  # the options of a verb
    model: Model,
    *,
    method: Method = "scale,head,heat",
    classes: Classes = "",
    prompt: Prompts = None,
    text_encoder: TextEncoder = "",
    text_features: TextFeatures = None,
    size: Size = "",
    number: Number = 10,
    cfg: Cfg = None,
    seed: Seed = 0,
    output: File = Path("calibration.json"),
    device: Device = "auto",
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Measure a generator's attention for the caches scale, head and heat.

    Pictures are written with a full cache and thrown away; ten suffice. The name of the file goes
    behind a cache's budget.

    \b
    Examples:
      tessella calibrate-kv var-folder -o var.json
      tessella calibrate-kv infinity-folder --prompt "a red bus" --prompt "two cats" -n 4
      tessella generate var-folder --class 207 --kv-cache head:0.5:var.json
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists; give another name, or --overwrite")

    from tessella.generation.kv_cache.calibrating import calibrate, make_calibrator
    from tessella.generation.kv_cache.calibration import save_calibrations
    from tessella.generation.pipelines import load_pipeline, pipeline_class

    calibrators = [make_calibrator(name.strip()) for name in method.split(",")]
    made = pipeline_class(model)
    is_spread = made.condition_kind == "class" and not classes
    asked = Asked(
        "0" if is_spread else classes,
        tuple(prompt or ()),
        text_features,
        text_encoder=text_encoder,
        size=size,
    )
    asked.check(model, made.condition_kind)
    pipe = load_pipeline(model).to(chosen_device(device))
    found = calibrate(
        pipe.generator,
        pipe.tokenizer,
        _spread(pipe, number) if is_spread else _in_turn(asked, pipe, number),
        calibrators,
        sampling=made.sampling,
        image_size=asked.image_size(pipe),
        guidance_scale=made.guidance_scale if cfg is None else cfg,
        seed=seed,
    )
    save_calibrations(output, found)
    typer.echo(f"{output}  {', '.join(part.method for part in found)}  {number} pictures")


def _spread(pipe: NextScalePipeline, number: int) -> list[Any]:
    """Return classes, one a batch, evenly spread."""
    classes = pipe.generator.config.classes
    return [[i * classes // number] for i in range(number)]


def _in_turn(asked: Asked, pipe: NextScalePipeline, number: int) -> list[Any]:
    """Return what was asked for, one a batch, again and again."""
    conditions = asked.wanted(pipe, 1).conditions
    return [[conditions[i % len(conditions)]] for i in range(number)]


__all__ = ["calibrate_kv"]
