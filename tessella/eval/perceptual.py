"""LPIPS (arXiv 1801.03924): distance of two images in the features of a classification network.

::

    lpips = sum over layers of mean over positions of w . (f / |f| - g / |g|)^2

The package ``lpips`` brings the learned weights ``w``, not those of the network under it; they are
read from a path or from torch's cache and never downloaded here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tessella.errors import CheckpointError, MissingDependencyError
from tessella.eval.weights import PUBLISHED, cache_folder, find_weights, load_weights

Network = Literal["vgg", "alex", "squeeze"]

_EPSILON = 1e-10


class LPIPS(nn.Module):
    """Frozen LPIPS; ``lpips(images, references)`` is ``(B,)`` for images in [-1, 1].

    Args:
        network: ``alex`` is usual in reports, ``vgg`` as a training loss; never mix their numbers.
        weights: file of the network's weights in torchvision's layout; torch's cache if None.

    Raises:
        MissingDependencyError: if the package ``lpips`` is not installed.
        MissingWeightsError: if the network's weights are not found.
        CheckpointError: if the file is of another network.
    """

    def __init__(self, network: Network = "vgg", *, weights: str | Path | None = None) -> None:
        super().__init__()
        try:
            import lpips
        except ImportError as error:
            raise MissingDependencyError(
                "LPIPS needs the package lpips: pip install lpips"
            ) from error
        path = find_weights(network, weights)
        # the network is built with random values, which must not move the caller's random numbers
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # torchvision's, about arguments that lpips passes
            self.distance = lpips.LPIPS(net=network, pnet_rand=True, verbose=False)
        _load_trunk(self.distance.net, path)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """Return the distance of each picture of ``(B, 3, H, W)``, both in [-1, 1]."""
        maps, others = (
            list(self.distance.net(self.distance.scaling_layer(x))) for x in (images, references)
        )
        layer_weights = [lin.model[-1].weight for lin in self.distance.lins]
        return torch.stack(layer_distances(maps, others, layer_weights)).sum(dim=0)


def layer_distances(
    maps: Sequence[Tensor], others: Sequence[Tensor], layer_weights: Sequence[Tensor]
) -> list[Tensor]:
    """Return each layer's share of the distance, ``(B,)``.

    Args:
        maps: feature maps ``(B, C, h, w)`` of the images, one a layer.
        others: those of the references.
        layer_weights: ``(1, C, 1, 1)`` each.
    """
    found = []
    for x, y, weight in zip(maps, others, layer_weights, strict=True):
        difference = (_unit(x) - _unit(y)).square()
        found.append((difference * weight).sum(dim=1).mean(dim=(1, 2)))
    return found


def trunk_path(network: Network) -> Path:
    """Return where the weights of a network are expected."""
    return cache_folder() / PUBLISHED[network].file


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(dim=1, keepdim=True).sqrt() + _EPSILON)


def _load_trunk(trunk: Any, path: Path) -> None:
    """Load torchvision's ``features.N.*`` into the slices, which keep the numbers N."""
    state = load_weights(path)
    ours = {}
    for name in trunk.state_dict():
        key = f"features.{name.partition('.')[2]}"
        if key not in state:
            raise CheckpointError(
                f"{path} has no tensor {key}; expected torchvision's state dict of the network "
                "that LPIPS was asked for"
            )
        ours[name] = state[key]
    try:
        trunk.load_state_dict(ours)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is of another network: {error}") from error


__all__ = ["LPIPS", "Network", "layer_distances", "trunk_path"]
