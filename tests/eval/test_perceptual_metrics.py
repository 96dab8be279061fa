"""Networks of LPIPS, DISTS and FID with random weights in the published layouts, by path."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import CheckpointError, MissingWeightsError, ShapeError
from tessella.eval.inception import InceptionFeatures, InceptionNetwork
from tessella.eval.metrics import MeanDISTS, MeanLPIPS


def pixels(seed: int, side: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator)


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_lpips_by_path_equals_the_package(tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    with pytest.raises(MissingWeightsError, match="squeezenet1_1"):
        MeanLPIPS("squeeze")
    torch.manual_seed(0)
    torch.save(squeezenet1_1().state_dict(), tmp_path / "net.pth")
    before = torch.get_rng_state()
    metric = MeanLPIPS("squeeze", weights=tmp_path / "net.pth")
    assert torch.equal(torch.get_rng_state(), before)
    x, y = pixels(0), pixels(1)
    metric.update(x, y)
    package = metric.distance.distance
    theirs = package(x / 127.5 - 1, y / 127.5 - 1).mean()
    assert float(metric.compute()) == pytest.approx(float(theirs), rel=1e-5)
    floats = MeanLPIPS("squeeze", weights=tmp_path / "net.pth")
    floats.update(x / 127.5 - 1, y / 127.5 - 1)
    assert float(floats.compute()) == pytest.approx(float(metric.compute()), rel=1e-5)
    state = squeezenet1_1(num_classes=2).state_dict()
    for wrong, message in (
        ({"a": torch.ones(1)}, "no tensor features"),
        (state | {"features.0.weight": torch.ones(64, 1, 3, 3)}, "another network"),
    ):
        torch.save(wrong, tmp_path / "other.pth")
        with pytest.raises(CheckpointError, match=message):
            MeanLPIPS("squeeze", weights=tmp_path / "other.pth")


def test_dists_by_path_equals_torchmetrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.functional.image import dists
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    features = make_layers(cfgs["D"])
    state = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    torch.save(state, tmp_path / "vgg.pth")
    metric = MeanDISTS(trunk=tmp_path / "vgg.pth")
    monkeypatch.setattr(dists, "vgg16", lambda weights: SimpleNamespace(features=features))
    theirs = dists.DISTSNetwork()(pixels(0) / 255, pixels(1) / 255)
    ours = metric.measure(pixels(0), pixels(1))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    assert metric.measure(pixels(0), pixels(0)).abs().max() < 1e-6
    torch.save({"features.0.weight": state["features.0.weight"]}, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match="do not fit"):
        MeanDISTS(trunk=tmp_path / "part.pth")
    with pytest.raises(MissingWeightsError, match="vgg16"):
        MeanDISTS()


@pytest.fixture(scope="module")
def inception() -> InceptionNetwork:
    torch.manual_seed(0)
    return InceptionNetwork().eval()


def test_inception_has_the_published_layout(inception: InceptionNetwork) -> None:
    state = inception.state_dict()
    assert len(state) == 566
    assert sum(tensor.numel() for tensor in state.values()) == 23_885_486


def test_inception_is_torchvisions_with_other_pools(
    inception: InceptionNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import Inception3

    theirs = Inception3(num_classes=1008, aux_logits=False, init_weights=False).eval()
    theirs.load_state_dict(inception.state_dict())
    average = F.avg_pool2d
    is_last = False

    def pool(x: Tensor, *sizes: int, **options: Any) -> Tensor:
        if is_last:
            return F.max_pool2d(x, 3, stride=1, padding=1)
        return average(x, *sizes, **options | {"count_include_pad": False})

    def note(*_: object) -> None:
        nonlocal is_last
        is_last = True

    theirs.Mixed_7c.register_forward_pre_hook(note)
    images = torch.randn(2, 3, 107, 107, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours = inception(images)
        monkeypatch.setattr(F, "avg_pool2d", pool)
        logits = theirs(images)
    torch.testing.assert_close(ours.logits + inception.fc.bias, logits, atol=1e-5, rtol=1e-4)
    assert ours.pool.shape == (2, 2048)


def test_inception_features_of_pixels(inception: InceptionNetwork, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="6726825d"):
        InceptionFeatures()
    state = inception.state_dict()
    torch.save(state, tmp_path / "inception.pth")
    features = InceptionFeatures(tmp_path / "inception.pth")
    out = features(pixels(3)[:1])
    assert [tuple(part.shape) for part in out] == [(1, 2048), (1, 2023), (1, 1008)]
    assert torch.isfinite(out.pool).all()
    torch.testing.assert_close(out.logits, out.pool @ state["fc.weight"].T)
    with pytest.raises(ShapeError, match="uint8"):
        features(pixels(3).float())
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="566"):
        InceptionFeatures(tmp_path / "other.pth")
