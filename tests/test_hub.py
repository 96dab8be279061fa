"""Names to weights: shipped models, folders, the search path and the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import photograph, save_tiny_model

from tessella import hub
from tessella.errors import CheckpointError
from tessella.images import from_pixels


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models on the search path."""
    monkeypatch.setenv("TESSELLA_MODELS", str(tmp_path))
    return tmp_path


def test_search_path_is_listed_and_loaded_by_name(root: Path) -> None:
    saved = save_tiny_model(root / "mosaic")
    record = next(r for r in hub.models() if r.name == "mosaic")
    assert record.family == "progressive_gq"
    assert record.parameters == sum(t.numel() for t in saved.state_dict().values())
    assert record.size == (root / "mosaic" / "model.safetensors").stat().st_size
    assert not record.is_shipped
    loaded = hub.load("mosaic")
    images = from_pixels(np.ascontiguousarray(photograph()[:64, :64]))
    assert not loaded.training
    assert loaded.encode(images) == saved.encode(images)


def test_folder_is_loaded_by_path(tmp_path: Path) -> None:
    saved = save_tiny_model(tmp_path / "a")
    assert hub.load(tmp_path / "a").space_id == saved.space_id
    assert hub.load(str(tmp_path / "a")).space_id == saved.space_id


def test_shipped_models_have_what_they_need() -> None:
    shipped = [record for record in hub.models() if record.is_shipped]
    for record in shipped:
        assert record.family
        assert record.parameters
        assert hub.resolve(record.name) == record.folder


def test_half_precision_files_load_as_float32(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "a")
    path = tmp_path / "a" / "model.safetensors"
    halved = {name: tensor.half() for name, tensor in load_file(path).items()}
    save_file(halved, path)
    model = hub.load(tmp_path / "a")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(next(model.parameters()), next(iter_parameters(model, halved)))


def iter_parameters(
    model: torch.nn.Module, state: dict[str, torch.Tensor]
) -> Iterator[torch.Tensor]:
    return (state[name].float() for name, _ in model.named_parameters())


def test_unknown_name_suggests_the_nearest(root: Path) -> None:
    save_tiny_model(root / "mosaic", has_prior=False)
    with pytest.raises(CheckpointError, match=r"no model 'mosiac'; did you mean 'mosaic'\?"):
        hub.load("mosiac")


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        hub.resolve(tmp_path)


def test_unknown_family_and_damaged_files_are_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "a", has_prior=False)
    config = tmp_path / "a" / "config.json"
    record = json.loads(config.read_text())
    config.write_text(json.dumps({**record, "tokenizer": "progressive_qg"}))
    with pytest.raises(CheckpointError, match="did you mean 'progressive_gq'"):
        hub.load(tmp_path / "a")
    config.write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        hub.load(tmp_path / "a")
    config.write_text(json.dumps(record))
    weights = tmp_path / "a" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        hub.load(tmp_path / "a")


def test_damaged_models_do_not_spoil_the_list(root: Path) -> None:
    save_tiny_model(root / "good", has_prior=False)
    for name, config in (("empty", ""), ("list", "[]"), ("other", '{"tokenizer": "none"}')):
        (root / name).mkdir()
        (root / name / "config.json").write_text(config)
        (root / name / "model.safetensors").write_bytes(b"\xff" * 20)
    records = {record.name: record for record in hub.models()}
    assert records["good"].parameters > 0
    assert records["empty"].family == records["list"].family == ""
    assert records["other"].parameters == 0


def test_model_is_found_by_the_identity_of_its_tokens(root: Path) -> None:
    one = save_tiny_model(root / "one", seed=1, has_prior=False)
    two = save_tiny_model(root / "two", seed=2, has_prior=False)
    # weights of the quantizer are what gives tokens their meaning
    assert one.space_id != two.space_id
    for name, model in (("one", one), ("two", two)):
        record = hub.find(bytes.fromhex(model.space_id)[:4])
        assert record is not None
        assert record.name == name
    assert hub.find(b"\x01\x02\x03\x04") is None


def test_recorded_identity_is_used_without_loading(root: Path) -> None:
    save_tiny_model(root / "one", has_prior=False)
    config = root / "one" / "config.json"
    record = {**json.loads(config.read_text()), "space_id": "ab" * 32}
    config.write_text(json.dumps(record))
    found = hub.find(b"\xab\xab", may_load=False)
    assert found is not None
    assert found.name == "one"


def test_hub_ids_are_fetched_without_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny_model(tmp_path / "snapshot", has_prior=False)
    asked = []

    def fetch(repo_id: str, **options: object) -> str:
        asked.append((repo_id, options))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert hub.load("someone/mosaic").family == "progressive_gq"
    repo_id, options = asked[0]
    assert repo_id == "someone/mosaic"
    assert options["allow_patterns"] == ["*.safetensors", "*.json", "*.md"]


def test_failed_download_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("no route\nto the host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match=r"someone/mosaic cannot be fetched .*: no route$"):
        hub.resolve("someone/mosaic")
