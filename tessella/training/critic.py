"""The discriminator's part of a training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from tessella.training.adversarial import Adversary, adaptive_weight

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Critic:
    """A discriminator in training.

    Args:
        adversary: the discriminator and its losses.
        network: the same, wrapped for precision and data parallelism.
        optimizer: its wrapped optimizer.
        accelerator: device, precision and processes.
    """

    adversary: Adversary
    network: nn.Module
    optimizer: Any
    accelerator: Accelerator

    def judge(self, outputs: Tensor, reconstruction: Tensor) -> Tensor:
        """Return the weighted adversarial term of the tokenizer's loss.

        Args:
            outputs: reconstructions ``(B, 3, H, W)`` with their graph.
            reconstruction: reconstruction loss, for the adaptive weight.
        """
        settings = self.adversary.settings
        with self.accelerator.autocast():
            term = self.adversary.judge(outputs)
        if settings.is_adaptive:
            factor = adaptive_weight(reconstruction, term, outputs)
            term = term * self.accelerator.reduce(factor, reduction="mean")
        return settings.weight * term

    def train_step(self, images: Tensor, outputs: Tensor) -> Tensor:
        """Change the discriminator once and return its loss."""
        loss: Tensor = self.network(images, outputs.detach())
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.optimizer.step()
        return loss


__all__ = ["Critic"]
