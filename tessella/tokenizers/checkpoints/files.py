"""From a checkpoint file to a folder that :func:`tessella.load` takes."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tessella.errors import CheckpointError
from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.checkpoints.base import Format, convert, count_averages, formats
from tessella.tokenizers.checkpoints.reading import read_checkpoint

CARD = "MODEL_CARD.md"
_CHUNK = 2**20


class Conversion(NamedTuple):
    """What came of a checkpoint.

    Args:
        model: the tokenizer that was saved.
        tensors: number of its tensors.
        averages: how many of the checkpoint's tensors in it are moving averages; 0 where the file
            holds none.
    """

    model: Tokenizer
    tensors: int
    averages: int


def convert_file(
    family: str,
    path: Path | str,
    output: Path | str,
    *,
    config: Any = None,
    finish: Callable[[Tokenizer, Path], None] | None = None,
) -> Conversion:
    """Convert a checkpoint into a folder with config, weights and a model card.

    Args:
        family: name of a checkpoint format.
        path: the checkpoint, a file or a folder.
        output: the folder to make; it appears complete or not at all.
        config: see :func:`~tessella.tokenizers.checkpoints.base.convert`.
        finish: adds files to the folder before it appears, such as an entropy prior.

    Returns:
        The tokenizer that was saved, and how much of it are moving averages.

    Raises:
        CheckpointError: if the checkpoint does not fit, or the folder exists.
        ConfigError: if the format or the preset is unknown.
    """
    path, output = Path(path), Path(output)
    check_absent(output)
    state = read_checkpoint(path)
    model = convert(family, state, config)
    found = Conversion(model, len(model.state_dict()), count_averages(family, state))
    with new_folder(output) as made:
        model.save_pretrained(made)
        (made / CARD).write_text(_card(formats()[family], path, found), encoding="utf-8")
        if finish is not None:
            finish(model, made)
    return found


def check_absent(output: Path) -> None:
    """Check that nothing stands where a folder shall be made.

    Raises:
        CheckpointError: if something does.
    """
    if output.exists():
        raise CheckpointError(f"{output} exists; give another folder, or remove it first")


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Make a folder that appears under its name only when it is complete."""
    output.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        yield made
        made.chmod(0o755)
        made.rename(output)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _card(form: Format, path: Path, found: Conversion) -> str:
    model = found.model
    parameters = sum(p.numel() for p in model.parameters())
    digest = f"SHA-256 of the file: `{_sha256(path)}`." if path.is_file() else ""
    return f"""# {path.name}

A `{model.family}` tokenizer of {parameters:,} parameters, converted from a `{form.name}`
checkpoint.

- Source of such weights: {form.source}
- Licence: {form.licence}
- {digest or "Converted from a folder."}
- Tensors that are moving averages of the weights: {found.averages} of {found.tensors}.

The data that the weights were trained on may have terms of their own; see the source.
"""


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


__all__ = ["CARD", "Conversion", "check_absent", "convert_file", "new_folder"]
