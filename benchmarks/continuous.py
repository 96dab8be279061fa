"""Quality of a continuous tokenizer: what its latents lose, and what storing them loses and costs.

For every way to store latents, means over pictures of the bits per pixel and of PSNR on 8-bit
pictures, float32 arithmetic:

* ``float32``: latents as they are;
* ``8 bits``: ``round(255 clamp(x / 6 + 1/2, 0, 1))``, as AutoencoderTiny stores them;
* ``file``: a token file with ``round(x 2^e)``; its bits are those of the file. With ``--prior N``
  its entropy prior is counted on the first N pictures, which flatters their own files a little;
  without, the prior beside the model is used, if there is one.

Example:
    tessella convert taesd taef2/ -o models/taef2
    python benchmarks/continuous.py --model models/taef2 --images kodak/
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from tessella.codecs.entropy.calibrate import Calibration, calibrate
from tessella.codecs.files import codec_of
from tessella.codecs.token_coding import PackOptions
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.eval import psnr
from tessella.images import decode_rgb, from_pixels, to_pixels
from tessella.tokens import Tokens

MAGNITUDE = 3.0


def eight_bits(tokens: Tokens) -> Tokens:
    """Round latents to 256 values over [-3, 3]."""
    levels = []
    for level in tokens.levels:
        stored = (level / (2 * MAGNITUDE) + 0.5).clamp(0, 1).mul(255).round()
        levels.append((stored / 255 - 0.5) * (2 * MAGNITUDE))
    return Tokens(levels, tokens.layout)


def decibels(codec: TokenizerCodec, tokens: Tokens, pixels: torch.Tensor) -> float:
    """Decode tokens and compare with the pixels ``(1, 3, H, W)`` uint8."""
    decoded = torch.from_numpy(to_pixels(codec.tokenizer.decode(tokens)))
    return float(psnr(decoded.permute(2, 0, 1)[None], pixels))


def measure(
    codec: TokenizerCodec, files: list[Path], exponents: list[int]
) -> dict[str, list[tuple[float, float]]]:
    """Return bits per pixel and PSNR of each picture for each way to store its latents."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for file in files:
        start = time.perf_counter()
        array = decode_rgb(file)
        pixels = torch.from_numpy(array.copy()).permute(2, 0, 1)[None]
        count = pixels[0, 0].numel()
        tokens = codec.tokenizer.encode(from_pixels(array))
        variants = {
            "float32": (tokens.bits, tokens),
            "8 bits": (8 * tokens.layout.num_values, eight_bits(tokens)),
        }
        for exponent in exponents:
            data = codec.pack(tokens, PackOptions(exponent=exponent))
            name = f"file, steps of 2^{-exponent}"
            variants[name] = (8 * len(data), codec.unpack(data).tokens)
        for name, (bits, stored) in variants.items():
            rows.setdefault(name, []).append((bits / count, decibels(codec, stored, pixels)))
        found = "  ".join(f"{name} {values[-1][1]:.3f} dB" for name, values in rows.items())
        print(f"{file.name}  {found}  {time.perf_counter() - start:.1f} s", flush=True)
    return rows


def table(rows: dict[str, list[tuple[float, float]]]) -> str:
    """Return the means as a Markdown table."""
    lines = ["| latents | bits per pixel | PSNR, dB |", "| --- | --- | --- |"]
    for name, values in rows.items():
        bpp, quality = (sum(column) / len(values) for column in zip(*values, strict=True))
        lines.append(f"| {name} | {bpp:.3f} | {quality:.3f} |")
    return "\n".join(lines)


def with_prior(codec: TokenizerCodec, files: list[Path], exponent: int) -> TokenizerCodec:
    """Return the codec with an entropy prior counted on pictures."""
    tokens = [codec.tokenizer.encode(from_pixels(decode_rgb(file))) for file in files]
    calibration = Calibration(has_bit_model=False, exponent=exponent)
    return TokenizerCodec(codec.tokenizer, calibrate(tokens, calibration))


def main() -> None:
    """Parse arguments, measure, print the table."""
    parser = argparse.ArgumentParser(description="Quality of a continuous tokenizer.")
    parser.add_argument("--model", type=Path, required=True, help="folder of a saved tokenizer")
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument(
        "--exponents", type=int, nargs="*", help="e of files; the tokenizer's own by default"
    )
    parser.add_argument("--prior", type=int, default=0, help="pictures to count a prior on")
    arguments = parser.parse_args()
    files = sorted(p for p in arguments.images.iterdir() if p.suffix in (".png", ".jpg", ".webp"))
    codec = codec_of(arguments.model)
    exponents = arguments.exponents
    if exponents is None:
        exponents = [codec.tokenizer.latent_exponent]
    if arguments.prior:
        codec = with_prior(codec, files[: arguments.prior], codec.tokenizer.latent_exponent)
    print(table(measure(codec, files, exponents)))


if __name__ == "__main__":
    main()
