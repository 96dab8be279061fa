from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from tessella.errors import CheckpointError
from tessella.training.checkpoints import RECORD, CheckpointFolder

STATE = {"seconds": 0.1 + 0.2, "meter": {"loss": 1e-17}, "none": None}


def tensors(step: int) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(step)
    weight = torch.randn(4, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last)
    return {
        "model": {"weight": weight, "count": torch.tensor(step)},
        "optimizer": {"weight|step": torch.tensor(float(step))},
    }


def filled(folder: Path, steps: range, *, keep: int = 10) -> CheckpointFolder:
    checkpoints = CheckpointFolder(folder, keep=keep)
    for step in steps:
        checkpoints.save(step, tensors(step), STATE)
    return checkpoints


def test_what_is_saved_comes_back_exactly(tmp_path: Path) -> None:
    loaded = filled(tmp_path, range(7, 8)).load_newest()
    assert loaded is not None
    assert (loaded.step, loaded.state) == (7, STATE)
    for name, expected in tensors(7).items():
        assert loaded.tensors[name].keys() == expected.keys()
        assert all(torch.equal(loaded.tensors[name][k], t) for k, t in expected.items())


def test_without_checkpoints_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "none").load_newest() is None


def test_old_checkpoints_go_last(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, range(1, 6), keep=2)
    assert checkpoints.steps() == [4, 5]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000004", "step-00000005"]


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    checkpoints = CheckpointFolder(tmp_path)
    checkpoints.save(1, {"model": {"a": base, "b": base[1:4], "c": base}}, {})
    loaded = checkpoints.load(1).tensors["model"]
    assert torch.equal(loaded["b"], base[1:4])


@pytest.mark.parametrize("survives", range(4))
def test_a_crash_while_writing_leaves_the_one_before(
    survives: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop before the n-th file reaches the disk, or before the rename."""
    checkpoints = filled(tmp_path, range(1, 2), keep=1)
    from tessella.training import checkpoints as module

    written = 0
    write = module.write_durably

    def failing_write(path: Path, content: bytes) -> None:
        nonlocal written
        if written == survives:
            path.write_bytes(content[: len(content) // 2])
            raise OSError("no space left")
        written += 1
        write(path, content)

    def no_rename(new: Path, path: Path) -> None:
        raise OSError("power is gone")

    monkeypatch.setattr(module, "write_durably", failing_write)
    if survives == 3:
        monkeypatch.setattr(module, "replace_folder", no_rename)
    with pytest.raises(OSError, match=r"no space|power"):
        checkpoints.save(2, tensors(2), STATE)
    monkeypatch.undo()
    loaded = checkpoints.load_newest()
    assert loaded is not None
    assert loaded.step == 1
    checkpoints.save(3, tensors(3), STATE)  # and what was left lying about goes
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000003"]


def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = filled(tmp_path, range(1, 4))
    victim = checkpoints.path(3) / "model.safetensors"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        loaded = checkpoints.load_newest()
    assert loaded is not None
    assert loaded.step == 2
    assert "model.safetensors is damaged" in caplog.text
    # going on from 2 replaces the damaged one
    checkpoints.save(3, tensors(3), STATE)
    assert checkpoints.load(3).step == 3


def test_every_kind_of_damage_is_noticed(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, range(1, 2))
    record = checkpoints.path(1) / RECORD
    good = record.read_bytes()
    changed = json.loads(good)
    changed["state"]["seconds"] = 1.0
    for content in (b"", b"{}", b"[1]", good[:-20], json.dumps(changed).encode()):
        record.write_bytes(content)
        with pytest.raises(CheckpointError, match=RECORD):
            checkpoints.load(1)
    record.write_bytes(good)
    (checkpoints.path(1) / "optimizer.safetensors").unlink()
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        checkpoints.load_newest()


def test_checkpoints_after_the_one_gone_back_to_are_removed(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, range(1, 6), keep=2)
    checkpoints.save(3, tensors(3), STATE)
    assert checkpoints.steps() == [3]
