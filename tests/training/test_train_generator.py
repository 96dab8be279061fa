"""Training of a generator from a configuration, to a pipeline that draws."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import photograph

from tessella.errors import CheckpointError, ConfigError
from tessella.generation.pipelines import VARPipeline
from tessella.tokenizers.registry import all_presets
from tessella.training.config import OptimizerSection
from tessella.training.generators.config import ProgressiveSection
from tessella.training.generators.progress import progress_at
from tessella.training.optimizers import learning_rate
from tessella.training.run import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of crops of a photograph: dark and light, and a tokenizer."""
    folder = tmp_path_factory.mktemp("labelled")
    crops = photograph()[:256, :256].reshape(8, 32, 8, 32, 3).swapaxes(1, 2).reshape(64, 32, 32, 3)
    order = np.argsort(crops.mean(axis=(1, 2, 3)))
    with tarfile.open(folder / "a.tar", "w") as archive:
        for label, chosen in enumerate((order[:20], order[-20:])):
            for i in chosen:
                buffer = io.BytesIO()
                Image.fromarray(crops[i]).save(buffer, "PNG")
                for name, content in (
                    (f"{i}.png", buffer.getvalue()),
                    (f"{i}.cls", str(label).encode()),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    family, preset = all_presets()["multiscale-vq-tiny"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        family.model_class(preset.config).save_pretrained(folder / "tokenizer")
    return folder


def settings(data: Path, output: Path, **trainer: Any) -> dict[str, Any]:
    return {
        "generator": {"family": "var", "config": {"depth": 2, "width": 32, "heads": 4}},
        "tokenizer": str(data / "tokenizer"),
        "data": {"train": str(data / "a.tar"), "val": str(data / "a.tar"), "size": 32, "batch": 8},
        "optimizer": {"lr": 3e-3, "warmup": 2, "weight_decay": 0.05},
        "samples": {"classes": [0, 1]},
        "trainer": {
            "output": str(output), "steps": 12, "log_every": 4, "val_every": 6, "save_every": 6,
            "tensorboard": False, "ema": 0.9, **trainer,
        },
    }  # fmt: skip


def test_from_pictures_to_a_pipeline(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run", steps=40)
    config["data"] |= {"tokens": str(tmp_path / "tokens.tsls"), "views": 2}
    folder = train(config, progress=False)
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    losses = [line["loss"] for line in lines]
    assert losses[-1] < 0.9 * losses[0]
    assert lines[-1]["val_loss_mean"] < np.log(32)  # better than guessing
    pipe = VARPipeline.from_pretrained(folder)
    assert pipe.generator.config.classes == 2
    assert [image.size for image in pipe([0, 1], seed=0).images] == [(32, 32)] * 2
    assert "parameters" in (folder / "MODEL_CARD.md").read_text()
    assert (tmp_path / "run" / "pictures" / "step-00000040.png").exists()


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_resumed_run_equals_an_uninterrupted_one(
    data: Path, tmp_path: Path, is_stored: bool
) -> None:
    weights = []
    for name, stops in (("whole", (12,)), ("parts", (6, 12))):
        for steps in stops:
            config = settings(data, tmp_path / name)
            if is_stored:
                config["data"]["tokens"] = str(tmp_path / "tokens.tsls")
            if steps == 6:  # stop after the checkpoint of step 6 as a kill would
                with pytest.MonkeyPatch.context() as patch:
                    _stop_after(patch, 6)
                    with pytest.raises(KeyboardInterrupt):
                        train(config, progress=False)
            else:
                folder = train(config, progress=False)
        weights.append((folder / "generator" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def _stop_after(patch: pytest.MonkeyPatch, step: int) -> None:
    from tessella.training.generators.trainer import GeneratorTrainer

    save = GeneratorTrainer.save

    def stop(self: GeneratorTrainer) -> None:
        save(self)
        if self.state.step == step:
            raise KeyboardInterrupt

    patch.setattr(GeneratorTrainer, "save", stop)


def test_overrides_and_errors(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"did you mean 'trainer.steps'"):
        train(config, ["trainer.stepz=3"])
    with pytest.raises(ConfigError, match=r"data\.train is empty"):
        train("var_small", ["tokenizer=x"])
    with pytest.raises(ConfigError, match="tokenizer is empty"):
        train("var_small", [f"data={data}/a.tar"])
    with pytest.raises(ConfigError, match=r"generator.config.dept"):
        train(config, ["generator.config.dept=3"], progress=False)
    with pytest.raises(ConfigError, match="expected a generator of classes"):
        train(config, ["generator={family: infinity}"], progress=False)
    config["trainer"]["steps"] = 1
    train(config, progress=False)
    with pytest.raises(CheckpointError, match="run of another model"):
        train(config, ["generator.config.depth=3"], progress=False)


def test_scales_are_added_one_after_the_other() -> None:
    section = ProgressiveSection(share=0.5, first=2, ramp=10)

    def at(step: int) -> tuple[int, float] | None:
        found = progress_at(step, steps=220, warmup=10, scales=6, settings=section)
        return None if found is None else (found.scales, found.newest_weight)

    assert at(0) == at(10) == (3, 1.0)
    counts = [found[0] for found in map(at, range(111)) if found]
    assert counts == sorted(counts)
    assert set(counts) == {3, 4, 5, 6}
    first_of_four = counts.index(4)
    assert at(first_of_four) == (4, 0.01)
    assert at(first_of_four + 5) == (4, pytest.approx(0.505))
    assert at(first_of_four + 12) == (4, 1.0)
    assert at(200) is None


def test_linear_learning_rate() -> None:
    section = OptimizerSection(lr=1.0, final_lr=0.1, warmup=10, schedule="linear")
    rates = [learning_rate(step, steps=110, settings=section) for step in range(110)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[14] == 1.0
    np.testing.assert_allclose(np.diff(rates[16:]), -0.9 / 95, rtol=1e-6)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
