from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tessella.errors import CheckpointError, ConfigError
from tessella.eval.perceptual import LPIPS, trunk_path
from tessella.training.config import LossSection
from tessella.training.losses import ReconstructionLoss, batch_psnr

NOTHING = {"sqrt_mse": 0.0, "l1": 0.0}


@pytest.fixture
def pair(photos: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy and clean crops, (2, 3, 64, 72) in [-1, 1]."""
    pictures = [np.asarray(Image.open(photos / f"{i}.jpg"))[:64, :72] for i in (0, 1)]
    clean = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([0.05, 0.2]).view(2, 1, 1, 1)
    return (clean + scale * noise).clamp(-1, 1), clean


def test_pixel_terms_equal_numpy(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    settings = LossSection(sqrt_mse=2.0, mse=3.0, l1=0.5)
    terms = ReconstructionLoss(settings, crop=64)(*pair)
    error = (pair[0] - pair[1]).double().numpy()
    per_picture = (error**2).mean(axis=(1, 2, 3))
    assert terms.keys() == {"sqrt_mse", "mse", "l1"}
    assert terms["mse"].item() == pytest.approx(3 * per_picture.mean(), rel=1e-5)
    assert terms["l1"].item() == pytest.approx(0.5 * np.abs(error).mean(), rel=1e-5)
    assert terms["sqrt_mse"].item() == pytest.approx(2 * np.sqrt(per_picture).mean(), rel=2e-3)


def test_ssim_term_equals_scikit_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    term = ReconstructionLoss(LossSection(**NOTHING, ssim=1.0), crop=64)(*pair)["ssim"]
    expected = [
        structural_similarity(
            a.double().numpy() + 1,
            b.double().numpy() + 1,
            channel_axis=0,
            data_range=2.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(*pair, strict=True)
    ]
    assert term.item() == pytest.approx(1 - np.mean(expected), abs=1e-5)


def test_ms_ssim_term_takes_the_scales_that_fit(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure as reference,
    )

    loss = ReconstructionLoss(LossSection(**NOTHING, ms_ssim=1.0), crop=64)
    assert loss.scales == 3
    term = loss(*pair)["ms_ssim"]
    weights = np.array([0.0448, 0.2856, 0.3001])
    shifted = [images.double() + 1 for images in pair]
    betas = tuple((weights / weights.sum()).tolist())
    expected = 1 - reference(shifted[0], shifted[1], data_range=2.0, betas=betas).item()
    # borders and the order of averaging differ, see the metric's tests
    assert term.item() == pytest.approx(expected, abs=0.01)
    assert loss(pair[1], pair[1])["ms_ssim"].item() == pytest.approx(0, abs=1e-5)


def test_batch_psnr_equals_scikit_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    expected = [
        peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=2.0)
        for a, b in zip(*pair, strict=True)
    ]
    assert batch_psnr(*pair).item() == pytest.approx(np.mean(expected), abs=1e-4)


def test_a_loss_without_terms_is_refused() -> None:
    with pytest.raises(ConfigError, match="every factor is 0"):
        ReconstructionLoss(LossSection(**NOTHING), crop=64)
    with pytest.raises(ConfigError, match=r"data\.crop=8"):
        ReconstructionLoss(LossSection(ssim=1.0), crop=8)


def test_lpips_without_weights_says_which_file_goes_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    message = r"vgg16-397923af\.pth.*no cache.*place it in .*checkpoints"
    with pytest.raises(CheckpointError, match=message):
        ReconstructionLoss(LossSection(lpips=1.0), crop=64)


def test_lpips_with_weights_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: tuple[torch.Tensor, torch.Tensor]
) -> None:
    from torchvision.models import squeezenet1_1

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    path = trunk_path("squeeze")
    path.parent.mkdir(parents=True)
    torch.save(squeezenet1_1().state_dict(), path)  # the library reads it, as torch's cache is
    lpips = LPIPS("squeeze")
    assert not any(p.requires_grad for p in lpips.parameters())
    outputs = pair[0].requires_grad_()
    distance = lpips(outputs, pair[1])
    assert distance.shape == (2,)
    assert distance[1] > distance[0] > 0  # the second has four times the noise
    assert lpips(pair[1], pair[1]).abs().max() == 0
    distance.sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().max() > 0
