"""Codecs by name and quality, and a tokenizer as a codec."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_model import photograph, save_tiny_model

from tessella.codecs.base import Codec
from tessella.codecs.classical import WebP
from tessella.codecs.named import codec_named, parse_codec
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.errors import (
    CheckpointError,
    ConfigError,
    MissingDependencyError,
    PictureError,
    TokenFileError,
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_tiny_model(root / "tiny")
    return root


@pytest.fixture(autouse=True)
def model_root(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESSELLA_MODELS", str(models))
    return models


@pytest.mark.parametrize("text", ["jpeg:20", "jpeg-444:95", "webp:0", "jp2:25", "avif", "png"])
def test_classical_names(text: str) -> None:
    point = parse_codec(f" {text} ")
    name, _, quality = text.partition(":")
    assert point.codec.name == name
    assert point.quality == (int(quality) if quality else None)
    assert point.label == text


def test_models_by_name_and_folder(model_root: Path) -> None:
    for text, quality in ((f"{model_root / 'tiny'}:2", 2), ("tiny:2", 2), ("tiny", None)):
        point = parse_codec(text)
        assert isinstance(point.codec, TokenizerCodec)
        assert (point.codec.name, point.quality, point.label) == ("tiny", quality, text)
    assert parse_codec("progressive-gq-f8:2").codec.qualities.highest == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpg:20", "there is no codec 'jpg'; did you mean 'jpeg'"),
        ("jepg", "there is no codec 'jepg'; did you mean 'jpeg'"),
        ("tinny:2", "did you mean 'tiny'"),
        ("progressive-gq:2", "did you mean 'progressive-gq-f8'"),
        ("qqqq", "expected one of: jpeg, jpeg-444, .*webp.*tiny"),
        ("", "there is no codec ''"),
        ("jpeg:0", "jpeg has no quality 0; expected 1 to 100"),
        ("jpeg:-3", "jpeg has no quality -3; expected 1 to 100"),
        ("webp:101", "webp has no quality 101; expected 0 to 100: libwebp's"),
        ("png:50", "png has no quality 50; .*lossless"),
        ("tiny:4", "tiny has no quality 4; expected 1 to 3: how many of 3 groups"),
        ("jpeg:high", "'jpeg:high' gives 'high' as the quality of jpeg; expected an integer"),
        ("jpeg:", "'jpeg:' gives '' as the quality"),
        ("tiny:2.5", "gives '2.5' as the quality of tiny"),
    ],
)
def test_mistakes_are_explained(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_codec(text)


def test_missing_packages_and_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(MissingDependencyError, match="pillow-jxl-plugin"):
        parse_codec("jxl:50")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        codec_named(str(tmp_path))


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "codecs.md"
    code, *_ = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photograph()).save("photo.jpg", quality=95)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  # our own page
    assert names["pixels"].shape == photograph().shape
    assert names["found"].fits
    assert len(names["found"].data) > 18_000


def test_a_tokenizer_is_a_codec() -> None:
    codec = codec_named("tiny")
    assert isinstance(codec, Codec)
    assert codec.title == "tiny"
    assert not codec.is_lossless
    assert "progressive_gq, token space" in codec.settings
    pixels = np.ascontiguousarray(photograph()[:40, :56])
    prepared = codec.prepare(pixels)
    for keep in (1, 2, 3, None):
        file = prepared.compress(keep)
        assert file == codec.compress(pixels, keep)
        assert codec.decompress(file).shape == pixels.shape
    whole = np.ascontiguousarray(photograph()[:256, :256])
    with pytest.warns(UserWarning, match="ends early: 2 of 3 parts arrived"):
        back = codec.decompress(codec.compress(whole)[:-1])
    assert np.array_equal(back, codec.decompress(codec.compress(whole, 2)))
    with pytest.raises(TokenFileError):
        codec.decompress(b"TSL?" + file[4:])
    with pytest.raises(TokenFileError, match="pixels"):
        codec.decompress(file, max_pixels=40 * 56 - 1)
    with pytest.raises(PictureError):
        WebP().decompress(file)
