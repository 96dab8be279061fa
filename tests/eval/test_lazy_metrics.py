"""torchmetrics takes seconds to import: only those who use a streaming metric pay for it."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "tessella"
HOME = PACKAGE / "eval" / "metrics"
SLOW = ("tessella.eval.metrics", "tessella.eval.inception", "torchmetrics", "torchvision")


def imported_at_once(path: Path) -> set[str]:
    """What a module imports outside functions, in conditions and ``try`` too."""
    found: set[str] = set()
    todo: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            todo += ast.iter_child_nodes(node)
    return found


def test_nothing_imports_the_streaming_metrics_at_once() -> None:
    for path in (PACKAGE / "eval").rglob("*.py"):
        found = {name for name in imported_at_once(path) if name.startswith(SLOW)}
        if HOME in path.parents:
            assert "torchmetrics" not in found or path.name == "base.py", path
            assert all("torchvision" not in name for name in found), path
        elif path.name != "inception.py":
            assert not found, f"{path} imports {found} before it is used"
