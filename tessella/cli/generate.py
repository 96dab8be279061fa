"""``tessella generate``: pictures from a generator, with the tokens and a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessella.cli.options import TOKEN_SUFFIX, Debug, Device, Overwrite, chosen_device, verb
from tessella.cli.progress import ProgressBar
from tessella.cli.text import size
from tessella.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

    from tessella.generation.pipelines import NextScalePipeline
    from tessella.generation.writing import Request

Number = Annotated[int, typer.Option("-n", "--number", min=1, help="Pictures of each class.")]


@verb
def generate(  # noqa: PLR0913  # the options of a verb
    model: Annotated[str, typer.Argument(help="A name, a folder, a hub id, or a preset.")],
    *,
    classes: Annotated[
        str, typer.Option("--class", help="Class numbers, as in 207,360; -1 for none.")
    ] = "",
    number: Number = 1,
    cfg: Annotated[float, typer.Option(help="Guidance scale; 0 for none.")] = 4.0,
    top_k: Annotated[int, typer.Option(min=0, help="Draw among so many tokens; 0: all.")] = 900,
    top_p: Annotated[float, typer.Option(help="Draw among this much probability.")] = 0.95,
    greedy: Annotated[bool, typer.Option("--greedy", help="Take the most likely tokens.")] = False,
    smooth: Annotated[bool, typer.Option("--smooth", help="Mix codes; smoother.")] = False,
    seed: Annotated[int, typer.Option(help="Picture i has the noise of SEED + i.")] = 0,
    kv_cache: Annotated[
        str, typer.Option(help="What the cache keeps: full, scale:0.1, head:0.5, ...")
    ] = "full",
    scales: Annotated[int | None, typer.Option(min=1, help="Stop after so many scales.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--from", help="A picture that is finished or edited.")
    ] = None,
    given_scales: Annotated[
        int, typer.Option(min=0, help="With --from: take its first scales.")
    ] = 0,
    mask: Annotated[
        Path | None, typer.Option(help="With --from: redraw where this picture is white.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="A folder.")] = Path("generated"),
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 8,
    trace: Annotated[
        bool, typer.Option("--trace", help="Write time, memory and tokens of scales to JSON.")
    ] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write pictures of classes.

    The folder gets a PNG and a token file a picture, and sheet.png with all of them. Pictures do
    not depend on --batch. A preset such as var-tiny has random weights: noise, to try things out.

    \b
    Examples:
      tessella generate var-folder --class 207,360 -n 8 --seed 0 -o out/
      tessella generate var-folder --class 207 --kv-cache scale:0.1 --trace -o out/
      tessella generate var-folder --class 22 --from photo.jpg --mask mask.png -o edited/
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    labels = [label for label in _numbers(classes) for _ in range(number)]
    if picture is None and (given_scales or mask is not None):
        raise ConfigError("--given-scales or --mask given without a picture; add --from FILE")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise ConfigError(f"{output} is not empty; give another folder, or --overwrite")

    from tessella.generation.editing import known_of_files
    from tessella.generation.pipelines import load_pipeline
    from tessella.generation.sampling import Sampling
    from tessella.generation.writing import Request

    pipe = load_pipeline(model).to(chosen_device(device))
    known = None
    if picture is not None:
        known = known_of_files(pipe.tokenizer, pipe.generator.grids, picture, given_scales, mask)
    request = Request(
        labels=labels,
        seed=seed,
        guidance_scale=cfg,
        sampling=Sampling(top_k=top_k, top_p=top_p, greedy=greedy, smooth=smooth),
        kv_cache=kv_cache,
        scales=scales,
        known=known,
        batch=batch,
    )
    _write(pipe, request, output, has_trace=trace)


def _write(pipe: NextScalePipeline, request: Request, folder: Path, *, has_trace: bool) -> None:
    """Generate a request into a folder."""
    import json

    from tessella.codecs.tokenizer_codec import TokenizerCodec
    from tessella.generation.writing import contact_sheet, run_request, trace_of
    from tessella.images import atomic_file, save_image

    codec = TokenizerCodec(pipe.tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    images: list[Image.Image] = []
    batches = []
    with ProgressBar(len(request.labels), "pictures") as bar:
        for output in run_request(pipe, request):
            for i, image in enumerate(output.images):
                number = len(images)
                name = f"class{request.labels[number]}-seed{request.seed + number}"
                save_image(folder / f"{name}.png", image)
                data = codec.pack(output.tokens[i])
                with atomic_file(folder / f"{name}{TOKEN_SUFFIX}") as stream:
                    stream.write(data)
                images.append(image)
                bar.file_done()
                kind = f"{image.width}x{image.height}"
                typer.echo(f"{folder / name}.png  {kind}  tokens {size(len(data))}")
            batches.append(trace_of(output))
    save_image(folder / "sheet.png", contact_sheet(images))
    typer.echo(str(folder / "sheet.png"))
    if has_trace:
        with atomic_file(folder / "trace.json") as stream:
            stream.write((json.dumps({"batches": batches}) + "\n").encode("utf-8"))
        typer.echo(str(folder / "trace.json"))


def _numbers(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--class {text!r} given; expected class numbers, as in --class 207,360"
        ) from error
    return found


__all__ = ["generate"]
