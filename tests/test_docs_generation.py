"""The page on generation: its commands parse, its code runs, and its table is complete."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer

from tessella.cli import app
from tessella.generation.infinity import InfinityGenerator
from tessella.generation.kv_cache.names import POLICIES
from tessella.generation.kv_cache.quantized import STORAGES
from tessella.generation.pipelines import InfinityPipeline, VARPipeline
from tessella.generation.text_encoder import TextEncoder
from tessella.tokenizers.multiscale_bsq import MultiScaleBSQConfig, MultiScaleBSQTokenizer

PAGE = (Path(__file__).parents[1] / "docs" / "generation.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ tessella (.+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str) -> None:
    command, arguments = typer.main.get_command(app), shlex.split(line)
    context = command.make_context("tessella", arguments, resilient_parsing=False)
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        name, command, arguments = command.resolve_command(context, rest)
        context = command.make_context(name, arguments, parent=context)
    assert context.params


def test_the_table_of_caches_is_complete() -> None:
    rows = re.findall(r"^\| (`.+?) \|", PAGE, re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert names >= {"full", *POLICIES}
    assert all(f"`+{storage}`" in PAGE for storage in STORAGES if storage)


def _of_texts() -> InfinityPipeline:
    """Return a small pipeline that writes several sizes."""
    tiny = InfinityPipeline.from_preset("infinity-tiny").generator.config
    torch.manual_seed(0)
    config = replace(tiny, depth=1, schedule=(), resolution="0.06M")
    sizes = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "norm_groups": 4, "code_dim": 8}
    tokenizer = MultiScaleBSQTokenizer(MultiScaleBSQConfig(**sizes))
    return InfinityPipeline(InfinityGenerator(config), tokenizer, "an/encoder")


def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tessella.generation.text_encoder._PACKAGES", ())
    monkeypatch.setattr(
        TextEncoder, "__call__", lambda self, texts: [torch.ones(2, 8) for _ in texts]
    )
    VARPipeline.from_preset("var-tiny").save_pretrained("models/var-d16")
    _of_texts().save_pretrained("models/infinity-2b")
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    changes = {"[207, 360]": "[2, 3]", '"cuda"': '"cpu"', "scale:0.1": "scale:0.5", "=8)": "=3)"}
    assert len(blocks) == 2
    for block in blocks:
        for theirs, ours in changes.items():
            block = block.replace(theirs, ours)
        exec(compile(block, "generation.md", "exec"), {})  # noqa: S102
    assert (tmp_path / "retriever.tsl").stat().st_size
    assert sorted(path.name for path in tmp_path.glob("scale*.png"))[0] == "scale0.png"
