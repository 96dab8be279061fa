"""The size or quality that ``tessella encode`` is asked to meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tessella.codecs.rate_control import RatedFile
    from tessella.codecs.tokenizer_codec import TokenizerCodec
    from tessella.images import Pixels

TargetBytes = Annotated[
    int | None,
    typer.Option("--target-bytes", min=1, help="The best file of at most so many bytes."),
]
TargetBpp = Annotated[
    float | None,
    typer.Option("--target-bpp", help="The best file of at most so many bits per pixel."),
]
TargetPsnr = Annotated[
    float | None,
    typer.Option("--target-psnr", help="The smallest file that decodes to so many dB."),
]
Adaptive = Annotated[
    bool | None,
    typer.Option(
        "--adaptive/--uniform",
        help="With a target: more groups where they pay, or the same everywhere. By default the "
        "former where the model can.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class RateTarget:
    """What a file is to meet.

    Args:
        num_bytes: its largest size.
        bpp: its largest size in bits per pixel.
        psnr: decibels that it is to reach.
        is_adaptive: whether groups are spent where they pay; None where the model can.
    """

    num_bytes: int | None
    bpp: float | None
    psnr: float | None
    is_adaptive: bool | None

    def compress(self, codec: TokenizerCodec, pixels: Pixels) -> RatedFile:
        """Return the file of a picture that meets the target.

        Raises:
            TargetError: if there is none; the message gives the nearest.
            ConfigError: if groups cannot be spent where they pay.
        """
        from tessella.codecs.adaptive_codec import AdaptiveCodec
        from tessella.codecs.rate_control import compress_to_bytes, compress_to_psnr

        is_adaptive = self.is_adaptive
        if is_adaptive is None:
            is_adaptive = codec.tokenizer.decodes_ragged
        coder = AdaptiveCodec(codec) if is_adaptive else codec
        if self.psnr is not None:
            return compress_to_psnr(coder, pixels, self.psnr)
        height, width = pixels.shape[:2]
        limit = self.num_bytes or int((self.bpp or 0) * height * width / 8)
        return compress_to_bytes(coder, pixels, limit)


def rate_target(
    num_bytes: int | None,
    bpp: float | None,
    psnr: float | None,
    is_adaptive: bool | None,
    keep: int | None,
) -> RateTarget | None:
    """Return the target that options ask for; None if they ask for none.

    Raises:
        typer.BadParameter: if they contradict each other.
    """
    given = [value for value in (num_bytes, bpp, psnr) if value is not None]
    if len(given) + (keep is not None) > 1:
        raise typer.BadParameter(
            "-q, --target-bytes, --target-bpp and --target-psnr exclude each other; give one"
        )
    if bpp is not None and not (0 < bpp < math.inf):
        raise typer.BadParameter(f"--target-bpp {bpp} given; expected more than 0")
    if psnr is not None and not math.isfinite(psnr):
        raise typer.BadParameter(f"--target-psnr {psnr} given; expected decibels")
    if not given:
        if is_adaptive is not None:
            raise typer.BadParameter("--adaptive and --uniform need a target, as --target-bpp")
        return None
    return RateTarget(num_bytes, bpp, psnr, is_adaptive)


__all__ = [
    "Adaptive",
    "RateTarget",
    "TargetBpp",
    "TargetBytes",
    "TargetPsnr",
    "rate_target",
]
