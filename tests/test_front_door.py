"""``import tessella``: light, and everything a first user needs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import photograph, save_tiny_model

import tessella
from tessella.codecs.token_coding import PackOptions
from tessella.errors import ConfigError, TokenFileError
from tessella.images import decode_rgb, from_pixels, to_pixels

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_tiny_model(root / "tiny")
    return root


@pytest.fixture
def model_root(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESSELLA_MODELS", str(models))
    return models


@pytest.fixture
def pixels() -> np.ndarray:
    return np.ascontiguousarray(photograph()[100:213, 200:358])


def test_import_is_light() -> None:
    code = "import sys, tessella; print(sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    heavy = {"torch", "numpy", "PIL", "huggingface_hub", "safetensors", "typer", "rich", "yaml"}
    assert not heavy & set(re.findall(r"'(\w+)'", done.stdout))


def test_every_public_name_is_there() -> None:
    for name in tessella.__all__:
        assert getattr(tessella, name) is not None
    assert set(tessella.__all__) <= set(dir(tessella))
    with pytest.raises(AttributeError, match="no attribute 'loud'"):
        _ = tessella.loud


def test_version_is_that_of_the_project() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(r'^version = "(.+)"', text, re.MULTILINE)
    assert match is None or match.group(1) == tessella.__version__


def test_the_first_example(model_root: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    tessella.save(tmp_path / "photo.png", pixels)
    model = tessella.load("tiny")
    tokens = model.encode(tmp_path / "photo.png")
    size = tessella.write(tmp_path / "photo.tsl", tokens)
    assert size == (tmp_path / "photo.tsl").stat().st_size
    assert 8 * size < tokens.bits + 8 * 100
    read = tessella.read(tmp_path / "photo.tsl")
    assert read == tokens
    small = read.truncate(groups=2)
    tessella.save(tmp_path / "back.png", model.decode(small))
    expected = to_pixels(model.decode(tokens.truncate(groups=2)))
    assert np.array_equal(decode_rgb(tmp_path / "back.png"), expected)


def test_encode_and_decode_in_one_call(
    model_root: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    tokens = tessella.encode(pixels, model="tiny", keep=2)
    assert tokens.layout.levels[0].groups == 2
    assert tokens == tessella.load("tiny").encode(from_pixels(pixels)).truncate(groups=2)
    tessella.write(tmp_path / "a.tsl", tokens)
    images = tessella.decode(tmp_path / "a.tsl")
    assert images.shape == (1, 3, 113, 158)
    assert torch.equal(images, tessella.decode(tokens))
    error = (images - from_pixels(pixels)).square().mean()
    assert error < 0.1  # it is that picture


def test_impossible_keep_is_refused(model_root: Path, pixels: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="4 groups asked for; expected 1 to 3"):
        tessella.encode(pixels, model="tiny", keep=4)


def test_truncated_file_gives_what_arrived_and_says_so(model_root: Path, tmp_path: Path) -> None:
    tokens = tessella.encode(photograph(), model="tiny")
    path = tmp_path / "a.tsl"
    tessella.write(path, tokens)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.warns(UserWarning, match="ends early: 2 of 3 parts arrived"):
        assert tessella.read(path) == tokens.truncate(groups=2)


def test_tokens_of_an_unknown_model(
    monkeypatch: pytest.MonkeyPatch, models: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    monkeypatch.delenv("TESSELLA_MODELS", raising=False)
    tokens = tessella.load(models / "tiny").encode(from_pixels(pixels))
    path = tmp_path / "a.tsl"
    with pytest.raises(TokenFileError, match=r"is not here .*give its folder"):
        tessella.write(path, tokens)
    assert not path.exists()
    tessella.write(path, tokens, model=models / "tiny")
    with pytest.raises(TokenFileError, match=r"a\.tsl: .*is not here"):
        tessella.read(path)
    assert tessella.read(path, model=models / "tiny") == tokens
    raw = tmp_path / "raw.tsl"
    tessella.write(raw, tokens, options=PackOptions(profile=0))
    # a raw file that spells its layout out needs no model to be read
    assert torch.equal(tessella.read(raw).levels[0], tokens.levels[0])


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError, match=r"none\.tsl does not exist"):
        tessella.read(tmp_path / "none.tsl")
    (tmp_path / "a.tsl").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(TokenFileError, match=r"a\.tsl: the file begins with 89 50"):
        tessella.read(tmp_path / "a.tsl")


def test_failed_write_leaves_the_old_file(model_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tsl"
    path.write_bytes(b"old")
    two = tessella.load("tiny").encode(torch.zeros(2, 3, 16, 16))
    with pytest.raises(tessella.ShapeError):
        tessella.write(path, two)
    assert path.read_bytes() == b"old"
    with pytest.raises(TokenFileError, match="cannot be written"):
        tessella.write(tmp_path / "none" / "a.tsl", two[0])
