"""Scores of one reconstruction, and features of a batch of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tessella.errors import ShapeError
from tessella.eval.evaluation.equipment import Equipment
from tessella.eval.psnr import CAP, psnr
from tessella.eval.ssim import ms_ssim, ssim
from tessella.eval.ssimulacra2 import ssimulacra2
from tessella.images import Pixels

Score = Callable[[Tensor, Tensor], Tensor]


class Scores:
    """Metrics of pictures.

    Args:
        equipment: which, and their weights.
        names: some of its metrics; all if None.
    """

    def __init__(self, equipment: Equipment, names: Sequence[str] | None = None) -> None:
        self._device = equipment.options.device
        known: dict[str, Callable[[], Score]] = {
            "psnr": lambda: _psnr,
            "ssim": lambda: ssim,
            "ms_ssim": lambda: ms_ssim,
            "ssimulacra2": lambda: ssimulacra2,
            "lpips": lambda: self._lpips(equipment),
            "dists": lambda: self._dists(equipment),
            "glcm": lambda: _glcm,
        }
        self._scores = {
            name: known[name]() for name in equipment.of_pictures if names is None or name in names
        }

    def measure(self, pixels: Pixels, original: Pixels) -> dict[str, float | None]:
        """Return each score of a reconstruction; None where the picture is too small for it."""
        found: dict[str, float | None] = {}
        pair = batch([pixels]), batch([original])
        for name, score in self._scores.items():
            try:
                with torch.inference_mode():
                    value = float(score(*pair))
                found[name] = value if math.isfinite(value) else None
            except ShapeError:
                found[name] = None
        return found

    def _lpips(self, equipment: Equipment) -> Score:
        from tessella.eval.metrics.fidelity import MeanLPIPS

        network = equipment.options.lpips
        metric = MeanLPIPS(network, weights=equipment.files[network])
        return self._on_device(metric.to(self._device).measure)

    def _dists(self, equipment: Equipment) -> Score:
        from tessella.eval.metrics.fidelity import MeanDISTS

        files = equipment.files
        metric = MeanDISTS(trunk=files["vgg"], head=files["dists"])
        return self._on_device(metric.to(self._device).measure)

    def _on_device(self, measure: Score) -> Score:
        return lambda x, y: measure(x.to(self._device), y.to(self._device))


class Features:
    """Networks whose features sets are compared by.

    Args:
        equipment: which, and their weights.
    """

    def __init__(self, equipment: Equipment) -> None:
        options = equipment.options
        self._device = options.device
        self._inception = self._clip = None
        self._has_spatial = "sFID" in equipment.metrics
        if "inception" in equipment.files:
            from tessella.eval.inception import InceptionFeatures

            self._inception = InceptionFeatures(
                equipment.files["inception"], resize_filter=options.protocol.resize_filter
            ).to(self._device)
        if "clip" in equipment.files:
            from tessella.eval.clip import ClipFeatures

            self._clip = ClipFeatures(equipment.files["clip"]).to(self._device)

    def of(self, pictures: Sequence[Pixels]) -> dict[str, Tensor]:
        """Return ``(N, D)`` float32 a feature, of N pictures of one size."""
        found: dict[str, Tensor] = {}
        pixels = batch(pictures).to(self._device)
        with torch.inference_mode():
            if self._inception is not None:
                output = self._inception(pixels)
                found = {"pool": output.pool, "logits": output.logits}
                if self._has_spatial:
                    found["spatial"] = output.spatial
            if self._clip is not None:
                found["clip"] = self._clip(pixels)
        return {name: value.float().cpu().clone() for name, value in found.items()}


def batch(pictures: Sequence[Pixels]) -> Tensor:
    """Stack pictures ``(H, W, 3)`` to uint8 ``(N, 3, H, W)``."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _psnr(pixels: Tensor, original: Tensor) -> Tensor:
    return psnr(pixels, original).clamp(max=CAP)


def _glcm(pixels: Tensor, original: Tensor) -> Tensor:
    from tessella.eval.metrics.texture import GLCMScore

    metric = GLCMScore()
    metric.update(pixels)
    return metric.compute().score


__all__ = ["Features", "Scores", "batch"]
