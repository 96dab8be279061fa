"""Saved pipelines: a folder with ``pipeline.json`` and the folders of its two models.

::

    NAME/pipeline.json               {"format": 1, "pipeline": "var"}, perhaps a "text_encoder"
    NAME/generator/                  config.json, model.safetensors
    NAME/tokenizer/                  config.json, model.safetensors
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tessella import hub
from tessella.config import nearest
from tessella.errors import CheckpointError, ConfigError
from tessella.generation.layers.blocks import ModulatedBlock, ModulatedHead
from tessella.generation.next_scale import NextScaleGenerator
from tessella.generation.registry import GENERATORS
from tessella.tokenizers.next_scale import NextScaleTokenizer
from tessella.tokenizers.registry import all_presets
from tessella.tokenizers.saved import WEIGHTS_NAME, read_record

INDEX_NAME = "pipeline.json"
GENERATOR, TOKENIZER = "generator", "tokenizer"
FORMAT = 1


def write_pipeline(
    folder: Path,
    generator: NextScaleGenerator,
    tokenizer: NextScaleTokenizer,
    *,
    text_encoder: str = "",
) -> None:
    """Write both models into a folder, which is made; the index comes last.

    Args:
        folder: to be made.
        generator: writes tokens.
        tokenizer: whose tokens they are.
        text_encoder: hub id or folder of the encoder of prompts; empty for none. Its weights are
            not copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator.save_pretrained(folder / GENERATOR)
    tokenizer.save_pretrained(folder / TOKENIZER)
    for name in (GENERATOR, TOKENIZER):
        (folder / name / "README.md").unlink(missing_ok=True)  # the hub mixin's empty model card
    record: dict[str, Any] = {"format": FORMAT, "pipeline": generator.family}
    if text_encoder:
        record["text_encoder"] = text_encoder
    (folder / INDEX_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_pipeline(folder: Path) -> tuple[NextScaleGenerator, NextScaleTokenizer]:
    """Read both models of a folder.

    Raises:
        CheckpointError: if a part is missing, damaged or of an unknown family.
    """
    read_index(folder)
    name = read_record(folder / GENERATOR, kind="generator")["generator"]
    try:
        cls = GENERATORS.get(name).model_class
    except ConfigError as error:
        raise CheckpointError(f"{folder / GENERATOR}: {error}") from error
    generator = cls.from_pretrained(str(folder / GENERATOR))
    tokenizer = hub.load(folder / TOKENIZER)
    if not isinstance(generator, NextScaleGenerator) or not isinstance(
        tokenizer, NextScaleTokenizer
    ):
        raise CheckpointError(f"{folder} does not hold a next-scale generator and its tokenizer")
    return generator, tokenizer


def read_index(folder: Path) -> dict[str, Any]:
    """Read a pipeline's ``pipeline.json``.

    Raises:
        CheckpointError: if it is missing, damaged, or of another format.
    """
    path = folder / INDEX_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version, family = record["format"], record["pipeline"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is missing or damaged: {error!r}") from error
    if version != FORMAT:
        raise CheckpointError(
            f"{path} has format {version!r}; this version reads {FORMAT}: update tessella"
        )
    return {**record, "pipeline": str(family), "text_encoder": record.get("text_encoder", "")}


def resolve(name_or_path: str | Path) -> Path:
    """Find the folder of a pipeline: a path, a known name, or a hub id, which is fetched.

    Raises:
        CheckpointError: if there is none; the message names the nearest one.
    """
    text, folder = str(name_or_path), Path(name_or_path)
    if (folder / INDEX_NAME).is_file():
        return folder
    known = pipelines()
    if text in known:
        return known[text]
    if folder.is_dir():
        raise CheckpointError(
            f"the folder {text} has no {INDEX_NAME}; expected a saved pipeline (save_pretrained)"
        )
    if hub.is_hub_id(text):
        fetched = hub.download(text)
        if (fetched / INDEX_NAME).is_file():
            return fetched
        raise CheckpointError(f"{text} on the hub is no pipeline of this library")
    choices = [*known, *GENERATORS.presets()]
    raise CheckpointError(
        f"there is no pipeline {text!r}; {nearest(text, choices)} (or give a folder, or a hub id "
        "like org/name)"
    )


def pipelines() -> dict[str, Path]:
    """Return the pipelines that ship with the package or lie on the search path, by name."""
    found: dict[str, Path] = {}
    for root in hub.roots():
        for index in sorted(root.glob(f"*/{INDEX_NAME}")):
            found.setdefault(index.parent.name, index.parent)
    return found


def pipeline_records() -> list[hub.ModelRecord]:
    """List the pipelines that can be loaded by name; sizes are those of both models."""
    return [_record(name, folder) for name, folder in pipelines().items()]


def _record(name: str, folder: Path) -> hub.ModelRecord:
    try:
        family = read_index(folder)["pipeline"]
    except CheckpointError:
        family = ""
    files = [folder / part / WEIGHTS_NAME for part in (GENERATOR, TOKENIZER)]
    return hub.ModelRecord(
        name,
        folder,
        family,
        sum(hub.count_parameters(file) for file in files),
        sum(file.stat().st_size for file in files if file.is_file()),
        folder.parent == hub.SHIPPED,
    )


def family_of(name_or_path: str | Path) -> str:
    """Return the family of a pipeline's generator, without reading weights.

    Args:
        name_or_path: a folder, a known name, a hub id, or a preset.

    Raises:
        CheckpointError: if there is no such pipeline; the message names the nearest one.
    """
    if is_preset(name_or_path):
        return GENERATORS.presets()[str(name_or_path)][0].name
    return str(read_index(resolve(name_or_path))["pipeline"])


def is_preset(name_or_path: str | Path) -> bool:
    """Whether generators have a preset of that name, and no folder is called so."""
    return str(name_or_path) in GENERATORS.presets() and not Path(name_or_path).is_dir()


def random_pipeline(name: str, seed: int) -> tuple[NextScaleGenerator, NextScaleTokenizer]:
    """Make a generator of a preset and its tokenizer with random weights.

    Raises:
        ConfigError: if there is no such preset, or no tokenizer goes with it.
    """
    family, preset = GENERATORS.preset(name)
    tokenizer_family, tokenizer_preset = all_presets()[preset.tokenizer]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = family.model_class(preset.config)
        tokenizer = tokenizer_family.model_class(tokenizer_preset.config)
        enliven(generator)
    if not isinstance(generator, NextScaleGenerator) or not isinstance(
        tokenizer, NextScaleTokenizer
    ):
        raise ConfigError(f"preset {name!r} is not of a next-scale generator")
    return generator.eval(), tokenizer.eval()


@torch.no_grad()
def enliven(generator: nn.Module) -> None:
    """Make random weights of a generator matter.

    Fresh generators hardly depend on their inputs, since gammas and logits begin near zero. Here
    both are of order one, so that pictures, caches and seeds differ as with trained weights.
    """
    for module in generator.modules():
        if isinstance(module, ModulatedBlock):
            _set_gammas(module)
        elif isinstance(module, ModulatedHead):
            module.out.weight.normal_(std=module.out.in_features**-0.5)


def _set_gammas(block: ModulatedBlock) -> None:
    if block.modulation is None:
        block.modulation_offset[:, :, :2] = 1
    else:
        block.modulation.bias[: block.modulation.out_features // 3] = 1
    for linear in (block.attention.qkv, block.attention.proj, block.perceptron.fc2):
        linear.weight.normal_(std=linear.in_features**-0.5)


__all__ = [
    "INDEX_NAME",
    "enliven",
    "family_of",
    "is_preset",
    "pipeline_records",
    "pipelines",
    "random_pipeline",
    "read_index",
    "read_pipeline",
    "resolve",
    "write_pipeline",
]
