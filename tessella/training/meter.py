"""Running means of named numbers between two lines of the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


class Meter:
    """Sums on the device, so that adding does not wait for it.

    Args:
        device: where the numbers live.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one number for each name."""
        for name, value in values.items():
            number = value.detach().to(self.device, torch.float32)
            self._sums[name] = self._sums[name] + number if name in self._sums else number.clone()
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Return the mean of each name since the last :meth:`clear`."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def clear(self) -> None:
        """Start again."""
        self._sums, self._counts = {}, {}

    def share(self, accelerator: Accelerator) -> None:
        """Average the sums over the processes; a collective call."""
        if accelerator.num_processes == 1 or not self._sums:
            return
        names = sorted(self._sums)
        shared = accelerator.reduce(torch.stack([self._sums[n] for n in names]), reduction="mean")
        self._sums = dict(zip(names, shared.unbind(), strict=True))

    def state(self) -> dict[str, Any]:
        """Return the sums as JSON values; floats come back exactly."""
        return {
            "sums": {name: float(total) for name, total in self._sums.items()},
            "counts": dict(self._counts),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        self._sums = {
            name: torch.tensor(total, dtype=torch.float32, device=self.device)
            for name, total in state["sums"].items()
        }
        self._counts = {name: int(count) for name, count in state["counts"].items()}


__all__ = ["Meter"]
