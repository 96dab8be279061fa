"""Metrics of reconstructions; the streaming ones are in ``tessella.eval.metrics``."""

from tessella.eval.pixels import to_uint8
from tessella.eval.protocol import PRESETS, Measurement, Protocol, check_comparable
from tessella.eval.psnr import mean_psnr, psnr
from tessella.eval.ssim import ms_ssim, ms_ssim_of_floats, ssim, ssim_of_floats

__all__ = [
    "PRESETS",
    "Measurement",
    "Protocol",
    "check_comparable",
    "mean_psnr",
    "ms_ssim",
    "ms_ssim_of_floats",
    "psnr",
    "ssim",
    "ssim_of_floats",
    "to_uint8",
]
