"""Atomic checkpoints: a folder of safetensors and one JSON record, nothing pickled.

::

    checkpoints/step-00001000/
      model.safetensors  ema.safetensors  optimizer.safetensors ...
      record.json        step, state, and size and SHA-256 of every file and of itself

A checkpoint is written under another name, flushed to the disk and renamed; older ones go only
after that. Reading verifies every byte: a damaged checkpoint is passed over for the one before it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tessella.errors import CheckpointError
from tessella.identity import canonical_json
from tessella.training.files import flush_folder, remove_folder, replace_folder, write_durably

RECORD = "record.json"

_FORMAT = 1
_NAME = re.compile(r"step-(\d{8,})")
_ASIDE = ".writing-"
_log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """A whole checkpoint in memory."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of a run.

    Args:
        folder: where they are; made when the first is saved.
        keep: number of newest checkpoints kept.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def steps(self) -> list[int]:
        """Return the steps of which there is a checkpoint, oldest first."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.folder / f"step-{step:08d}"

    def save(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
    ) -> Path:
        """Write a checkpoint, then remove those beyond the number kept.

        Args:
            step: number of completed steps.
            tensors: named tensors of each file (without suffix).
            state: JSON values.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"{_ASIDE}*"):  # of a run that was killed while writing
            remove_folder(left)
        aside = self.folder / f"{_ASIDE}{step:08d}-{os.getpid()}"
        aside.mkdir()
        files = {}
        for name, named in tensors.items():
            content = save({key: _plain(tensor) for key, tensor in named.items()})
            write_durably(aside / f"{name}.safetensors", content)
            files[f"{name}.safetensors"] = _fingerprint(content)
        record = {"format": _FORMAT, "step": step, "files": files, "state": dict(state)}
        record["sha256"] = hashlib.sha256(canonical_json(record)).hexdigest()
        write_durably(aside / RECORD, json.dumps(record, indent=1).encode())
        flush_folder(aside)
        replace_folder(aside, self.path(step))
        self._prune(step)
        return self.path(step)

    def load(self, step: int) -> Checkpoint:
        """Read and verify one checkpoint.

        Raises:
            CheckpointError: naming the file that is missing or damaged.
        """
        folder = self.path(step)
        record = _read_record(folder / RECORD)
        tensors = {
            name.removesuffix(".safetensors"): _read_tensors(folder / name, fingerprint)
            for name, fingerprint in record["files"].items()
        }
        return Checkpoint(record["step"], tensors, record["state"])

    def load_newest(self) -> Checkpoint | None:
        """Read the newest whole checkpoint; None if there never was one.

        Raises:
            CheckpointError: if there are checkpoints and all of them are damaged.
        """
        steps = self.steps()
        problems = []
        for step in reversed(steps):
            try:
                return self.load(step)
            except CheckpointError as error:
                problems.append(str(error))
                _log.warning("%s; going back to the checkpoint before it", error)
        if problems:
            raise CheckpointError(
                f"none of the {len(steps)} checkpoints in {self.folder} is whole "
                f"({'; '.join(problems)}): restore one, or give another trainer.output"
            )
        return None

    def _prune(self, newest: int) -> None:
        """Remove old checkpoints, and those of a later step that this one's run went back from."""
        steps = self.steps()
        kept = [step for step in steps if step <= newest][-self.keep :]
        for step in steps:
            if step not in kept:
                remove_folder(self.path(step))


def _plain(tensor: Tensor) -> Tensor:
    """Copy to the CPU: own storage, as safetensors refuses tensors that share theirs."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _fingerprint(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        digest = record.pop("sha256")
        whole = hashlib.sha256(canonical_json(record)).hexdigest() == digest
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error})") from error
    if not whole:
        raise CheckpointError(f"{path} is damaged: its checksum does not fit")
    if record["format"] != _FORMAT:
        raise CheckpointError(f"{path} has format {record['format']}; this version reads {_FORMAT}")
    return record


def _read_tensors(path: Path, fingerprint: Mapping[str, Any]) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    if _fingerprint(content) != fingerprint:
        raise CheckpointError(
            f"{path} is damaged: {len(content)} bytes that differ from the "
            f"{fingerprint['bytes']} written"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error})") from error


__all__ = ["RECORD", "Checkpoint", "CheckpointFolder"]
