"""The reconstruction loss: a weighted sum of named terms between images in [-1, 1].

::

    sqrt_mse = mean over pictures of sqrt(mse_picture + 1e-5)

weights every picture's error by its inverse root: less than the mean squared error does, hard
pictures do not crowd out the easy ones, and PSNR, a mean of logarithms, gains most from those.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tessella.errors import ConfigError
from tessella.eval.perceptual import LPIPS
from tessella.eval.ssim import most_scales, ms_ssim_of_floats, ssim_of_floats
from tessella.training.config import LossSection

_ROOT_OFFSET = 1e-5  # (0.4 levels of 255)^2: keeps the root's slope finite
_SIMILARITY_FLOOR = 1e-3


class ReconstructionLoss(nn.Module):
    """Named, weighted terms of the reconstruction loss.

    Args:
        settings: factors of the terms.
        crop: side of the training crops, which bounds the scales of MS-SSIM.

    Raises:
        ConfigError: if every factor is 0 or the crop is too small for SSIM.
        CheckpointError: if LPIPS is asked for and its weights are missing.
    """

    def __init__(self, settings: LossSection, *, crop: int) -> None:
        super().__init__()
        weights = {
            name: float(getattr(settings, name))
            for name in ("sqrt_mse", "mse", "l1", "ssim", "ms_ssim", "lpips")
        }
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if not self.weights:
            raise ConfigError(f"loss: every factor is 0; give one of {sorted(weights)} a weight")
        self.scales = most_scales(crop)
        if (settings.ssim or settings.ms_ssim) and not self.scales:
            raise ConfigError(
                f"data.crop={crop} given; loss.ssim and loss.ms_ssim need at least 11"
            )
        self.lpips = LPIPS(settings.lpips_network) if settings.lpips else nn.Identity()

    def forward(self, outputs: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms, each a scalar.

        Args:
            outputs: reconstructions ``(B, 3, H, W)``, not clamped.
            images: what they reconstruct, in [-1, 1].
        """
        outputs, images = outputs.float(), images.float()
        return {
            name: weight * self._term(name, outputs, images)
            for name, weight in self.weights.items()
        }

    def _term(self, name: str, outputs: Tensor, images: Tensor) -> Tensor:
        error = outputs - images
        if name == "sqrt_mse":
            return (error.square().mean(dim=(1, 2, 3)) + _ROOT_OFFSET).sqrt().mean()
        if name == "mse":
            return error.square().mean()
        if name == "l1":
            return error.abs().mean()
        if name == "ssim":
            return 1 - ssim_of_floats(outputs + 1, images + 1, value_range=2.0).mean()
        if name == "ms_ssim":
            similarity = ms_ssim_of_floats(
                outputs + 1,
                images + 1,
                value_range=2.0,
                scales=self.scales,
                floor=_SIMILARITY_FLOOR,
            )
            return 1 - similarity.mean()
        distance: Tensor = self.lpips(outputs, images)
        return distance.mean()


def batch_psnr(outputs: Tensor, images: Tensor) -> Tensor:
    """Return the mean PSNR of a batch in decibels, on floats in [-1, 1] without rounding."""
    mse = (outputs.detach().float() - images.float()).square().mean(dim=(1, 2, 3))
    return (10 * torch.log10(4 / mse.clamp(min=1e-10))).mean()


__all__ = ["ReconstructionLoss", "batch_psnr"]
