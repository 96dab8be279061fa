"""``tessella bench codecs``: rate and distortion of codecs side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tessella.cli.eval_request import Request, eval_options
from tessella.cli.options import Debug, Device, verb
from tessella.cli.progress import ProgressBar
from tessella.errors import ConfigError

if TYPE_CHECKING:
    from tessella.eval.codec_bench import CodecBench
    from tessella.eval.piecewise import Method

_CODECS = "jpeg,webp,avif,jp2,jxl,progressive-gq-f8"
_METHODS = ("pchip", "cubic", "akima")

Images = Annotated[list[str], typer.Option(help="Pictures: a folder, a pattern, a tar shard.")]
Codecs = Annotated[
    str,
    typer.Option(
        "--codecs", help="NAME for its usual qualities, NAME:QUALITY for one; commas between."
    ),
]
Metrics = Annotated[
    str, typer.Option(help="Besides psnr and ms_ssim (also: ssim, lpips, dists, rFID, ...).")
]
Weights = Annotated[
    list[str] | None, typer.Option(help="NAME=FILE, as in alex=weights.pth; repeatable.")
]
Anchor = Annotated[
    str, typer.Option(help="Codec that others are compared with; jpeg if it is there.")
]
MethodName = Annotated[
    str, typer.Option("--method", help="How deltas interpolate: pchip, cubic or akima.")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write a record a picture and quality.")
]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write the means of each quality.")]
DeltaFile = Annotated[Path | None, typer.Option("--bd", help="Write the deltas, as CSV.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", help="Write a page to look at.")]
PlotFile = Annotated[
    Path | None, typer.Option("--plot", help="Draw quality against rate (PNG, SVG, PDF).")
]
Shown = Annotated[int, typer.Option(min=0, help="Pictures side by side on the page, of each set.")]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", min=1, help="Processes; with several, times are longer.")
]
Memory = Annotated[
    bool, typer.Option("--memory", help="Also measure peak memory, each codec in a process.")
]
Limit = Annotated[int, typer.Option(min=0, help="Pictures of each set, evenly spread; 0: all.")]
Work = Annotated[
    Path | None, typer.Option(help="Keep finished pieces here, for a run with more codecs.")
]


@dataclass(frozen=True, slots=True)
class BenchOutputs:
    """Files that are written.

    Args:
        json_file: a record a picture and quality.
        csv_file: means.
        delta_file: Bjontegaard deltas.
        html_file: a page to look at.
        plot_file: a picture of the curves.
        shown: pictures side by side on the page, of each set.
        work: folder of finished pieces that is kept; None for one that is deleted at the end.
    """

    json_file: Path | None
    csv_file: Path | None
    delta_file: Path | None
    html_file: Path | None
    plot_file: Path | None
    shown: int
    work: Path | None

    @property
    def folder(self) -> Path:
        """Where finished pieces are kept until the end."""
        if self.work is not None:
            return self.work
        first = next((path for path in self._files if path is not None), Path("tessella-bench"))
        return first.with_name(f"{first.name}.work")

    @property
    def _files(self) -> tuple[Path | None, ...]:
        return self.json_file, self.html_file, self.csv_file, self.plot_file, self.delta_file

    def check(self) -> None:
        """Check that the files can be written, before hours of work.

        Raises:
            ConfigError: if a folder does not exist, or the plot has an unknown suffix.
        """
        from tessella.eval.codec_bench.plot import check_plot

        for path in self._files:
            if path is not None and not path.absolute().parent.is_dir():
                raise ConfigError(f"{path} cannot be written: there is no folder {path.parent}")
        if self.plot_file is not None:
            check_plot(self.plot_file)

    def write(self, bench: CodecBench) -> None:
        """Print means and deltas, and write what was asked for; pieces are deleted last."""
        from tessella.eval import codec_bench
        from tessella.eval.codec_bench.equal_bytes import equal_bytes_crops
        from tessella.eval.evaluation.journal import Journal
        from tessella.eval.summary import text_table

        results = bench.results
        typer.echo(text_table(results))
        for codec, peak in bench.memory.items():
            typer.echo(f"peak memory of {codec}: {peak / 1e6:.1f} MB")
        if bench.deltas:
            typer.echo("\n" + codec_bench.delta_text(bench.deltas))
        if self.json_file is not None:
            codec_bench.write_records(results, self.json_file)
        if self.csv_file is not None:
            codec_bench.write_points(results, self.csv_file, memory=bench.memory)
        if self.delta_file is not None:
            codec_bench.write_deltas(bench.deltas, self.delta_file)
        if self.plot_file is not None:
            codec_bench.plot(results, self.plot_file)
        if self.html_file is not None:
            crops = equal_bytes_crops(bench.setup, results, count=self.shown)
            codec_bench.write_bench_page(bench, crops, self.html_file)
        if self.work is None:
            Journal(self.folder).remove()


@verb
def codecs(  # noqa: PLR0913  # the options of a verb
    *,
    images: Images,
    names: Codecs = _CODECS,
    metrics: Metrics = "ssimulacra2",
    weights: Weights = None,
    anchor: Anchor = "",
    method: MethodName = "pchip",
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    bd_file: DeltaFile = None,
    html_file: HtmlFile = None,
    plot_file: PlotFile = None,
    shown: Shown = 3,
    jobs: Jobs = 1,
    memory: Memory = False,
    limit: Limit = 0,
    work: Work = None,
    device: Device = "auto",
    debug: Debug = False,
) -> None:
    """Compare codecs over their qualities: rate, distortion, Bjontegaard deltas, time.

    Rates are those of whole files, which are decoded again for every figure. A run that was stopped
    goes on where it was when the same command is given again. Codecs whose library is not here are
    named; the rest is measured.

    \b
    Examples:
      tessella bench codecs --images kodak/ --html rd.html --plot rd.png --json rd.json
      tessella bench codecs --images kodak/ --codecs jpeg:20,jpeg:50,webp,./model --anchor webp -j 4
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    if method not in _METHODS:
        raise ConfigError(f"--method {method!r} given; expected {', '.join(_METHODS)}")
    outputs = BenchOutputs(json_file, csv_file, bd_file, html_file, plot_file, shown, work)
    outputs.check()
    options = eval_options(metrics, "torch-fidelity", weights or [], device)
    sets = Request({"images": images}, limit=limit).sets()

    from tessella.eval.codec_bench import bench_codecs, with_memory

    with ProgressBar(sum(len(dataset.pictures) for dataset in sets), "pictures") as bar:
        bench = bench_codecs(
            [name.strip() for name in names.split(",") if name.strip()],
            sets,
            options,
            work=outputs.folder,
            anchor=anchor,
            method=cast("Method", method),
            jobs=jobs,
            on_progress=bar.advance_to,
        )
    outputs.write(with_memory(bench) if memory else bench)


__all__ = ["BenchOutputs", "codecs"]
