"""The convolutional networks of MaskGIT's VQGAN (arXiv 2202.04200).

No attention, no biases inside blocks, average pooling on the way down, nearest-neighbour
enlargement on the way up. The published weights keep a peculiarity: where a block changes its
width, the shortcut starts from the *transformed* branch, so the block's input does not enter the
sum at all::

    h = conv(silu(norm(conv(silu(norm(x))))))
    y = x + h  if the widths agree,  h + conv1x1(h)  otherwise

Parameter names are those of the published PyTorch checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from tessella.tokenizers.layers.norm_residual import NormSiLU


class MaskGITBlock(nn.Module):
    """Residual block, see the module's text.

    Args:
        inputs: width of the input.
        outputs: width of the output.
        norm_groups: groups of the normalisations.
    """

    def __init__(self, inputs: int, outputs: int, *, norm_groups: int = 32) -> None:
        super().__init__()
        self.norm1 = NormSiLU(inputs, norm_groups=norm_groups)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm2 = NormSiLU(outputs, norm_groups=norm_groups)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.nin_shortcut: nn.Module | None = None
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(outputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, inputs, h, w)`` into ``(B, outputs, h, w)``."""
        h = cast(Tensor, self.conv2(self.norm2(self.conv1(self.norm1(x)))))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(h))


class _Level(nn.Module):
    """The blocks of one resolution, and the convolution after enlargement where there is one."""

    def __init__(
        self, inputs: int, outputs: int, blocks: int, *, norm_groups: int, enlarges: bool = False
    ) -> None:
        super().__init__()
        self.block = _blocks(inputs, outputs, blocks, norm_groups)
        self.upsample_conv: nn.Module | None = None
        if enlarges:
            self.upsample_conv = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        if self.upsample_conv is None:
            return x
        return cast(Tensor, self.upsample_conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))


class MaskGITEncoder(nn.Module):
    """Images ``(B, 3, H, W)`` in [0, 1] to latents ``(B, Z, h, w)``.

    Args:
        widths: channels at each resolution, the full one first; each is half as large as the last.
        blocks: residual blocks of a level, and of the middle.
        latent_channels: ``Z``.
        norm_groups: groups of the normalisations.
    """

    def __init__(
        self, widths: Sequence[int], blocks: int, latent_channels: int, *, norm_groups: int = 32
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList(
            _Level(before, width, blocks, norm_groups=norm_groups)
            for before, width in zip((widths[0], *widths), widths, strict=False)
        )
        self.mid = _blocks(widths[-1], widths[-1], blocks, norm_groups)
        self.norm_out = NormSiLU(widths[-1], norm_groups=norm_groups)
        self.conv_out = nn.Conv2d(widths[-1], latent_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images whose sides are multiples of the stride."""
        x = self.conv_in(images)
        for i, level in enumerate(self.down):
            x = level(x if i == 0 else F.avg_pool2d(x, 2))
        return cast(Tensor, self.conv_out(self.norm_out(self.mid(x))))


class MaskGITDecoder(nn.Module):
    """Codes ``(B, Z, h, w)`` to images ``(B, 3, H, W)`` around [0, 1], not clamped.

    Args:
        widths: channels at each resolution, the full one first; each is half as large as the last.
        blocks: residual blocks of a level, and of the middle.
        latent_channels: ``Z``.
        norm_groups: groups of the normalisations.
    """

    def __init__(
        self, widths: Sequence[int], blocks: int, latent_channels: int, *, norm_groups: int = 32
    ) -> None:
        super().__init__()
        top = widths[-1]
        self.conv_in = nn.Conv2d(latent_channels, top, 3, padding=1)
        self.mid = _blocks(top, top, blocks, norm_groups)
        # stored from the full resolution up, run from the lowest down
        self.up = nn.ModuleList(
            _Level(before, width, blocks, norm_groups=norm_groups, enlarges=i > 0)
            for i, (before, width) in enumerate(zip((*widths[1:], top), widths, strict=True))
        )
        self.norm_out = NormSiLU(widths[0], norm_groups=norm_groups)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Decode a map of codes."""
        x = self.mid(self.conv_in(codes))
        for level in reversed(self.up):
            x = level(x)
        return cast(Tensor, self.conv_out(self.norm_out(x)))


def _blocks(inputs: int, outputs: int, count: int, norm_groups: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            MaskGITBlock(inputs if i == 0 else outputs, outputs, norm_groups=norm_groups)
            for i in range(count)
        )
    )


__all__ = ["MaskGITBlock", "MaskGITDecoder", "MaskGITEncoder"]
