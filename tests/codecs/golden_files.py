"""The golden token files and what they must decode to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from tessella.codecs.entropy.prior import Prior
from tessella.codecs.token_space import Resolver, TokenSpace, resolver_for
from tessella.tokens import LevelLayout, TokenLayout, Tokens

FOLDER = Path(__file__).parent.parent / "fixtures" / "golden"


@dataclass(frozen=True)
class Golden:
    """One golden file."""

    name: str
    data: bytes
    sha256: str
    tokens: Tokens
    space: TokenSpace

    @property
    def resolver(self) -> Resolver:
        """Finds the file's token space."""
        return resolver_for([self.space])


def load(name: str) -> Golden:
    """Read a golden file by its name."""
    entry = json.loads((FOLDER / "golden.json").read_text())["files"][name]
    levels = tuple(
        LevelLayout(
            tuple(v["grid"]),
            tuple(v["vocab_sizes"]),
            v["channels"],
            v["ordered"],
            v.get("is_ragged", False),
        )
        for v in entry["levels"]
    )
    layout = TokenLayout(levels, tuple(entry["image_size"]), entry["space_id"])
    tensors = load_file(FOLDER / f"{name}.tokens.safetensors")
    tokens = Tokens((tensors[f"level.{i}"] for i in range(len(levels))), layout)
    path = FOLDER / f"{name}.prior.safetensors"
    space = TokenSpace(
        entry["space_id"],
        (lambda height, width: layout) if entry["model_knows_layout"] else None,
        Prior.load(path) if path.exists() else None,
    )
    data = (FOLDER / f"{name}.tsl").read_bytes()
    return Golden(name, data, entry["sha256"], tokens, space)


NAMES = sorted(json.loads((FOLDER / "golden.json").read_text())["files"])
