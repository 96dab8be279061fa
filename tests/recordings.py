"""Reading recordings of published tokenizers, and comparing with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

Recording = dict[str, Tensor]


def load_config(folder: Path) -> dict[str, Any]:
    """Read a recording's config, or skip the test where there is no such recording."""
    path = folder / "config.json"
    if not path.is_file():
        pytest.skip(f"no recording {folder.name}")
    config: dict[str, Any] = json.loads(path.read_text())
    return config


def load_parts(folder: Path, *patterns: str) -> Recording:
    """Join the tensors of all files that match."""
    state: Recording = {}
    for pattern in patterns:
        files = sorted(folder.glob(pattern))
        assert files, f"{folder} holds no {pattern}"
        for file in files:
            state |= load_file(file)
    return state


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float) -> float:
    """Compare floats by their largest absolute difference, which is returned."""
    assert ours.shape == theirs.shape
    assert bool(torch.isfinite(ours).all())
    difference = float((ours.detach().double() - theirs.double()).abs().max())
    assert difference <= tolerance
    return difference
