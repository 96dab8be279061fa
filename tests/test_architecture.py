"""The structure of the package: nobody imports upwards, and files stay small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tessella"
# lowest first; a module may import from its own layer and from those before it
ORDER = (
    ("errors", "config", "identity", "configs", "families"),
    ("tokens",),
    ("images",),
    ("hub",),
    ("tokenizers",),
    ("generation",),
    ("codecs",),
    ("data",),
    ("eval",),
    ("training",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
# the hub finds a saved model's class through the registry, and a base class may fetch weights
ALLOWED = {("hub", "tokenizers")}
HEAVY = {"diffusers", "timm", "torchmetrics", "accelerate", "lpips", "matplotlib", "tensorboard"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            if node.module == "tessella":
                found |= {f"tessella.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nobody_imports_upwards(path: Path) -> None:
    layer = _layer(path)
    if layer == "__init__":
        return  # the front door re-exports lazily from everywhere
    assert layer in RANK, f"{layer} has no place in the order of layers"
    for name in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] != "tessella" or len(parts) < 2 or parts[1] not in RANK:
            continue
        upward = RANK[parts[1]] > RANK[layer] and (layer, parts[1]) not in ALLOWED
        assert not upward, f"{path.relative_to(PACKAGE)} imports {name}, which is above it"
        if parts[1] == "generation":
            assert layer in ("generation", "eval", "training", "cli") or path.name == "generator.py"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_where_they_are_used(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {name.split(".")[0] for node in tree.body for name in _imports_of_statement(node)}
    assert not top & HEAVY


def _imports_of_statement(node: ast.stmt) -> set[str]:
    return _imports(node) if isinstance(node, (ast.Import, ast.ImportFrom)) else set()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            has_doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            doc = (first.end_lineno or 0) - first.lineno + 1 if has_doc else 0
            length = (node.end_lineno or 0) - node.lineno + 1 - doc
            assert length <= 60, f"{node.name} has {length} lines"
