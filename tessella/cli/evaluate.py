"""``tessella eval``: how faithful models are, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tessella.cli.eval_request import Outputs, Request, eval_options, write_text_set
from tessella.cli.options import Debug, Device, verb
from tessella.cli.progress import ProgressBar

_METRICS = "psnr,ssim,ms_ssim,lpips,dists,rFID,KID,IS,precision,recall,CMMD"

Models = Annotated[
    list[str] | None,
    typer.Argument(help="NAME[:QUALITY]: tokenizers, folders, hub ids, classical codecs."),
]
Images = Annotated[
    list[str] | None, typer.Option(help="Pictures: a folder, a pattern, a tar shard.")
]
Text = Annotated[list[str] | None, typer.Option(help="Pictures whose words are known: a folder.")]
Faces = Annotated[list[str] | None, typer.Option(help="Pictures whose faces are known: a folder.")]
Peers = Annotated[
    str, typer.Option(help="Codecs that get the bytes of each tokenizer, as in jpeg,webp.")
]
Metrics = Annotated[str, typer.Option(help="What to measure (also: ssimulacra2, sFID, glcm).")]
ProtocolName = Annotated[
    str, typer.Option("--protocol", help="Crop, resize, rounding: adm, torch-fidelity or clean.")
]
Weights = Annotated[
    list[str] | None, typer.Option(help="NAME=FILE, as in inception=weights.pth; repeatable.")
]
Reference = Annotated[Path | None, typer.Option(help="npz of a set that rFID compares with.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch weights that are not here.")]
Lpips = Annotated[str, typer.Option(help="LPIPS's network: alex, vgg or squeeze.")]
TextEngine = Annotated[str, typer.Option(help="Reads words: auto, rapidocr, tesseract or parseq.")]
Crops = Annotated[
    str, typer.Option(help="How words are cut: quad (straightened where corners are known) or box.")
]
FaceEngine = Annotated[str, typer.Option(help="Compares faces: auto, dlib, hog or arcface.")]
Canvas = Annotated[
    str, typer.Option(help="TokBench's squares for words and faces, as in 256,512; 0: none.")
]
SaveAs = Annotated[
    str, typer.Option(help="On a canvas: png, or same (JPEG 75 for .jpg names, as published).")
]
Limit = Annotated[int, typer.Option(min=0, help="Pictures of each set, evenly spread; 0: all.")]
LimitMarked = Annotated[
    int | None, typer.Option(min=0, help="The same for words and faces, if it is another number.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all records.")]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write the summary.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", help="Write a page to look at.")]
Shown = Annotated[int, typer.Option(min=0, help="Worst and best pictures on the page, of each.")]
Work = Annotated[
    Path | None, typer.Option(help="Keep finished pieces here, for a run with more models.")
]
TextSetFolder = Annotated[
    Path | None,
    typer.Option("--make-text-set", help="Write words onto --images, into a new set; no models."),
]
Heights = Annotated[
    str, typer.Option(help="With --make-text-set: pixels of capitals, as in 12,16,24.")
]
Count = Annotated[int, typer.Option(min=1, help="With --make-text-set: words of each height.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes; they share the cores.")]


@verb
def evaluate(  # noqa: PLR0913  # the options of a verb
    models: Models = None,
    *,
    images: Images = None,
    text: Text = None,
    faces: Faces = None,
    peers: Peers = "jpeg",
    metrics: Metrics = _METRICS,
    protocol: ProtocolName = "torch-fidelity",
    weights: Weights = None,
    reference: Reference = None,
    download: Download = False,
    lpips: Lpips = "alex",
    text_engine: TextEngine = "auto",
    crops: Crops = "quad",
    face_engine: FaceEngine = "auto",
    canvas: Canvas = "0",
    save_as: SaveAs = "png",
    limit: Limit = 0,
    limit_marked: LimitMarked = None,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    html_file: HtmlFile = None,
    shown: Shown = 2,
    work: Work = None,
    make_text_set: TextSetFolder = None,
    heights: Heights = "8,10,12,16,20,24,32,48",
    count: Count = 40,
    jobs: Jobs = 1,
    device: Device = "auto",
    debug: Debug = False,
) -> None:
    """Measure how faithful models are: to pixels, sets, words and faces; and their tokens, speed.

    A run that was stopped goes on where it was when the same command is given again. Metrics whose
    weights are not here are named; the rest is measured.

    \b
    Examples:
      tessella eval progressive-gq-f8:2 jpeg:20 --images kodak/ --html report.html
      tessella eval progressive-gq-f8:2 ./taef2 --peers jpeg,webp --images kodak/ \\
        --text words/ --faces faces/ --json eval.json --html eval.html -j 2
      tessella eval ./model --images val/ --protocol adm --weights inception=weights.pth
      tessella eval ./model --text tokbench/ --canvas 256,512 --save-as same
      tessella eval --make-text-set words/ --images photos/
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    sources = {"images": images or [], "text": text or [], "faces": faces or []}
    if make_text_set is not None:
        write_text_set(make_text_set, sources["images"], models or [], heights, count)
        return
    outputs = Outputs(json_file, csv_file, html_file, shown, work)
    outputs.check()
    engines = {"text_engine": text_engine, "face_engine": face_engine, "crops": crops}
    files = {"reference": reference, "allow_download": download}
    options = eval_options(
        metrics, protocol, weights or [], device, lpips=lpips, **engines, **files
    )
    sets = Request(sources, canvas, save_as, limit, limit_marked).sets()

    from tessella.eval.evaluation import evaluate as run

    with ProgressBar(sum(len(dataset.pictures) for dataset in sets), "pictures") as bar:
        results, setup = run(
            models or [],
            sets,
            options,
            work=outputs.folder,
            peers=[name.strip() for name in peers.split(",") if name.strip()],
            jobs=jobs,
            on_progress=bar.advance_to,
        )
    outputs.write(results, setup)


__all__ = ["evaluate"]
