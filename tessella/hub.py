"""Names to weights: models shipped in the package, local folders, and hub ids.

A name is looked up in this order: an existing folder; a folder of that name in the package or in
one of the directories of the variable ``TESSELLA_MODELS``; a hub id ``org/name``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tessella.config import nearest
from tessella.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from tessella.tokenizers.base import Tokenizer

SHIPPED = Path(__file__).parent / "pretrained"
SEARCH_PATH_VARIABLE = "TESSELLA_MODELS"

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FETCHED = ["*.safetensors", "*.json", "*.md"]


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model that can be loaded by name without a network.

    Args:
        name: what :func:`load` takes.
        folder: where its files are.
        size: bytes of its weights.
        is_shipped: whether it came with the package.
    """

    name: str
    folder: Path
    size: int
    is_shipped: bool


def models() -> list[ModelRecord]:
    """List the models that can be loaded by name: those shipped, then those on the search path."""
    found: dict[str, ModelRecord] = {}
    for root in _roots():
        for config in sorted(root.glob(f"*/{_CONFIG}")):
            folder = config.parent
            weights = folder / _WEIGHTS
            if weights.is_file() and folder.name not in found:
                found[folder.name] = ModelRecord(
                    folder.name, folder, weights.stat().st_size, root == SHIPPED
                )
    return list(found.values())


def resolve(name: str | Path) -> Path:
    """Find the folder of a model: a path, a known name, or a hub id, which is fetched.

    Raises:
        CheckpointError: if there is no such model; the message names the nearest one.
    """
    text = str(name)
    folder = Path(name)
    if (folder / _CONFIG).is_file():
        return folder
    known = {record.name: record.folder for record in models()}
    if text in known:
        return known[text]
    if folder.is_dir():
        raise CheckpointError(
            f"the folder {text} has no {_CONFIG}; expected a saved model (save_pretrained)"
        )
    if _is_hub_id(text):
        return download(text)
    hint = nearest(text, list(known)) if known else "no model is installed"
    raise CheckpointError(
        f"there is no model {text!r}; {hint} (or give a folder, or a hub id like org/name)"
    )


def load(
    name_or_path: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tokenizer:
    """Load a tokenizer in evaluation mode; its ``config.json`` names the family.

    Args:
        name_or_path: a shipped name, a folder, or a hub id ``org/name``.
        device: where to put it; the CPU by default.
        dtype: type of the weights; float32 by default, whatever the file holds.

    Raises:
        CheckpointError: if the model is unknown, damaged, or of an unknown family.
    """
    import tessella.tokenizers  # noqa: F401  # fills the registry
    from tessella.errors import ConfigError
    from tessella.tokenizers.base import read_record
    from tessella.tokenizers.registry import family

    folder = resolve(name_or_path)
    try:
        cls = family(read_record(folder)["tokenizer"]).tokenizer_class
    except ConfigError as error:
        raise CheckpointError(f"{folder / _CONFIG}: {error}") from error
    model = cls.from_pretrained(str(folder))
    return model.to(device=device, dtype=dtype).eval()


def download(
    repo_id: str, revision: str | None = None, local_files_only: bool | None = None
) -> Path:
    """Fetch a model from the hub into its cache and return the folder.

    Only safetensors, JSON and Markdown files are fetched.

    Raises:
        CheckpointError: if it cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=_FETCHED,
            local_files_only=bool(local_files_only),
        )
    except Exception as error:  # the hub's client and its transport raise many kinds
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise CheckpointError(f"{repo_id} cannot be fetched from the hub: {reason}") from error
    return Path(folder)


def _roots() -> list[Path]:
    listed = os.environ.get(SEARCH_PATH_VARIABLE, "").split(os.pathsep)
    return [SHIPPED, *(Path(entry).expanduser() for entry in listed if entry)]


def _is_hub_id(text: str) -> bool:
    return _HUB_ID.fullmatch(text) is not None


__all__ = ["ModelRecord", "download", "load", "models", "resolve"]
