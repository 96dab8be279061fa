from __future__ import annotations

from pathlib import Path

import pytest

from tessella.configs import config_names, find_config
from tessella.errors import ConfigError
from tessella.generation import GENERATORS
from tessella.tokenizers.registry import families
from tessella.training import load_config
from tessella.training.config_file import changed_keys, parse_yaml, read_config
from tessella.training.generators.config import SECTION
from tessella.training.generators.run import load_generator_config
from tessella.training.latent.config import SECTION as RATE_SECTION
from tessella.training.latent.config import load_latent_config


@pytest.mark.parametrize("name", config_names())
def test_shipped_configurations_are_valid(name: str) -> None:
    data = read_config(name)
    if SECTION in data:  # of a generator
        assert load_generator_config(data).generator.family in GENERATORS.all()
        return
    if RATE_SECTION in data:  # of scalar latents
        assert load_latent_config(data).rate.least > 0
        return
    config = load_config(data)
    assert config.model.family in families()
    # every group of a number of groups can be drawn, and every multiplier is a number
    assert all(isinstance(v, float) for v in config.optimizer.lr_multipliers.values())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.stpes=3", r"trainer\.stpes: unknown key; did you mean 'trainer\.steps'"),
        ("steps=3", r"steps: unknown key; did you mean 'trainer\.steps'"),
        ("optimizer.learning_rate=1", r"optimizer\.learning_rate: unknown key"),
        ("optimiser.lr=1", r"optimiser: unknown key; did you mean 'optimizer'"),
        ("loss.adversarial.wieght=1", r"did you mean 'loss\.adversarial\.weight'"),
        ("model.config.goups=3", r"did you mean 'model\.config\.groups'"),
        (
            "model.config.groups=three",
            r"model\.config\.groups: 'three' \(str\) given; expected int",
        ),
        ("model.config.components=1000", r"model\.config: components=1000 given"),
        ("model.family=progresive_gq", "did you mean 'progressive_gq'"),
        ("model.preset=progressive-gq-f9", "did you mean 'progressive-gq-f8'"),
        ("trainer.steps=many", r"trainer\.steps: 'many' \(str\) given; expected int"),
        ("trainer.steps=0", r"trainer\.steps=0 given; expected at least 1"),
        ("trainer.steps=1.5", r"trainer\.steps: 1\.5 \(float\) given; expected int"),
        ("trainer.mixed_precision=f16", r"trainer\.mixed_precision: 'f16' given.*'fp16'"),
        ("trainer.ema=1", r"trainer\.ema=1.* given"),
        ("data.zoom=[2, 1]", r"data\.zoom=\[2\.0, 1\.0\] given"),
        ("data.zoom=2", r"data\.zoom: 2 \(int\) given; expected a list"),
        ("optimizer.lr=-1", r"optimizer\.lr=-1\.0 given"),
        ("optimizer.lr=.nan", r"optimizer\.lr=nan given"),
        ("trainer=5", r"trainer: 5 \(int\) given; expected a mapping"),
        ("trainer.steps.fast=1", r"trainer\.steps is 500 and not a section"),
        ("trainer.steps", "expected key=value"),
        ("trainer.output=[1", "not valid YAML"),
    ],
)
def test_a_wrong_override_names_itself_and_what_is_right(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("progressive_gq_tiny", [override])


def test_overrides_are_yaml_values() -> None:
    config = load_config(
        "progressive_gq_tiny",
        [
            "data.train=[a/, 'b/*.tar']",
            "data.val=c",
            "optimizer.lr=3e-4",
            "optimizer.lr_multipliers.quantizer.step_out=0.5",
            "trainer.tensorboard=no",
            "model.config.groups=2",
        ],
    )
    assert config.data.train_sources == ("a/", "b/*.tar")
    assert config.data.val_sources == ("c",)
    assert config.optimizer.lr == 3e-4
    assert config.optimizer.lr_multipliers["quantizer.step_out"] == 0.5
    assert config.trainer.tensorboard is False
    assert config.model.config["groups"] == 2
    assert config.model.config["head_width"] == 8  # the preset's


def test_a_mapping_is_not_changed_by_overrides() -> None:
    given = {"trainer": {"steps": 5}}
    assert load_config(given, ["trainer.steps=6"]).trainer.steps == 6
    assert given == {"trainer": {"steps": 5}}


def test_a_file_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("optimizer: {lr: 1e-3}\ntrainer: {steps: 7}\n")
    config = load_config(path)
    assert (config.optimizer.lr, config.trainer.steps) == (1e-3, 7)
    path.write_text("trainer: {steps: 7, steps: 8}\n")
    with pytest.raises(ConfigError, match="'steps' is given twice"):
        load_config(path)
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected a mapping"):
        load_config(path)
    path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(path)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'progressive_gq_tiny'"):
        find_config("progresive_gq_tiny")
    with pytest.raises(ConfigError, match="does not exist"):
        find_config("no/such.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("8e-4", 8e-4), ("-1E5", -1e5), ("1.5e3", 1500.0), ("12", 12), ("1e", "1e"), ("0.5", 0.5)],
)
def test_numbers_in_yaml(text: str, value: object) -> None:
    parsed = parse_yaml(text, where="test")
    assert parsed == value
    assert type(parsed) is type(value)


def test_changed_keys_are_dotted_paths() -> None:
    old = {"a": {"b": 1, "c": [1]}, "d": 2}
    assert changed_keys(old, {"a": {"b": 1, "c": [2]}, "e": 2}) == ["a.c", "d", "e"]
