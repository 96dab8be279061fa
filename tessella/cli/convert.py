"""``tessella convert``: a published checkpoint to a model of this library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tessella.cli.options import Debug, verb
from tessella.errors import ConfigError


@verb
def convert(
    family: Annotated[str, typer.Argument(help="A format that `tessella models` lists.")],
    checkpoint: Annotated[
        Path,
        typer.Argument(help="A .safetensors, .ckpt, .pt, .pth, .bin or .mcquic file, or a folder."),
    ],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make.")],
    preset: Annotated[
        str | None, typer.Option(help="Sizes by name; read from the tensors by default.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The project's own config, YAML or JSON.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Of a generator: its tokenizer, a checkpoint, a folder or a name."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Turn published weights into a model folder.

    The folder works wherever a model's name does.

    Nothing is run from a checkpoint: files that need more than tensors are refused. Every tensor
    must find its place, or nothing is written.

    \b
    Examples:
      tessella convert vqgan last.ckpt -o models/vqgan-f16
      tessella convert llamagen_vq vq_ds16_c2i.pt -o models/vq16
      tessella convert var var_d16.pth --tokenizer vae_ch160v4096z32.pth -o models/var-d16
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    if preset and config:
        raise ConfigError("--preset and --config given; expected one of them")

    from tessella.codecs.entropy.code_frequencies import write_prior_of_frequencies
    from tessella.generation.checkpoints import generator_formats
    from tessella.tokenizers.checkpoints.files import convert_file

    sizes = _read(config) if config else preset
    if family in generator_formats():
        _convert_generator(family, checkpoint, tokenizer, output, sizes)
        return
    if tokenizer is not None:
        raise ConfigError(f"--tokenizer given for {family!r}, which is a tokenizer itself")
    found = convert_file(
        family, checkpoint, output, config=sizes, finish=write_prior_of_frequencies
    )
    parameters = sum(p.numel() for p in found.model.parameters())
    typer.echo(
        f"{output}  {found.model.family}  {parameters / 1e6:.2f} M parameters\n"
        f"{found.averages} of {found.tensors} tensors are moving averages (EMA)"
    )


def _convert_generator(
    family: str, checkpoint: Path, tokenizer: str | None, output: Path, sizes: Any
) -> None:
    from tessella.generation.checkpoints.files import convert_pipeline

    if tokenizer is None:
        raise ConfigError(
            f"{family!r} is a generator; give its tokenizer with --tokenizer: a checkpoint of the "
            "same project, or a folder or name of a model"
        )
    generator = convert_pipeline(family, checkpoint, tokenizer, output, config=sizes)
    parameters = sum(p.numel() for p in generator.parameters())
    typer.echo(f"{output}  {generator.family}  {parameters / 1e6:.2f} M parameters")


def _read(path: Path) -> Any:
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is neither YAML nor JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds a {type(found).__name__}; expected keys and values")
    return found


__all__ = ["convert"]
