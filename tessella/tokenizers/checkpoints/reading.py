"""Checkpoint files: safetensors and ``torch.save`` files, never with code from them.

``.pt``, ``.pth``, ``.ckpt``, ``.bin`` and ``.mcquic`` are read with ``weights_only=True``: a file
that needs anything but tensors and plain containers is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tessella.errors import CheckpointError

_SAFE = ".safetensors"
_PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".mcquic")


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read what a checkpoint holds.

    Args:
        path: a file, or a folder whose safetensors files (or, without any, ``.bin`` files) are the
            parts of one state dict. A pair of files ``X_encoder`` and ``X_decoder`` in it, whatever
            else there is, gives both states under names that begin with ``encoder.`` and
            ``decoder.``.

    Returns:
        Tensors by name, in safetensors; whatever mapping was saved otherwise.

    Raises:
        CheckpointError: if it is missing, damaged, of another kind, or needs code to be read.
    """
    path = Path(path)
    if path.is_dir():
        halves = _halves(path)
        if halves:
            return halves
        parts = sorted(path.glob(f"*{_SAFE}")) or sorted(path.glob("*.bin"))
        if not parts:
            raise CheckpointError(f"{path} holds no {_SAFE} or .bin file; expected a checkpoint")
        return _joined(parts)
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; expected a checkpoint file or folder")
    if path.suffix == _SAFE:
        return _read_safetensors(path)
    if path.suffix in _PICKLED:
        return _read_pickled(path)
    raise CheckpointError(
        f"{path} given; expected a file that ends in {', '.join((_SAFE, *_PICKLED))}"
    )


def _halves(folder: Path) -> dict[str, Any]:
    """Read a model that is published as one encoder and one decoder; empty if it is not."""
    whole: dict[str, Any] = {}
    for half in ("encoder", "decoder"):
        suffixes = (_SAFE, *_PICKLED)
        found = [f for f in sorted(folder.glob(f"*_{half}.*")) if f.suffix in suffixes]
        if len(found) != 1:
            return {}
        whole |= {f"{half}.{name}": value for name, value in read_checkpoint(found[0]).items()}
    return whole


def _joined(parts: Iterable[Path]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for part in parts:
        state = read_checkpoint(part)
        twice = whole.keys() & state.keys()
        if twice:
            raise CheckpointError(f"{part} repeats {sorted(twice)[:5]}; expected parts of one file")
        whole |= state
    return whole


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error


def _read_pickled(path: Path) -> dict[str, Any]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, and is not opened because such "
            "files can run code; ask its authors for safetensors"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a {type(found).__name__}; expected named tensors")
    return found


def unwrapped(state: Mapping[str, Any], keys: Sequence[str] = ("state_dict",)) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint that may sit under one of ``keys``, the first there is.

    Args:
        state: tensors by name, or a mapping that holds such a mapping.
        keys: names of wrappers, best first: ``state_dict`` (Lightning), ``ema``, ``model``.
    """
    for key in keys:
        inner = state.get(key)
        if isinstance(inner, Mapping):
            return unwrapped(inner, keys)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def takes_averages(state: Mapping[str, Any], keys: Sequence[str]) -> bool:
    """Return whether :func:`unwrapped` takes what stands under ``ema``."""
    key = next((key for key in keys if isinstance(state.get(key), Mapping)), None)
    return key is not None and (key == "ema" or takes_averages(state[key], keys))


__all__ = ["read_checkpoint", "takes_averages", "unwrapped"]
