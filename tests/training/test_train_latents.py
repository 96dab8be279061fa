"""Training of scalar latents with their prior: losses, bits, and runs that are interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats

from tessella.codecs.entropy.latent.network import Expected
from tessella.codecs.latent_codec import LatentCodec
from tessella.errors import ConfigError
from tessella.training.latent.config import RateSection, load_latent_config
from tessella.training.latent.densities import HyperDensity, gaussian_bits
from tessella.training.optimizers import learning_rate
from tessella.training.run import train

SIZES = {
    "tokenizer": {
        "widths": [8, 8, 12],
        "blocks": [1, 1, 1],
        "slices": [4, 8],
        "hyper_channels": 4,
        "hyper_width": 8,
        "points": 3,
    },
    "prior": {"features": 8, "hidden": 8, "reach": 3},
    "initialize_with": 24,
}


def settings(photos: Path, output: Path, **trainer: Any) -> dict[str, Any]:
    return {
        "model": SIZES,
        "rate": {"balance": 0.5},
        "data": {"train": str(photos), "val": str(photos / "[01].jpg"), "crop": 64, "batch": 2},
        "optimizer": {"lr": 2e-3, "warmup": 2, "schedule": "linear", "plateau": 0.5},
        "trainer": {
            "output": str(output), "steps": 8, "log_every": 2, "val_every": 4, "save_every": 4,
            "device": "cpu", "tensorboard": False, **trainer,
        },
    }  # fmt: skip


def test_bits_are_those_of_scipys_gaussian() -> None:
    values = torch.arange(-6.0, 7.0).view(1, 1, 1, -1)
    for place, mean in ((0, 0.0), (10, 0.375), (30, -1.5), (63, 2.0)):
        expected = Expected(torch.full_like(values, mean), torch.full_like(values, place))
        found = gaussian_bits(values, expected).flatten().numpy()
        normal = stats.norm(mean, 0.11 * (256 / 0.11) ** (place / 63))
        x = values.flatten().double().numpy()
        # differences in the upper tail from the survival function, which does not cancel
        tail = np.where(x > mean, normal.sf(x - 0.5) - normal.sf(x + 0.5), 0)
        probability = np.where(x > mean, tail, normal.cdf(x + 0.5) - normal.cdf(x - 0.5))
        exact = -np.log2(np.maximum(probability, 2.0**-24))
        assert np.allclose(found, exact, rtol=2e-3, atol=1e-5)


def test_hyper_densities_are_distributions() -> None:
    torch.manual_seed(0)
    density = HyperDensity(3, 2)
    with torch.no_grad():
        for parameter in density.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape))
    values = torch.arange(-64.0, 64.0).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    for share in (0.0, 0.3, 1.0):
        bits = density.bits(values, torch.tensor([[share, 1 - share]]))
        assert torch.allclose((2**-bits).sum(dim=-1), torch.ones(1, 3, 1), atol=1e-3)


def test_weights_are_geometric() -> None:
    rate = RateSection()
    assert rate.weight(0) == pytest.approx(0.0009)
    assert rate.weight(99) == pytest.approx(0.045)
    assert rate.weight(33) ** 3 == pytest.approx(0.0009**2 * 0.045)


def test_the_rate_stays_up_until_the_plateau_ends(photos: Path, tmp_path: Path) -> None:
    optimizer = load_latent_config(settings(photos, tmp_path)).optimizer
    rates = [learning_rate(step, steps=102, settings=optimizer) for step in (2, 52, 77, 102)]
    assert rates == pytest.approx([2e-3, 2e-3, 1e-3, 2e-6], rel=2e-3)


def test_training_lowers_the_loss_and_saves_the_tokenizer(photos: Path, tmp_path: Path) -> None:
    folder = train(settings(photos, tmp_path / "run", steps=40), progress=False)
    codec = LatentCodec.from_model(folder)
    assert codec.tokenizer.config.slices == (4, 8)
    picture = np.zeros((30, 40, 3), np.uint8)
    assert codec.decompress(codec.compress(picture)).shape == picture.shape
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    losses = [record["loss"] for record in records if record["kind"] == "training"]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    rows = next(r for r in reversed(records) if r["kind"] == "validation")["rows"]
    rates, decibels = ([row[name] for row in rows] for name in ("bpp", "psnr"))
    assert rates == sorted(rates)
    assert decibels == sorted(decibels)


def test_an_interrupted_run_goes_on_exactly(photos: Path, tmp_path: Path) -> None:
    train(settings(photos, tmp_path / "whole"), progress=False)
    first = settings(photos, tmp_path / "cut")
    first["rate"]["rounded_from"] = 0.9
    # half of a run of twice the plateau: the rate and the noise are as in the whole one
    first["optimizer"]["plateau"] = 0.99
    train(first | {"trainer": first["trainer"] | {"steps": 4}}, progress=False)
    # the first 4 of 8 steps lie on the plateau in both
    train(settings(photos, tmp_path / "cut"), progress=False)
    ours, theirs = (
        load_file(tmp_path / name / "checkpoints" / "step-00000008" / "model.safetensors")
        for name in ("cut", "whole")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_sizes_that_do_not_fit_are_refused(photos: Path, tmp_path: Path) -> None:
    given = settings(photos, tmp_path / "run")
    given["data"]["crop"] = 48
    with pytest.raises(ConfigError, match="multiple of the tokenizer's stride 64"):
        train(given, progress=False)
    with pytest.raises(ConfigError, match=r"rate\.balnce"):
        load_latent_config({"rate": {"balnce": 1}})
    with pytest.raises(ConfigError, match="0 < least < most"):
        RateSection(least=1.0, most=0.5)
