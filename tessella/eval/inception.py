"""The Inception network of 2015 whose features FID, KID and the Inception score are made of.

It is not torchvision's classifier: it has 1008 classes, its average pools leave padding out, and
its last block pools the maximum. The layout of its tensors is the published one
(``weights-inception-2015-12-05-6726825d.pth``: 566 tensors), so that any such file loads.

::

    uint8 pixels -> 299 x 299 -> (x - 128) / 128 -> blocks 1a .. 7c -> mean -> pool (2048)
                                                    first 7 channels of 6d's 1x1 branch -> spatial
                                                    pool . W, without the bias -> logits (1008)

The resize is part of a protocol (``tf1`` by default). Convolutions must not run in TF32 or bf16:
distances move. ``InceptionFeatures().double()`` computes in float64, as some tables do.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import inception as blocks

from tessella.errors import CheckpointError
from tessella.eval.resizing import ResizeFilter, resize
from tessella.eval.weights import find_weights, load_weights

SIDE = 299
NUM_CLASSES = 1008
_SPATIAL_CHANNELS = 7


class InceptionOutput(NamedTuple):
    """Features of a batch.

    Args:
        pool: ``(B, 2048)``, for FID, KID, precision and recall.
        spatial: ``(B, 2023)``, for sFID.
        logits: ``(B, 1008)`` without the bias, for the Inception score.
    """

    pool: Tensor
    spatial: Tensor
    logits: Tensor


class InceptionNetwork(nn.Module):
    """The network alone, with random values; ``forward`` takes floats ``(B, 3, H, W)``."""

    def __init__(self) -> None:
        super().__init__()
        conv = blocks.BasicConv2d
        self.Conv2d_1a_3x3 = conv(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = conv(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = conv(32, 64, kernel_size=3, padding=1)
        self.Conv2d_3b_1x1 = conv(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = conv(80, 192, kernel_size=3)
        self.Mixed_5b = blocks.InceptionA(192, pool_features=32)
        self.Mixed_5c = blocks.InceptionA(256, pool_features=64)
        self.Mixed_5d = blocks.InceptionA(288, pool_features=64)
        self.Mixed_6a = blocks.InceptionB(288)
        self.Mixed_6b = blocks.InceptionC(768, channels_7x7=128)
        self.Mixed_6c = blocks.InceptionC(768, channels_7x7=160)
        self.Mixed_6d = blocks.InceptionC(768, channels_7x7=160)
        self.Mixed_6e = blocks.InceptionC(768, channels_7x7=192)
        self.Mixed_7a = blocks.InceptionD(768)
        self.Mixed_7b = blocks.InceptionE(1280)
        self.Mixed_7c = blocks.InceptionE(2048)
        self.fc = nn.Linear(2048, NUM_CLASSES)

    def forward(self, images: Tensor) -> InceptionOutput:
        """Return the features of images scaled to about [-1, 1]."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        x = F.max_pool2d(x, kernel_size=3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, kernel_size=3, stride=2)
        for block in (self.Mixed_5b, self.Mixed_5c, self.Mixed_5d):
            x = _block_a(block, x)
        x = _block_c(self.Mixed_6c, _block_c(self.Mixed_6b, self.Mixed_6a(x)))
        # in the order height, width, channel, as published statistics have it
        spatial = self.Mixed_6d.branch1x1(x)[:, :_SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        x = _block_c(self.Mixed_6e, _block_c(self.Mixed_6d, x))
        x = self.Mixed_7a(x)
        x = _block_e(self.Mixed_7b, x, _mean_of_neighbours(x))
        x = _block_e(self.Mixed_7c, x, F.max_pool2d(x, 3, stride=1, padding=1))
        pool = x.mean(dim=(2, 3))
        return InceptionOutput(pool, spatial, pool @ self.fc.weight.T)


class InceptionFeatures(nn.Module):
    """Frozen features of uint8 pixels ``(B, 3, H, W)``.

    Args:
        weights: file in the published layout; torch's cache if None.
        resize_filter: how pictures come to 299 x 299.

    Raises:
        MissingWeightsError: if the weights are not found.
        CheckpointError: if the file is of another network.
    """

    def __init__(
        self, weights: str | Path | None = None, *, resize_filter: ResizeFilter = "tf1"
    ) -> None:
        super().__init__()
        path = find_weights("inception", weights)
        self.resize_filter = resize_filter
        with torch.device("meta"):
            self.network = InceptionNetwork()
        try:
            self.network.load_state_dict(load_weights(path), assign=True)
        except RuntimeError as error:
            raise CheckpointError(
                f"{path} is not in the layout of the Inception network of 2015 ({error}); expected "
                "the 566 tensors of weights-inception-2015-12-05-6726825d.pth"
            ) from error
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> InceptionOutput:
        """Return pool, spatial features and logits of each picture.

        Raises:
            ShapeError: if the pixels are not uint8 ``(B, 3, H, W)``.
        """
        x = resize(pixels, (SIDE, SIDE), self.resize_filter)
        dtype = self.network.fc.weight.dtype
        output: InceptionOutput = self.network(((x - 128) / 128).to(dtype))
        return output

    def pool(self, pixels: Tensor) -> Tensor:
        """Return the 2048 features of each picture."""
        return self.forward(pixels).pool

    def logits(self, pixels: Tensor) -> Tensor:
        """Return the 1008 logits of each picture."""
        return self.forward(pixels).logits


def _mean_of_neighbours(x: Tensor) -> Tensor:
    """Average 3x3 neighbourhoods; padding does not count."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _block_a(block: blocks.InceptionA, x: Tensor) -> Tensor:
    wide = block.branch3x3dbl_3(block.branch3x3dbl_2(block.branch3x3dbl_1(x)))
    branches = [
        block.branch1x1(x),
        block.branch5x5_2(block.branch5x5_1(x)),
        wide,
        block.branch_pool(_mean_of_neighbours(x)),
    ]
    return torch.cat(branches, dim=1)


def _block_c(block: blocks.InceptionC, x: Tensor) -> Tensor:
    seven = block.branch7x7_3(block.branch7x7_2(block.branch7x7_1(x)))
    twice = block.branch7x7dbl_2(block.branch7x7dbl_1(x))
    twice = block.branch7x7dbl_5(block.branch7x7dbl_4(block.branch7x7dbl_3(twice)))
    branches = [block.branch1x1(x), seven, twice, block.branch_pool(_mean_of_neighbours(x))]
    return torch.cat(branches, dim=1)


def _block_e(block: blocks.InceptionE, x: Tensor, pooled: Tensor) -> Tensor:
    three = block.branch3x3_1(x)
    wide = block.branch3x3dbl_2(block.branch3x3dbl_1(x))
    branches = [
        block.branch1x1(x),
        block.branch3x3_2a(three),
        block.branch3x3_2b(three),
        block.branch3x3dbl_3a(wide),
        block.branch3x3dbl_3b(wide),
        block.branch_pool(pooled),
    ]
    return torch.cat(branches, dim=1)


__all__ = ["NUM_CLASSES", "SIDE", "InceptionFeatures", "InceptionNetwork", "InceptionOutput"]
