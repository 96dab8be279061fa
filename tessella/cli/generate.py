"""``tessella generate``: pictures from a generator, with the tokens and a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessella.cli.asking import Asked, Wanted
from tessella.cli.options import TOKEN_SUFFIX, Debug, Device, Overwrite, chosen_device, verb
from tessella.cli.progress import ProgressBar
from tessella.cli.text import size as size_text
from tessella.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

    from tessella.generation.editing import Known
    from tessella.generation.pipelines import NextScalePipeline
    from tessella.generation.sampling import Sampling
    from tessella.generation.writing import Request

Model = Annotated[str, typer.Argument(help="A name, a folder, a hub id, or a preset.")]
Classes = Annotated[str, typer.Option("--class", help="Class numbers, as in 207,360; -1: none.")]
Prompts = Annotated[list[str] | None, typer.Option("--prompt", help="A text; may be repeated.")]
Negative = Annotated[str, typer.Option(help="With texts: what no picture shall be.")]
TextEncoder = Annotated[str, typer.Option(help="Folder or hub id of a T5 model, for texts.")]
TextFeatures = Annotated[
    Path | None, typer.Option(help="In place of texts: safetensors with a tensor (T, C) a text.")
]
Size = Annotated[str, typer.Option(help="WIDTHxHEIGHT, of models that write several sizes.")]
Aspect = Annotated[float | None, typer.Option(min=0, help="Width by height, in place of --size.")]
Number = Annotated[int, typer.Option("-n", "--number", min=1, help="Pictures of each.")]
Cfg = Annotated[
    float | None, typer.Option(help="Guidance scale; none: 0 for classes, 1 for texts.")
]
TopK = Annotated[int | None, typer.Option(min=0, help="Draw among so many tokens; 0: all.")]
TopP = Annotated[float | None, typer.Option(help="Draw among this much probability; 0: all.")]
Temperature = Annotated[float, typer.Option(help="Less than 1: likely tokens more often.")]
Greedy = Annotated[bool, typer.Option("--greedy", help="Take the most likely tokens.")]
Smooth = Annotated[bool, typer.Option("--smooth", help="Mix codes; smoother (classes only).")]
Seed = Annotated[int, typer.Option(help="Picture i has the noise of SEED + i.")]
Cache = Annotated[str, typer.Option(help="What the cache keeps: full, scale:0.1, head:0.5, ...")]
Scales = Annotated[int | None, typer.Option(min=1, help="Stop after so many scales.")]
From = Annotated[Path | None, typer.Option("--from", help="A picture that is finished or edited.")]
GivenScales = Annotated[int, typer.Option(min=0, help="With --from: take its first scales.")]
Mask = Annotated[Path | None, typer.Option(help="With --from: redraw where this picture is white.")]
Folder = Annotated[Path, typer.Option("-o", "--output", help="A folder.")]
Batch = Annotated[int, typer.Option(min=1, help="Pictures at once.")]
Trace = Annotated[
    bool, typer.Option("--trace", help="Write time, memory and tokens of scales to JSON.")
]


@verb
def generate(  # noqa: PLR0913  # the options of a verb
    model: Model,
    *,
    classes: Classes = "",
    prompt: Prompts = None,
    negative: Negative = "",
    text_encoder: TextEncoder = "",
    text_features: TextFeatures = None,
    size: Size = "",
    aspect: Aspect = None,
    number: Number = 1,
    cfg: Cfg = None,
    top_k: TopK = None,
    top_p: TopP = None,
    temperature: Temperature = 1.0,
    greedy: Greedy = False,
    smooth: Smooth = False,
    seed: Seed = 0,
    kv_cache: Cache = "full",
    scales: Scales = None,
    picture: From = None,
    given_scales: GivenScales = 0,
    mask: Mask = None,
    output: Folder = Path("generated"),
    batch: Batch = 8,
    trace: Trace = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write pictures of classes or texts.

    The folder gets a PNG and a token file a picture, and sheet.png with all of them. Pictures do
    not depend on --batch. A preset such as var-tiny has random weights: noise, to try things out.

    \b
    Examples:
      tessella generate var-folder --class 207,360 -n 8 --seed 0 -o out/
      tessella generate infinity-folder --prompt "a red bus" --aspect 1.5 -o out/
      tessella generate var-folder --class 207 --kv-cache scale:0.1 --trace -o out/
      tessella generate var-folder --class 22 --from photo.jpg --mask mask.png -o edited/
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    if picture is None and (given_scales or mask is not None):
        raise ConfigError("--given-scales or --mask given without a picture; add --from FILE")
    _check_folder(output, overwrite=overwrite)
    texts = tuple(prompt or ())
    asked = Asked(classes, texts, text_features, negative, text_encoder, size, aspect)

    from tessella.generation.pipelines import load_pipeline, pipeline_class
    from tessella.generation.writing import Request

    made = pipeline_class(model)
    asked.check(model, made.condition_kind)
    sampling = _sampling(made.sampling, top_k, top_p, temperature, greedy, smooth)
    pipe = load_pipeline(model).to(chosen_device(device))
    wanted, image_size = asked.wanted(pipe, number), asked.image_size(pipe)
    request = Request(
        wanted.conditions,
        negative=wanted.negative,
        seed=seed,
        guidance_scale=made.guidance_scale if cfg is None else cfg,
        sampling=sampling,
        kv_cache=kv_cache,
        image_size=image_size,
        scales=scales,
        known=None if picture is None else _known(pipe, image_size, picture, given_scales, mask),
        batch=batch,
    )
    _write(pipe, request, wanted, output, has_trace=trace)


def _check_folder(folder: Path, *, overwrite: bool) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ConfigError(f"{folder} is not empty; give another folder, or --overwrite")


def _known(
    pipe: NextScalePipeline,
    image_size: tuple[int, int] | None,
    picture: Path,
    scales: int,
    mask: Path | None,
) -> Known:
    """Return the tokens of a picture that is finished or edited."""
    from tessella.generation.editing import known_of_files

    grids = pipe.generator.grids_for(image_size, pipe.tokenizer)
    return known_of_files(pipe.tokenizer, grids, picture, scales, mask)


def _sampling(
    usual: Sampling,
    top_k: int | None,
    top_p: float | None,
    temperature: float,
    greedy: bool,
    smooth: bool,
) -> Sampling:
    """Return how tokens are drawn: as the family does, but for what was given."""
    from dataclasses import replace

    return replace(
        usual,
        top_k=usual.top_k if top_k is None else top_k,
        top_p=usual.top_p if top_p is None else top_p,
        temperature=temperature,
        greedy=greedy,
        smooth=smooth,
    )


def _write(
    pipe: NextScalePipeline, request: Request, wanted: Wanted, folder: Path, *, has_trace: bool
) -> None:
    """Generate a request into a folder."""
    import json

    from tessella.codecs.tokenizer_codec import TokenizerCodec
    from tessella.generation.writing import contact_sheet, run_request, trace_of
    from tessella.images import atomic_file, save_image

    codec = TokenizerCodec(pipe.tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    images: list[Image.Image] = []
    batches = []
    with ProgressBar(len(wanted.names), "pictures") as bar:
        for output in run_request(pipe, request):
            for i, image in enumerate(output.images):
                number = len(images)
                name = f"{wanted.names[number]}-seed{request.seed + number}"
                save_image(folder / f"{name}.png", image)
                data = codec.pack(output.tokens[i])
                with atomic_file(folder / f"{name}{TOKEN_SUFFIX}") as stream:
                    stream.write(data)
                images.append(image)
                bar.file_done()
                kind = f"{image.width}x{image.height}"
                typer.echo(f"{folder / name}.png  {kind}  tokens {size_text(len(data))}")
            batches.append(trace_of(output))
    save_image(folder / "sheet.png", contact_sheet(images))
    typer.echo(str(folder / "sheet.png"))
    if has_trace:
        with atomic_file(folder / "trace.json") as stream:
            stream.write((json.dumps({"batches": batches}) + "\n").encode("utf-8"))
        typer.echo(str(folder / "trace.json"))


__all__ = ["generate"]
