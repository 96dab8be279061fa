"""Saved tokenizers and generators: a folder with ``config.json`` and ``model.safetensors``.

The config names a registered *family*, never a class to import; weights are read strictly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from tessella.config import from_dict, to_dict
from tessella.errors import CheckpointError, ConfigError

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
FORMAT = 1
Kind = Literal["tokenizer", "generator"]


def write_model(
    folder: Path, family: str, config: Any, state: Mapping[str, Tensor], *, kind: Kind = "tokenizer"
) -> None:
    """Write a model's config and weights into an existing folder."""
    from safetensors.torch import save_file

    record = {"format": FORMAT, kind: family, "config": to_dict(config)}
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    tensors = {name: t.detach().cpu().contiguous() for name, t in state.items()}
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    (folder / WEIGHTS_NAME).chmod(0o644)  # safetensors makes it private to its owner


def read_config(folder: Path, family: str, config_class: type, *, kind: Kind = "tokenizer") -> Any:
    """Read the config dataclass of a saved model.

    Raises:
        CheckpointError: if the file is missing, damaged or of another family.
    """
    record = read_record(folder, kind=kind)
    if family and record[kind] != family:
        raise CheckpointError(
            f"{folder} holds a {record[kind]!r} {kind}; {family!r} expected: load it by a "
            "function that finds the class, such as tessella.load() for tokenizers"
        )
    try:
        return from_dict(config_class, record["config"])
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG_NAME}: {error}") from error


def read_record(folder: Path, *, kind: Kind = "tokenizer") -> dict[str, Any]:
    """Read ``config.json`` of a saved model: its format, family and config.

    Raises:
        CheckpointError: if it is missing or not such a file.
    """
    path = folder / CONFIG_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; expected a folder of a saved {kind}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    wanted = {"format", kind, "config"}
    if not isinstance(record, dict) or not wanted <= set(record):
        raise CheckpointError(f"{path} lacks one of {sorted(wanted)}: not a saved {kind}")
    if record["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {record['format']!r}; this version reads {FORMAT}: update tessella"
        )
    return record


def load_weights(model: nn.Module, path: Path) -> None:
    """Load safetensors strictly: nothing is loaded unless every key and shape fits.

    Raises:
        CheckpointError: listing missing, unexpected or misshapen keys.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; expected the model's weights") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
    load_strictly(model, state, str(path))


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Give a model its tensors, in the types that it has, or leave it as it was.

    Args:
        model: on any device; tensors of a model on the meta device are replaced.
        state: every tensor of ``model.state_dict()``, and no other.
        source: what the tensors come from, for messages.

    Raises:
        CheckpointError: listing missing, unexpected or misshapen keys.
    """
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in sorted(own.keys() & state.keys())
        if own[k].shape != state[k].shape
    ]
    if missing or unexpected or shapes:
        raise CheckpointError(
            f"{source} does not fit the model: missing {missing[:5]}, unexpected {unexpected[:5]}, "
            f"other shapes {shapes[:5]} "
            f"({len(missing)}, {len(unexpected)} and {len(shapes)} keys in all)"
        )
    is_meta = any(tensor.is_meta for tensor in own.values())
    model.load_state_dict(
        {name: state[name].to(own[name].dtype) for name in own}, strict=True, assign=is_meta
    )


__all__ = [
    "CONFIG_NAME",
    "FORMAT",
    "WEIGHTS_NAME",
    "load_strictly",
    "load_weights",
    "read_config",
    "read_record",
    "write_model",
]
