"""Rate and distortion of a tokenizer's files beside JPEG at the same bytes.

For every picture and every number of groups q: the bits per pixel of the *file*, PSNR and MS-SSIM
on 8-bit pictures, and JPEG (Pillow, optimized, 4:2:0) at the best quality that needs no more
bytes. Where even the lowest quality needs more, that is counted and JPEG's figures are those of
the lowest quality. Figures are means over pictures.

Example:
    python benchmarks/rate_distortion.py --images kodak/ --plot docs/images/rate-distortion.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tessella.codecs.classical import Jpeg
from tessella.codecs.files import codec_of
from tessella.codecs.size_search import SizeSearch
from tessella.eval import ms_ssim, psnr
from tessella.images import decode_rgb, from_pixels, to_pixels


def measure(model_name: str, files: list[Path]) -> list[dict[str, float]]:
    """Return one record a picture and number of groups."""
    codec = codec_of(model_name)
    records = []
    for i, file in enumerate(files):
        pixels = decode_rgb(file)
        height, width = pixels.shape[:2]
        tokens = codec.tokenizer.encode(from_pixels(pixels))
        search = SizeSearch(Jpeg(), pixels)
        for groups in range(1, tokens.layout.levels[0].groups + 1):
            kept = tokens.truncate(groups=groups)
            data = codec.pack(kept)
            jpeg = search.at_most(len(data)).data
            record = {"picture": i, "q": groups, "bpp": 8 * len(data) / (height * width)}
            record["nominal_bpp"] = kept.bits / (height * width)
            record |= _quality("", pixels, to_pixels(codec.tokenizer.decode(kept)))
            record |= _quality("jpeg_", pixels, decode_rgb(jpeg))
            record["jpeg_bpp"] = 8 * len(jpeg) / (height * width)
            records.append(record)
        print(f"{file.name} done", flush=True)
    return records


def _quality(
    prefix: str, original: NDArray[np.uint8], other: NDArray[np.uint8]
) -> dict[str, float]:
    a, b = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None] for x in (original, other))
    return {f"{prefix}psnr": float(psnr(b, a)), f"{prefix}ms_ssim": float(ms_ssim(b, a))}


def means(records: list[dict[str, float]]) -> list[dict[str, float]]:
    """Average the records of every q over pictures."""
    rows = []
    for q in sorted({r["q"] for r in records}):
        mine = [r for r in records if r["q"] == q]
        row = {key: sum(r[key] for r in mine) / len(mine) for key in mine[0]}
        del row["picture"]
        row["jpeg_too_large"] = sum(r["jpeg_bpp"] > r["bpp"] for r in mine)
        rows.append(row)
    return rows


def table(rows: list[dict[str, float]]) -> str:
    """Return the means as a Markdown table."""
    lines = [
        "| q | nominal bpp | file bpp | PSNR dB | MS-SSIM "
        "| JPEG bpp | JPEG PSNR dB | JPEG MS-SSIM |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        mark = f" ({r['jpeg_too_large']:.0f} larger)" if r["jpeg_too_large"] else ""
        lines.append(
            f"| {r['q']:.0f} | {r['nominal_bpp']:.3f} | {r['bpp']:.3f} | {r['psnr']:.2f} | "
            f"{r['ms_ssim']:.4f} | {r['jpeg_bpp']:.3f}{mark} | {r['jpeg_psnr']:.2f} | "
            f"{r['jpeg_ms_ssim']:.4f} |"
        )
    return "\n".join(lines)


def within(records: list[dict[str, float]], most: float) -> str:
    """Say what the largest q of every picture whose file needs at most ``most`` bpp gives."""
    best: dict[float, dict[str, float]] = {}
    for r in sorted(records, key=lambda r: r["q"]):
        if r["bpp"] <= most:
            best[r["picture"]] = r
    count = len({r["picture"] for r in records})
    if len(best) < count:
        return f"at most {most} bpp a file: {count - len(best)} pictures need more"
    bpp, db, similarity = (
        sum(r[key] for r in best.values()) / count for key in ("bpp", "psnr", "ms_ssim")
    )
    return (
        f"at most {most} bpp a file, the largest q that fits: {bpp:.3f} bpp, "
        f"{db:.2f} dB, MS-SSIM {similarity:.4f}"
    )


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Draw PSNR and MS-SSIM against the bits per pixel of the file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key, label in zip(axes, ("psnr", "ms_ssim"), ("PSNR, dB", "MS-SSIM"), strict=True):
        axis.plot([r["bpp"] for r in rows], [r[key] for r in rows], "o-", label="ProgressiveGQ")
        axis.plot(
            [r["jpeg_bpp"] for r in rows], [r[f"jpeg_{key}"] for r in rows], "s--", label="JPEG"
        )
        axis.set_xlabel("bits per pixel of the file")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Parse arguments, measure, print the table."""
    parser = argparse.ArgumentParser(description="Rate and distortion beside JPEG.")
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--model", default="progressive-gq-f8")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    parser.add_argument("--json", type=Path, help="JSON to write: one record a picture and q")
    arguments = parser.parse_args()
    files = sorted(p for p in arguments.images.iterdir() if p.suffix in (".png", ".jpg", ".webp"))
    records = measure(arguments.model, files)
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1), encoding="utf-8")
    rows = means(records)
    print(table(rows))
    for most in (0.15, 0.25, 0.5):
        print(within(records, most))
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
