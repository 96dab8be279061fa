"""LPIPS (arXiv 1801.03924): distance of two images in the features of a classification network.

The package ``lpips`` brings the learned weights of the distance, not those of the network under it;
they are read from torch's cache and never downloaded here.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from tessella.errors import CheckpointError, MissingDependencyError

Network = Literal["vgg", "alex", "squeeze"]

_TRUNKS = {
    "vgg": "vgg16-397923af.pth",
    "alex": "alexnet-owt-7be5be79.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}


class LPIPS(nn.Module):
    """Frozen LPIPS; ``lpips(images, references)`` is ``(B,)`` for images in [-1, 1].

    Args:
        network: ``alex`` is usual in reports, ``vgg`` as a training loss; never mix their numbers.

    Raises:
        MissingDependencyError: if the package ``lpips`` is not installed.
        CheckpointError: if the network's weights are not in torch's cache.
    """

    def __init__(self, network: Network = "vgg") -> None:
        super().__init__()
        try:
            import lpips
        except ImportError as error:
            raise MissingDependencyError(
                "LPIPS needs the package lpips: pip install lpips"
            ) from error
        path = trunk_path(network)
        if not path.is_file():
            raise CheckpointError(
                f"LPIPS needs the weights {path.name} of its network {network!r}, which are not "
                f"in {path.parent}: put the file there (nothing is downloaded)"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision's, about arguments that lpips passes
            self.distance = lpips.LPIPS(net=network, verbose=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """Return the distance of each picture of ``(B, 3, H, W)``, both in [-1, 1]."""
        distance: Tensor = self.distance(images, references)
        return distance.flatten()


def trunk_path(network: Network) -> Path:
    """Return where the weights of a network are expected."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _TRUNKS[network]


__all__ = ["LPIPS", "Network", "trunk_path"]
