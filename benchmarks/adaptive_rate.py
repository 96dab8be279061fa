"""Groups where they pay beside the same number everywhere, at equal bytes of the file.

For every picture and every size: the PSNR of the file with as many groups at each place as pay
there, that of the most groups everywhere that fit, and that of the same number everywhere
interpolated (PSNR over bytes) to the bytes of the former. Figures are means over the pictures
whose smallest file fits.

Example:
    python benchmarks/adaptive_rate.py --images kodak/ --bpp 0.1 0.2 0.4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tessella.codecs.adaptive_codec import DEFAULT_GROUP_TILE, AdaptiveCodec
from tessella.codecs.files import codec_of
from tessella.codecs.rate_control import compress_to_bytes
from tessella.eval import psnr
from tessella.images import decode_rgb


def measure(
    model_name: str, file: Path, rates: list[float], tile: int
) -> dict[float, NDArray[np.float64]]:
    """Return bpp and PSNR of the adaptive file, then PSNR of even groups, fitting and between."""
    codec = codec_of(model_name)
    pixels = decode_rgb(file)
    most = codec.qualities.highest
    even = [codec.compress(pixels, groups) for groups in range(1, most + 1)]
    sizes = [len(data) for data in even]
    reached = [_psnr(codec.decompress(data), pixels) for data in even]
    found = {}
    for rate in rates:
        limit = int(rate * pixels.shape[0] * pixels.shape[1] / 8)
        if sizes[0] > limit:
            continue
        data = compress_to_bytes(AdaptiveCodec(codec, tile=tile), pixels, limit).data
        fitting = max(i for i, size in enumerate(sizes) if size <= limit)
        bpp = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
        between = float(np.interp(len(data), sizes, reached))
        adaptive = _psnr(codec.decompress(data), pixels)
        found[rate] = np.array([bpp, adaptive, reached[fitting], between])
    return found


def _psnr(decoded: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> float:
    a, b = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None] for x in (pixels, decoded))
    return float(psnr(b, a))


def main() -> None:
    """Print one row a rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", default="progressive-gq-f8")
    parser.add_argument("--bpp", type=float, nargs="+", default=[0.1, 0.2, 0.4])
    parser.add_argument("--tile", type=int, default=DEFAULT_GROUP_TILE)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    files = sorted(options.images.glob("*.png"))[: options.limit]
    found = [measure(options.model, file, options.bpp, options.tile) for file in files]
    print("| at most | pictures | file bpp | PSNR dB | even, fitting | even, equal bytes | gain |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for rate in options.bpp:
        rows = np.array([picture[rate] for picture in found if rate in picture])
        if len(rows):
            bpp, adaptive, fitting, between = rows.mean(axis=0)
            print(
                f"| {rate:g} | {len(rows)} | {bpp:.4f} | {adaptive:.2f} | {fitting:.2f} | "
                f"{between:.2f} | {adaptive - between:+.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
