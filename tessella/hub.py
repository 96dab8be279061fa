"""Names to weights: models shipped in the package, local folders, and hub ids.

A name is looked up in this order: an existing folder; a folder of that name in the package or in
one of the directories of the variable ``TESSELLA_MODELS``; a hub id ``org/name``.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessella.config import nearest
from tessella.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from tessella.tokenizers.base import Tokenizer

DEFAULT_MODEL = "progressive-gq-f8"
SHIPPED = Path(__file__).parent / "pretrained"
SEARCH_PATH_VARIABLE = "TESSELLA_MODELS"

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_TOKENIZER = "tokenizer"  # its folder inside a saved pipeline
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_MAX_HEADER = 2**26  # bytes
_FETCHED = ["*.safetensors", "*.json", "*.md"]


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model that can be loaded by name without a network.

    Args:
        name: what :func:`load` takes.
        folder: where its files are.
        family: kind of tokenizer; empty if its ``config.json`` is damaged.
        parameters: number of weights; 0 if the file is damaged.
        size: bytes of the file of weights.
        is_shipped: whether it came with the package.
    """

    name: str
    folder: Path
    family: str
    parameters: int
    size: int
    is_shipped: bool


def models() -> list[ModelRecord]:
    """List the models that can be loaded by name: those shipped, then those on the search path."""
    found: dict[str, ModelRecord] = {}
    for root in roots():
        for config in sorted(root.glob(f"*/{_CONFIG}")):
            folder = config.parent
            if (folder / _WEIGHTS).is_file() and folder.name not in found:
                found[folder.name] = _record(folder, is_shipped=root == SHIPPED)
    return list(found.values())


def _record(folder: Path, *, is_shipped: bool) -> ModelRecord:
    family = _config(folder).get("tokenizer", "")
    weights = folder / _WEIGHTS
    size = weights.stat().st_size
    count = count_parameters(weights)
    return ModelRecord(folder.name, folder, str(family), count, size, is_shipped)


def _config(folder: Path) -> dict[str, Any]:
    """Return what ``config.json`` records; nothing if it is damaged."""
    try:
        record = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def count_parameters(weights: Path) -> int:
    """Count weights by the header of a safetensors file, without reading them; 0 if damaged."""
    try:
        with weights.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _MAX_HEADER:
                return 0
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        return sum(math.prod(entry["shape"]) for entry in header.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


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
    if is_hub_id(text):
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
    from tessella.tokenizers.registry import family
    from tessella.tokenizers.saved import read_record

    folder = resolve(name_or_path)
    try:
        cls = family(read_record(folder)["tokenizer"]).model_class
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


def find(space_id: bytes, *, may_load: bool = True) -> ModelRecord | None:
    """Find the model that gives tokens of a token space their meaning.

    Args:
        space_id: the identity, or its first bytes, as a token file stores it.
        may_load: load models that do not record their identity, to compute it.

    Returns:
        The first model of :func:`models`, or else the first tokenizer inside a pipeline beside
        them, that fits; None if there is none.
    """
    wanted = space_id.hex()
    for record in [*models(), *_tokenizers_of_pipelines()]:
        if _identity(record, may_load=may_load).startswith(wanted):
            return record
    return None


def _tokenizers_of_pipelines() -> list[ModelRecord]:
    return [
        _record(config.parent, is_shipped=root == SHIPPED)
        for root in roots()
        for config in sorted(root.glob(f"*/{_TOKENIZER}/{_CONFIG}"))
        if (config.parent / _WEIGHTS).is_file()
    ]


def _identity(record: ModelRecord, *, may_load: bool) -> str:
    """Return the identity of a model's token space; empty if it cannot be told."""
    recorded = _config(record.folder).get("space_id")
    if isinstance(recorded, str):
        return recorded
    if not may_load or not record.family:
        return ""
    try:
        changed = (record.folder / _WEIGHTS).stat().st_mtime_ns
        return _computed_identity(record.folder, changed)
    except CheckpointError:
        return ""  # a damaged model beside the one that is looked for


@lru_cache(maxsize=64)
def _computed_identity(folder: Path, _changed: int) -> str:
    return load(folder).space_id


def roots() -> list[Path]:
    """Folders in which models are looked for by name: the package's, then the search path's."""
    listed = os.environ.get(SEARCH_PATH_VARIABLE, "").split(os.pathsep)
    return [SHIPPED, *(Path(entry).expanduser() for entry in listed if entry)]


def is_hub_id(text: str) -> bool:
    """Whether a text looks like ``org/name``."""
    return _HUB_ID.fullmatch(text) is not None


__all__ = [
    "DEFAULT_MODEL",
    "ModelRecord",
    "count_parameters",
    "download",
    "find",
    "is_hub_id",
    "load",
    "models",
    "resolve",
    "roots",
]
