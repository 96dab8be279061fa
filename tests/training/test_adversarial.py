from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from tessella.training.adversarial import (
    Adversary,
    LeCam,
    PatchDiscriminator,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
)
from tessella.training.config import AdversarialSection

Recording = dict[str, torch.Tensor]


@pytest.fixture
def io(parity_dir: Path) -> Recording:
    return load_file(recordings(parity_dir) / "io.safetensors")


@pytest.fixture
def discriminator(parity_dir: Path) -> PatchDiscriminator:
    """The recorded discriminator, as it was before its training passes."""
    folder = recordings(parity_dir)
    sizes = json.loads((folder / "config.json").read_text())["patchgan"]
    model = PatchDiscriminator(sizes["ndf"], sizes["n_layers"])
    model.load_state_dict(load_file(folder / "patchgan.safetensors"))
    return model


def recordings(parity_dir: Path) -> Path:
    folder = parity_dir / "gan_losses"
    if not folder.is_dir():
        pytest.skip("no recordings of adversarial losses")
    return folder


@pytest.mark.parity
def test_discriminator(io: Recording, discriminator: PatchDiscriminator) -> None:
    discriminator.eval()
    for side in ("real", "fake"):
        torch.testing.assert_close(
            discriminator(io[side]), io[f"patch_eval_{side}"], rtol=0, atol=1e-5
        )
    discriminator.train()
    for side in ("real", "fake"):
        torch.testing.assert_close(
            discriminator(io[side]), io[f"patch_train_{side}"], rtol=0, atol=1e-5
        )


@pytest.mark.parity
def test_losses(io: Recording) -> None:
    real, fake = io["logits_real"], io["logits_fake"]
    found = {
        "hinge_d": discriminator_loss(real, fake, "hinge"),
        "non_saturate_d": discriminator_loss(real, fake, "non_saturating"),
        "hinge_g": generator_loss(fake, "hinge"),
        "non_saturate_g": generator_loss(fake, "non_saturating"),
    }
    for name, value in found.items():
        torch.testing.assert_close(value, io[name], rtol=0, atol=1e-5)


@pytest.mark.parity
def test_lecam(io: Recording) -> None:
    lecam = LeCam()
    for i in range(sum(name.endswith(".reg") for name in io)):
        penalty = lecam(io["logits_real"] + 0.1 * i, io["logits_fake"] - 0.2 * i)
        for name, value in (
            ("reg", penalty),
            ("real_ema", lecam.real_mean),
            ("fake_ema", lecam.fake_mean),
        ):
            torch.testing.assert_close(value, io[f"lecam.{i}.{name}"], rtol=0, atol=1e-5)


@pytest.mark.parity
def test_adaptive_weight(io: Recording, discriminator: PatchDiscriminator) -> None:
    with torch.no_grad():
        for side in ("real", "fake"):
            discriminator.train()(io[side])
    weight = io["adaptive.W"].requires_grad_()
    reconstruction = F.conv2d(io["adaptive.h"], weight, padding=1)
    nll = (io["real"] - reconstruction).abs().mean()
    adversarial = generator_loss(discriminator.eval()(reconstruction), "hinge")
    torch.testing.assert_close(nll, io["adaptive.nll"], rtol=0, atol=1e-5)
    torch.testing.assert_close(adversarial, io["adaptive.g_loss"], rtol=0, atol=1e-5)
    factor = next(float(n.rpartition("disc")[2]) for n in io if n.startswith("adaptive.weight"))
    found = factor * adaptive_weight(nll, adversarial, weight)
    torch.testing.assert_close(found, io[f"adaptive.weight_disc{factor}"], rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", ["hinge", "non_saturating"])
def test_judging_gives_gradients_to_the_pictures_only(kind: str) -> None:
    torch.manual_seed(0)
    adversary = Adversary(AdversarialSection(kind=kind, channels=4, layers=2))  # type: ignore[arg-type]
    outputs = torch.randn(2, 3, 32, 32).requires_grad_()
    adversary.judge(outputs).backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().max() > 0
    assert all(p.grad is None and p.requires_grad for p in adversary.parameters())


def test_a_discriminator_learns_to_tell_two_textures_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    adversary = Adversary(AdversarialSection(channels=8, layers=2, lecam=0.01))
    optimizer = torch.optim.AdamW(adversary.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        real = torch.randn(4, 3, 32, 32, generator=generator)
        fake = F.avg_pool2d(torch.randn(4, 3, 34, 34, generator=generator), 3, stride=1) * 3
        loss = adversary(real, fake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
