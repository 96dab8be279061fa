"""From checkpoint files to a pipeline's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tessella import hub
from tessella.config import nearest
from tessella.errors import ConfigError
from tessella.generation.checkpoints.base import (
    GeneratorFormat,
    convert_generator,
    generator_formats,
)
from tessella.generation.next_scale import NextScaleGenerator
from tessella.generation.saved import write_pipeline
from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.checkpoints.base import convert
from tessella.tokenizers.checkpoints.files import CARD, check_absent, new_folder
from tessella.tokenizers.checkpoints.reading import read_checkpoint
from tessella.tokenizers.saved import CONFIG_NAME


def convert_pipeline(
    family: str, path: Path | str, tokenizer: Path | str, output: Path | str, *, config: Any = None
) -> NextScaleGenerator:
    """Convert a generator and its tokenizer into a pipeline's folder.

    Args:
        family: name of a checkpoint format of generators.
        path: the generator's checkpoint.
        tokenizer: its tokenizer: a checkpoint of the same project, or the folder or name of a
            model of this library.
        output: the folder to make; it appears complete or not at all.
        config: of the generator, see
            :func:`~tessella.generation.checkpoints.base.convert_generator`.

    Returns:
        The generator that was saved.

    Raises:
        CheckpointError: if a checkpoint does not fit, or the folder exists.
        ConfigError: if the format or the preset is unknown.
        ShapeError: if the generator writes tokens of another tokenizer.
    """
    formats, output = generator_formats(), Path(output)
    if family not in formats:
        raise ConfigError(f"generator format {family!r}: {nearest(family, sorted(formats))}")
    check_absent(output)
    form = formats[family]
    generator = convert_generator(family, read_checkpoint(Path(path)), config)
    if not isinstance(generator, NextScaleGenerator):
        raise ConfigError(f"generators of the family {generator.family!r} have no pipeline yet")
    model = generator.checked(_tokenizer(tokenizer, form, generator))
    with new_folder(output) as made:
        write_pipeline(made, generator, model, text_encoder=form.text_encoder)
        (made / CARD).write_text(_card(form, Path(path).name, generator), encoding="utf-8")
    return generator


def _tokenizer(
    source: Path | str, form: GeneratorFormat, generator: NextScaleGenerator
) -> Tokenizer:
    """Load a saved tokenizer, or convert a checkpoint of one."""
    path = Path(source)
    if path.is_file() or (path.is_dir() and not (path / CONFIG_NAME).is_file()):
        implied = form.tokenizer_config(generator.config) if form.tokenizer_config else None
        return convert(form.tokenizer, read_checkpoint(path), implied)
    return hub.load(source)


def _card(form: GeneratorFormat, name: str, generator: NextScaleGenerator) -> str:
    parameters = sum(p.numel() for p in generator.parameters())
    return f"""# {name}

A `{generator.family}` generator of {parameters:,} parameters with its tokenizer, converted from a
`{form.name}` checkpoint.

- Source of such weights: {form.source}
- Licence: {form.licence}

The data that the weights were trained on may have terms of their own; see the source.
"""


__all__ = ["convert_pipeline"]
