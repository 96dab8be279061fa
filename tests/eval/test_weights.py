"""Where published weights are looked for, and what is said if they are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tessella.errors import CheckpointError, MissingWeightsError, TessellaError
from tessella.eval import weights
from tessella.eval.weights import (
    PUBLISHED,
    cache_folder,
    file_digest,
    find_weights,
    load_weights,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.mark.parametrize("name", ["inception", "vgg", "alex", "squeeze"])
def test_a_missing_file_is_named_with_its_source_and_place(name: str) -> None:
    with pytest.raises(MissingWeightsError) as caught:
        find_weights(name)
    message, published = str(caught.value), PUBLISHED[name]
    assert isinstance(caught.value, TessellaError)
    for part in (published.file, published.url, str(cache_folder()), f"weights.{name}"):
        assert part in message


def test_weights_of_a_repository_name_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    with pytest.raises(MissingWeightsError, match="openai/clip-vit-large-patch14-336"):
        find_weights("clip", home / "model.safetensors")


def test_a_given_path_comes_first_then_the_cache(home: Path) -> None:
    published = PUBLISHED["inception"]
    cached = cache_folder() / published.aliases[0]
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert find_weights("inception") == cached
    (home / published.file).touch()
    assert find_weights("inception", home) == home / published.file
    assert find_weights("inception", str(home / published.file)) == home / published.file
    with pytest.raises(MissingWeightsError, match="was given, which does not exist"):
        find_weights("inception", home / "other.pth")


def test_what_a_package_ships_is_found() -> None:
    assert set(load_weights(find_weights("dists"))) == {"alpha", "beta"}


def test_a_download_is_asked_for_and_checked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = home / "served" / "net-00000000.pth"
    source.parent.mkdir()
    torch.save({"a": torch.ones(2)}, source)
    right = source.rename(source.parent / f"net-{file_digest(source)[:8]}.pth")
    published = replace(PUBLISHED["vgg"], file=right.name, url=right.as_uri())
    monkeypatch.setattr(weights, "PUBLISHED", {"vgg": published})
    with pytest.raises(MissingWeightsError, match="in no cache"):
        find_weights("vgg")
    found = find_weights("vgg", allow_download=True)
    assert found == cache_folder() / right.name
    assert find_weights("vgg") == found
    found.unlink()
    torch.save({"a": torch.zeros(2)}, right)  # no longer what the name promises
    with pytest.raises(MissingWeightsError, match="download failed"):
        find_weights("vgg", allow_download=True)
    assert not found.exists()


def test_files_are_read_without_running_code_of_them(home: Path) -> None:
    state = {"a": torch.arange(3.0)}
    save_file(state, home / "a.safetensors")
    torch.save(state, home / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        assert torch.equal(load_weights(home / name)["a"], state["a"])
    torch.save(Path, home / "b.pth")
    with pytest.raises(CheckpointError, match="not opened because such files can run code"):
        load_weights(home / "b.pth")
    torch.save([1], home / "c.pth")
    with pytest.raises(CheckpointError, match="holds a list; expected named tensors"):
        load_weights(home / "c.pth")
    (home / "d.pth").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"d\.pth"):
        load_weights(home / "d.pth")
    torch.save({"a": torch.zeros(1), "b": 2}, home / "e.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        load_weights(home / "e.pth")
