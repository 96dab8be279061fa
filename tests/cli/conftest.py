"""A model on the search path and a runner of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runner import Result, Run
from PIL import Image
from tiny_model import photograph, save_tiny_model
from typer.testing import CliRunner

from tessella.cli import app


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_tiny_model(root / "tiny")
    return root


@pytest.fixture
def work(tmp_path: Path, model_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder from which the model can be found."""
    monkeypatch.setenv("TESSELLA_MODELS", str(model_root))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def picture(work: Path) -> Path:
    """A photograph of 158x113 pixels."""
    path = work / "photo.png"
    Image.fromarray(np.ascontiguousarray(photograph()[100:213, 200:358])).save(path)
    return path


@pytest.fixture
def run() -> Run:
    """Run ``tessella ARGUMENTS`` in this process."""

    def invoke(*arguments: object, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout_bytes, result.stderr)

    return invoke
