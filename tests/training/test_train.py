"""Whole runs on photographs: what they write, and that interruptions leave no trace."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from run_records import EVERYTHING, lines
from safetensors.torch import load_file
from torch import nn

from tessella.codecs.entropy.prior import PRIOR_FILE
from tessella.errors import CheckpointError, ConfigError, TessellaError
from tessella.images import load_image
from tessella.tokenizers.progressive_gq import ProgressiveGQ
from tessella.training import train
from tessella.training import trainer as trainer_module


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 30 steps, with TensorBoard."""
    output = tmp_path_factory.mktemp("finished") / "run"
    overrides = [
        f"data.train={photos}",
        f"data.val={photos}/[01].jpg",
        "data.crop=48",
        "data.batch=4",
        "model.initialize_with=0",
        "optimizer.lr=1e-2",
        "optimizer.warmup=5",
        "optimizer.lr_multipliers={}",
        f"trainer.output={output}",
        "trainer.device=cpu",
        "trainer.steps=30",
        "trainer.val_every=15",
        "trainer.save_every=10",
        "trainer.log_every=5",
        "calibration={pictures: 3, steps: 5}",
    ]
    assert train("progressive_gq_tiny", overrides, progress=False) == output / "model"
    return output


def test_training_lowers_the_loss_and_raises_psnr(finished: Path) -> None:
    records = lines(finished, "training")
    assert [record["step"] for record in records] == [5, 10, 15, 20, 25, 30]
    assert records[-1]["loss"] < 0.8 * records[0]["loss"]
    assert records[-1]["psnr"] > records[0]["psnr"] + 1.5
    validations = lines(finished, "validation")
    assert [record["step"] for record in validations] == [15, 30]
    first, last = (record["rows"][-1]["psnr"] for record in validations)
    assert last > first


def test_a_run_leaves_curves_pictures_and_checkpoints(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert sorted(p.name for p in (finished / "checkpoints").iterdir()) == [
        "step-00000020",
        "step-00000030",
    ]
    with Image.open(finished / "pictures" / "step-00000030.png") as grid:
        assert grid.size == (4 * 260, 2 * 260)  # original and three truncations of two pictures
    events = EventAccumulator(str(finished / "tensorboard")).Reload()
    curve = [(event.step, event.value) for event in events.Scalars("train/loss")]
    written = [(record["step"], record["loss"]) for record in lines(finished, "training")]
    assert curve == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in written]
    assert "val_psnr/q3" in events.Tags()["scalars"]
    assert events.Tags()["images"]


def test_the_saved_tokenizer_is_the_averaged_model(finished: Path, photos: Path) -> None:
    folder = finished / "model"
    assert {p.name for p in folder.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "MODEL_CARD.md",
        PRIOR_FILE,
    }
    assert len({p.stat().st_mode for p in folder.iterdir()}) == 1
    model = ProgressiveGQ.from_pretrained(folder)
    averaged = load_file(finished / "checkpoints" / "step-00000030" / "ema.safetensors")
    assert all(torch.equal(t, averaged[n]) for n, t in model.state_dict().items())
    raw = load_file(finished / "checkpoints" / "step-00000030" / "model.safetensors")
    assert any(not torch.equal(t, raw[n]) for n, t in averaged.items())
    tokens = model.encode(load_image(photos / "0.jpg"))
    assert model.decode(tokens).shape == (1, 3, 120, 160)


def test_the_prior_counts_every_token_of_the_training_pictures(
    finished: Path, photos: Path
) -> None:
    from tessella.codecs.entropy.prior import Prior

    folder = finished / "model"
    prior, model = Prior.load(folder / PRIOR_FILE), ProgressiveGQ.from_pretrained(folder)
    counted = [model.encode(load_image(photos / f"{i}.jpg")).levels[0] for i in (0, 2, 5)]
    for group, size in enumerate(model.quantizer.vocab_sizes):
        indices = [level[..., group].flatten().numpy() for level in counted]
        expected = np.bincount(np.concatenate(indices), minlength=size)
        # half a count more each (Krichevsky-Trofimov), doubled to stay in integers
        assert np.array_equal(prior.histogram(0, group, size), 2 * expected + 1)
    assert prior.bit_model is not None


def test_the_model_card_tells_recipe_and_results(finished: Path, photos: Path) -> None:
    card = (finished / "model" / "MODEL_CARD.md").read_text()
    row = lines(finished, "validation")[-1]["rows"][-1]
    assert f"| q3 | {row['bpp']:.4g} | {row['psnr']:.2f} | {row['ssim']:.4f} |" in card
    assert "Means over 2 pictures" in card
    assert f"`{photos.name}`: 8 pictures" in card
    assert str(photos.parent) not in card
    recipe = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert recipe["trainer"]["steps"] == 30
    assert recipe["model"]["config"]["groups"] == 3


def test_a_finished_run_trains_no_more(finished: Path, photos: Path) -> None:
    before = (finished / "metrics.jsonl").read_bytes()
    weights = (finished / "model" / "model.safetensors").read_bytes()
    overrides = yaml.safe_load((finished / "config.yaml").read_text())
    train(overrides, progress=False)
    assert (finished / "metrics.jsonl").read_bytes() == before
    assert (finished / "model" / "model.safetensors").read_bytes() == weights


class Killed(BaseException):
    """Stands for the end of the process."""


def interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop a run after that many steps, before anything of the last is logged or saved."""
    train_step = trainer_module.Trainer.train_step
    left = steps

    def stopping(self: trainer_module.Trainer, images: torch.Tensor) -> None:
        nonlocal left
        train_step(self, images)
        left -= 1
        if not left:
            raise Killed

    monkeypatch.setattr(trainer_module.Trainer, "train_step", stopping)


@pytest.mark.parametrize("extra", [[], EVERYTHING], ids=["plain", "everything"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    extra: list[str], quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*quick, *extra, "trainer.steps=6", "trainer.save_every=3", "trainer.val_every=2"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train("progressive_gq_tiny", [*overrides, f"trainer.output={whole}"], progress=False)
    overrides.append(f"trainer.output={parts}")
    with monkeypatch.context() as patch:
        interrupt_after(5, patch)
        with pytest.raises(Killed):
            train("progressive_gq_tiny", overrides, progress=False)
    assert [p.name for p in (parts / "checkpoints").iterdir()] == ["step-00000003"]
    train("progressive_gq_tiny", overrides, progress=False)
    for kind in ("training", "validation"):
        assert lines(parts, kind) == lines(whole, kind)
    assert [record["step"] for record in lines(parts, "training")] == [1, 2, 3, 4, 5, 6]
    last = Path("checkpoints") / "step-00000006"
    for path in sorted((whole / last).glob("*.safetensors")):
        assert path.read_bytes() == (parts / last / path.name).read_bytes(), path.name
    for name in ("model.safetensors", PRIOR_FILE):
        assert (whole / "model" / name).read_bytes() == (parts / "model" / name).read_bytes()


def test_means_of_the_log_survive_an_interruption(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint between two lines of the log keeps what was summed up."""
    overrides = [*quick, "trainer.steps=4", "trainer.save_every=3", "trainer.log_every=4"]
    train("progressive_gq_tiny", [*overrides, f"trainer.output={tmp_path}/a"], progress=False)
    overrides.append(f"trainer.output={tmp_path}/b")
    with monkeypatch.context() as patch:
        interrupt_after(4, patch)
        with pytest.raises(Killed):
            train("progressive_gq_tiny", overrides, progress=False)
    train("progressive_gq_tiny", overrides, progress=False)
    assert lines(tmp_path / "a", "training") == lines(tmp_path / "b", "training")


def test_random_layers_are_resumed_exactly(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers that draw from the global generator, and the generator of the caller."""
    build = ProgressiveGQ.__init__

    def with_dropout(self: ProgressiveGQ, config: Any) -> None:
        build(self, config)
        self.encoder.conv_in = nn.Sequential(self.encoder.conv_in, nn.Dropout2d(0.3))  # type: ignore[assignment]

    monkeypatch.setattr(ProgressiveGQ, "__init__", with_dropout)
    overrides = [*quick, "trainer.steps=4", "trainer.save_every=2", "data.val=[]"]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    train("progressive_gq_tiny", [*overrides, f"trainer.output={tmp_path}/a"], progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    overrides.append(f"trainer.output={tmp_path}/b")
    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        with pytest.raises(Killed):
            train("progressive_gq_tiny", overrides, progress=False)
    train("progressive_gq_tiny", overrides, progress=False)
    assert lines(tmp_path / "a", "training") == lines(tmp_path / "b", "training")


def test_corrupt_pictures_are_skipped_with_one_warning_each(
    quick: list[str], photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    content = (photos / "0.jpg").read_bytes()
    (folder / "good.jpg").write_bytes(content)
    (folder / "cut.jpg").write_bytes(content[: len(content) // 3])
    (folder / "text.jpg").write_text("not a picture")
    overrides = [*quick, f"data.train={folder}", "data.val=[]", "trainer.steps=3"]
    with caplog.at_level(logging.WARNING, logger="tessella.training.trainer"):
        train("progressive_gq_tiny", overrides, progress=False)
    messages = [r.getMessage() for r in caplog.records if r.name == "tessella.training.trainer"]
    assert len(messages) == 2
    assert {"cut.jpg" in m or "text.jpg" in m for m in messages} == {True}


def test_bf16_autocast_trains(quick: list[str], tmp_path: Path) -> None:
    train(
        "progressive_gq_tiny",
        [*quick, *EVERYTHING, "trainer.mixed_precision=bf16", "trainer.steps=2"],
        progress=False,
    )
    records = lines(tmp_path / "run", "training")
    assert all(np.isfinite(record["loss"]) for record in records)
    state = load_file(tmp_path / "run" / "checkpoints" / "step-00000002" / "model.safetensors")
    assert {t.dtype for t in state.values() if t.is_floating_point()} == {torch.float32}


def test_a_frozen_part_does_not_change(quick: list[str], finished: Path, tmp_path: Path) -> None:
    train(
        "progressive_gq_tiny",
        [
            *quick,
            f"model.weights={finished}/model",
            "optimizer.lr_multipliers={encoder: 0, quantizer: 0}",
            "trainer.ema=0",
            "trainer.steps=2",
        ],
        progress=False,
    )
    before = load_file(finished / "model" / "model.safetensors")
    after = load_file(tmp_path / "run" / "model" / "model.safetensors")
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}


def test_a_loss_that_is_no_number_stops_the_run_and_is_not_saved(
    quick: list[str], tmp_path: Path
) -> None:
    overrides = [*quick, "optimizer.lr=1e30", "optimizer.clip=0", "trainer.steps=6"]
    with pytest.raises(TessellaError, match=r"the loss is (nan|inf).*lower optimizer\.lr"):
        train("progressive_gq_tiny", [*overrides, "trainer.save_every=1"], progress=False)
    for step in (tmp_path / "run" / "checkpoints").iterdir():
        assert "NaN" not in (step / "record.json").read_text()


def test_what_does_not_fit_is_refused(
    quick: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, quick = "progressive_gq_tiny", [*quick, "trainer.steps=1", "data.val=[]"]
    with pytest.raises(ConfigError, match=r"data\.crop=50 given; expected a multiple.*8"):
        train(name, [*quick, "data.crop=50"], progress=False)
    with pytest.raises(ConfigError, match=r"data\.train is empty"):
        train(name, [*quick, "data.train=[]"], progress=False)
    train(name, quick, progress=False)
    with pytest.raises(CheckpointError, match=r"model\.config\.groups differ"):
        train(name, [*quick, "model.config.groups=2"], progress=False)
    with pytest.raises(ConfigError, match=r"resume=never given.*\[1\]"):
        train(name, [*quick, "trainer.resume=never"], progress=False)
    with caplog.at_level(logging.WARNING):
        train(name, [*quick, "trainer.steps=2", "optimizer.lr=1e-5"], progress=False)
    assert "optimizer.lr, trainer.steps" in caplog.text
    with pytest.raises(ConfigError, match="the run has done 2"):
        train(name, quick, progress=False)
    with pytest.raises(CheckpointError, match="no adversary"):
        train(name, [*quick, "trainer.steps=3", "loss.adversarial.weight=1"], progress=False)


def test_without_a_terminal_lines_are_logged_and_nothing_is_printed(
    quick: list[str], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="tessella.training"):
        train("progressive_gq_tiny", [*quick, "trainer.steps=2"])
    assert "step 2/2" in caplog.text
    assert "images_per_second" in caplog.text
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("columns", [80, 160])
def test_the_progress_bar_goes_to_standard_error(
    columns: int,
    quick: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    train("progressive_gq_tiny", [*quick, "trainer.steps=1"], progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    for shown in ("1/1", "img/s", "dB", "loss", "q3"):
        assert shown in err
    assert ("commitment" in err) == (columns == 160)
    assert "q3" in err
