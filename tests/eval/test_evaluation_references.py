"""Whole evaluations with networks by path against other packages, on the same pictures and files.

The networks have random weights in the published layouts: what is compared is everything between a
picture file and a figure.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import lpips
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torchvision.models import squeezenet1_1
from torchvision.models.vgg import cfgs, make_layers

from tessella.codecs.named import codec_named
from tessella.eval.evaluation import EvalOptions, evaluate, image_set
from tessella.eval.inception import InceptionNetwork
from tessella.eval.results import Results

pytestmark = pytest.mark.slow

COUNT, SIDE, QUALITY = 12, 96, 3


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cuttings of photographs as PNG files."""
    folder = tmp_path_factory.mktemp("pictures")
    sources = [data.astronaut(), data.coffee(), data.chelsea()]
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        picture = sources[i % len(sources)]
        y, x = (int(rng.integers(0, size - SIDE)) for size in picture.shape[:2])
        Image.fromarray(picture[y : y + SIDE, x : x + SIDE]).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def decoded(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after JPEG, as PNG files."""
    folder = tmp_path_factory.mktemp("decoded")
    codec = codec_named("jpeg")
    for path in sorted(pictures.iterdir()):
        pixels = codec.decompress(codec.compress(path, QUALITY))
        Image.fromarray(pixels).save(folder / path.name)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Random weights in the published layouts."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = InceptionNetwork()
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.fill_(0.15)  # about what random layers leave of the variance
        with torch.no_grad():
            logits = network.eval()(torch.randn(2, 3, 75, 75)).logits
            network.fc.weight /= logits.std()
        torch.save(network.state_dict(), folder / "inception.pth")
        torch.save(squeezenet1_1().state_dict(), folder / "squeeze.pth")
        layers = make_layers(cfgs["D"]).state_dict()
        torch.save({f"features.{n}": v for n, v in layers.items()}, folder / "vgg.pth")
    return {name: str(folder / f"{name}.pth") for name in ("inception", "squeeze", "vgg")}


@pytest.fixture(scope="module")
def results(
    pictures: Path, weights: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Results:
    """Figures of JPEG."""
    options = EvalOptions(
        metrics=("psnr", "ssim", "lpips", "dists", "rFID", "KID", "IS", "precision", "recall"),
        weights=weights,
        lpips="squeeze",
    )
    work = tmp_path_factory.mktemp("work")
    found, _ = evaluate([f"jpeg:{QUALITY}"], [image_set(pictures)], options, work=work)
    return found


def test_distances_between_sets_are_torch_fidelitys(
    results: Results, pictures: Path, decoded: Path, weights: dict[str, str]
) -> None:
    fidelity = pytest.importorskip("torch_fidelity")
    theirs = fidelity.calculate_metrics(
        input1=str(decoded),
        input2=str(pictures),
        fid=True,
        kid=True,
        isc=True,
        prc=True,
        feature_extractor="inception-v3-compat",
        feature_layer_prc="2048",
        kid_subset_size=COUNT,
        isc_splits=1,
        feature_extractor_weights_path=weights["inception"],
        batch_size=4,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    ours = {figure.metric: figure.value for figure in results.figures}
    for name, key in {
        "rFID": "frechet_inception_distance",
        "KID": "kernel_inception_distance_mean",
        "IS": "inception_score_mean",
        "precision": "precision",
        "recall": "recall",
    }.items():
        assert ours[name] == pytest.approx(theirs[key], rel=1e-3), name
    assert ours["rFID"] > 1e-4  # the random network tells the sets apart


def test_perceptual_distances_are_the_packages(
    results: Results,
    pictures: Path,
    decoded: Path,
    weights: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torchmetrics.functional.image import dists as theirs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, about arguments that lpips passes
        net = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
    state = torch.load(weights["squeeze"], weights_only=True)
    names = net.net.state_dict()
    net.net.load_state_dict({n: state[f"features.{n.partition('.')[2]}"] for n in names})

    layers = make_layers(cfgs["D"])
    state = torch.load(weights["vgg"], weights_only=True)
    layers.load_state_dict({n: state[f"features.{n}"] for n in layers.state_dict()})
    monkeypatch.setattr(theirs, "vgg16", lambda weights: SimpleNamespace(features=layers))
    model = theirs.DISTSNetwork()
    pairs = [(_image(decoded / p.name), _image(p)) for p in sorted(pictures.iterdir())]
    with torch.no_grad():
        expected = {
            "lpips": [float(net(x * 2 - 1, y * 2 - 1)) for x, y in pairs],
            "dists": [float(model(x, y)) for x, y in pairs],
        }
    for name, values in expected.items():
        ours = [record.scores[name] for record in results.pictures]
        assert ours == pytest.approx(values, rel=1e-3), name
        assert min(values) > 1e-4


def _image(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float() / 255
