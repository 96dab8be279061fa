"""DISTS (arXiv 2004.07728): similarity of structure and of texture in VGG-16's features.

Maps are the picture itself and the last map of VGG's five stages, whose max pooling is replaced by
a smooth one. With each map's spatial mean, variance and covariance::

    texture   = (2 mx my + c) / (mx^2 + my^2 + c)
    structure = (2 sxy + c) / (sx^2 + sy^2 + c)                       c = 1e-6
    dists     = 1 - sum over channels of (alpha texture + beta structure)    sum(alpha + beta) = 1
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import CheckpointError
from tessella.eval.weights import find_weights, load_weights

_C = 1e-6
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# torchvision's numbers of VGG-16's convolutions, stage by stage
_STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_WIDTHS = (64, 128, 256, 512, 512)


class DISTS(nn.Module):
    """Frozen DISTS; ``dists(images, references)`` is ``(B,)`` for images in [-1, 1].

    Pictures are taken at their size; the authors' program first shrinks to a short side of 256.

    Args:
        trunk: VGG-16's weights in torchvision's layout; torch's cache if None.
        head: the authors' ``weights.pt`` with alpha and beta; the copy that torchmetrics ships if
            None.

    Raises:
        MissingWeightsError: if one of them is not found.
        CheckpointError: if a file holds other tensors.
    """

    alpha: Tensor
    beta: Tensor

    def __init__(self, *, trunk: str | Path | None = None, head: str | Path | None = None) -> None:
        super().__init__()
        state = load_weights(find_weights("vgg", trunk))
        layers, channels = {}, 3
        for numbers, width in zip(_STAGES, _WIDTHS, strict=True):
            for number in numbers:
                layers[str(number)] = nn.Conv2d(channels, width, 3, padding=1, device="meta")
                channels = width
        self.layers = nn.ModuleDict(layers)
        wanted = {name: state.get(f"features.{name}") for name in self.layers.state_dict()}
        present = {name: tensor for name, tensor in wanted.items() if tensor is not None}
        learned = load_weights(find_weights("dists", head))
        try:
            self.layers.load_state_dict(present, assign=True)
            self.register_buffer("alpha", learned["alpha"].reshape(1, 3 + sum(_WIDTHS), 1, 1))
            self.register_buffer("beta", learned["beta"].reshape(1, 3 + sum(_WIDTHS), 1, 1))
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"weights of DISTS do not fit ({error}); expected torchvision's VGG-16 and the "
                "authors' alpha and beta"
            ) from error
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """Return the distance of each picture of ``(B, 3, H, W)``, both in [-1, 1]."""
        return dists_of_maps(self.maps(images), self.maps(references), self.alpha, self.beta)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the picture in [0, 1] and the last map of each stage."""
        x = (images + 1) / 2
        found = [x]
        mean, std = (torch.tensor(v).view(1, 3, 1, 1).to(x) for v in (_MEAN, _STD))
        x = (x - mean) / std
        for stage, numbers in enumerate(_STAGES):
            x = l2_pool(x) if stage else x
            for number in numbers:
                x = F.relu(self.layers[str(number)](x))
            found.append(x)
        return found


def l2_pool(maps: Tensor) -> Tensor:
    """Halve ``(B, C, H, W)``: the root of the squares' mean under a 3x3 Hann window."""
    channels = maps.shape[1]
    window = torch.hann_window(5, periodic=False, dtype=torch.float64)[1:-1]
    kernel = torch.outer(window, window)
    kernel = (kernel / kernel.sum()).to(maps).expand(channels, 1, 3, 3)
    squares = F.conv2d(maps.square(), kernel, stride=2, padding=1, groups=channels)
    return (squares + 1e-12).sqrt()


def dists_of_maps(
    maps: Sequence[Tensor], others: Sequence[Tensor], alpha: Tensor, beta: Tensor
) -> Tensor:
    """Return the distance ``(B,)`` of two lists of maps ``(B, C, h, w)``.

    Args:
        maps: of the images, the picture first.
        others: of the references.
        alpha: weights of texture, ``(1, sum of C, 1, 1)``.
        beta: weights of structure, the same shape.
    """
    total = alpha.sum() + beta.sum()
    channels = [x.shape[1] for x in maps]
    similarity = torch.zeros(maps[0].shape[0], dtype=maps[0].dtype, device=maps[0].device)
    weights = (torch.split(w / total, channels, dim=1) for w in (alpha, beta))
    for x, y, of_texture, of_structure in zip(maps, others, *weights, strict=True):
        mx, my = x.mean(dim=(2, 3), keepdim=True), y.mean(dim=(2, 3), keepdim=True)
        x, y = x - mx, y - my
        vx, vy, covariance = (v.mean(dim=(2, 3), keepdim=True) for v in (x * x, y * y, x * y))
        texture = (2 * mx * my + _C) / (mx.square() + my.square() + _C)
        structure = (2 * covariance + _C) / (vx + vy + _C)
        similarity = similarity + (of_texture * texture + of_structure * structure).sum((1, 2, 3))
    return 1 - similarity


__all__ = ["DISTS", "dists_of_maps", "l2_pool"]
