"""Checkpoints of McQuic, release 0.1.40 (``qp_2_msssim_....mcquic``).

The file stores one codebook a level under three names, and constants among the tensors. Later
branches of the project hold other models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tessella.errors import CheckpointError
from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, renamed
from tessella.tokenizers.mcquic import McQuicConfig

_LEVELS = r"^_quantizer\._(?:en|de)coders\.(\d+)\."
_CODEBOOK = _LEVELS + r"_(?:de)?quantizer\._codebook$"
_RULES: tuple[Rule, ...] = (
    (r"^_encoder\.", "encoder."),
    (r"^_decoder\.", "decoder."),
    (r"^_quantizer\._entropyCoder\._freqEMA\.(\d+)$", r"levels.\1.quantizer.frequencies"),
    (_CODEBOOK, r"levels.\1.quantizer.codebook"),
    (_LEVELS + r"_quantizer\._temperature$", r"levels.\1.quantizer.temperature"),
    (_LEVELS + r"_latentStageEncoder\.", r"levels.\1.reduce."),
    (_LEVELS + r"_quantizationHead\.", r"levels.\1.to_codes."),
    (_LEVELS + r"_latentHead\.", r"levels.\1.to_rest."),
    (_LEVELS + r"_dequantizationHead\.", r"levels.\1.from_codes."),
    (_LEVELS + r"_sideHead\.", r"levels.\1.side."),
    (_LEVELS + r"_restoreHead\.", r"levels.\1.restore."),
    (r"\._branch\.", ".branch."),
    (r"\._skip\.", ".skip."),
    (r"\._mainBranch\.", ".main."),
    (r"\._sideBranch\.", ".gate."),
)
_CONSTANTS = ("_reparam.eps", "_reparam.lowerBound.bound", "._bound.bound")


@register_format(
    "mcquic",
    source="https://github.com/xiaosu-zhu/McQuic/releases (qp_2_*.mcquic)",
    licence="Apache-2.0",
    note="the file's code frequencies become the entropy model",
)
def mcquic(state: State, config: Any) -> tuple[McQuicConfig, dict[str, Tensor]]:
    """Translate McQuic's model; sizes are read from the tensors."""
    theirs = {
        name: tensor
        for name, tensor in unwrapped(state, ("model", "state_dict")).items()
        if not name.endswith(_CONSTANTS)
    }
    _check_copies(theirs)
    named = renamed(theirs, _RULES)
    books = [named[f"levels.{i}.quantizer.codebook"] for i in range(_depth(named))]
    for i in range(len(books)):
        key = f"levels.{i}.quantizer.temperature"
        named[key] = named[key].flatten()
        named[f"levels.{i}.quantizer.steps"] = torch.zeros(())
    if isinstance(config, McQuicConfig):
        return config, named
    groups, _, width = books[0].shape
    sizes = tuple(book.shape[1] for book in books)
    return McQuicConfig(groups * width, groups, sizes), named


def _depth(named: Mapping[str, Tensor]) -> int:
    depth = sum(name.endswith(".quantizer.codebook") for name in named)
    if not depth:
        raise KeyError("_quantizer._encoders.0._quantizer._codebook")
    return depth


def _check_copies(theirs: Mapping[str, Tensor]) -> None:
    """Check that the names of a codebook have one value."""
    found: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        match = re.match(_CODEBOOK, name)
        if match and not torch.equal(found.setdefault(match[1], tensor), tensor):
            raise CheckpointError(
                f"{name} differs from another codebook of level {match[1]}; expected one codebook "
                "under several names: the checkpoint is not of McQuic 0.1.40, or damaged"
            )


__all__ = ["mcquic"]
