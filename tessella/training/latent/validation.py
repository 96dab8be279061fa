"""Rate and distortion of rounded latents, by the float prior: what files will cost, nearly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from tessella.data.pictures import PictureSet
from tessella.eval.pixels import to_uint8
from tessella.eval.psnr import mean_psnr, psnr
from tessella.images import pad_to_multiple
from tessella.training.latent.model import RatedTokenizer
from tessella.training.validation import Row, read_image

if TYPE_CHECKING:
    from accelerate import Accelerator

#: validated qualities
GRADES = (0, 25, 50, 75, 99)


@torch.no_grad()
def rate_rows(
    model: RatedTokenizer,
    pictures: PictureSet,
    indices: Sequence[int],
    *,
    side: int,
    accelerator: Accelerator,
    qualities: Sequence[int] = GRADES,
) -> list[Row]:
    """Measure bits per pixel and PSNR, means over pictures; a collective call.

    Args:
        model: tokenizer and prior; left in the mode it is in.
        pictures: where they come from.
        indices: which of them.
        side: longer sides are cut to the central part of this many pixels.
        accelerator: the processes that share the work, and the model's device.
        qualities: which to measure.

    Returns:
        One row a quality; empty if no picture could be read.
    """
    was_training = model.training
    model.eval()
    device = accelerator.device
    totals = torch.zeros(len(qualities), 3, dtype=torch.float64)  # sums, and a count
    for index in indices[accelerator.process_index :: accelerator.num_processes]:
        image = read_image(pictures, index, side)
        if image is None:
            continue
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image.to(device), model.tokenizer.stride)
        padded = padded.contiguous(memory_format=torch.channels_last)
        for i, quality in enumerate(qualities):
            output = model(padded, torch.tensor([quality], device=device))
            pixels = to_uint8(output.images[..., :height, :width].float().clamp(-1, 1)).cpu()
            bits = float(output.hyper_bits + output.latent_bits)
            decibels = mean_psnr(psnr(pixels, to_uint8(image)))
            values = (bits / (height * width), decibels, 1.0)
            totals[i] += torch.tensor(values, dtype=torch.float64)
    model.train(was_training)
    totals = accelerator.reduce(totals.to(device), reduction="sum").cpu()
    if not totals[0, 2]:
        return []
    means = (totals[:, :2] / totals[:, 2:]).tolist()
    return [
        Row(f"quality {quality}", bpp, decibels, None)
        for quality, (bpp, decibels) in zip(qualities, means, strict=True)
    ]


__all__ = ["GRADES", "rate_rows"]
