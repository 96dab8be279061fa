"""A linear layer that is fast for the few rows of a generator on CPUs.

A float32 matrix product of some dozens or hundreds of rows spends much of its time rearranging the
weights for the processor's vector units, at every call. Here this is done once, through the op that
torch's own compiler uses, and kept beside the weights while gradients are off.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["none", "gelu_tanh"]

#: rows that the packed layout is chosen for; it serves any number
_TYPICAL_ROWS = 256
#: weights smaller than this are as fast unpacked
_MIN_WEIGHTS = 2**14


class PackedLinear(nn.Linear):
    """Linear layer ``y = act(x W^T + b)`` that remembers its weights in the fastest arrangement.

    The copy costs as much memory as the weights; it exists where :func:`allow_packing` allowed it.
    """

    _packed: Tensor | None = None
    _packed_from: tuple[int, int, int] | None = None
    may_pack = False

    def forward(self, input: Tensor, activation: Activation = "none") -> Tensor:
        """Transform ``(..., in)`` to ``(..., out)``."""
        if not (self.may_pack and self._can_pack(input)):
            out = F.linear(input, self.weight, self.bias)
            return F.gelu(out, approximate="tanh") if activation == "gelu_tanh" else out
        name, algorithm = ("gelu", "tanh") if activation == "gelu_tanh" else ("none", "")
        return cast(
            Tensor,
            torch.ops.mkldnn._linear_pointwise(
                input, self._current_packed(), self.bias, name, [], algorithm
            ),
        )

    def _can_pack(self, x: Tensor) -> bool:
        return (
            not torch.is_grad_enabled()
            and x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and self.weight.numel() >= _MIN_WEIGHTS
            and _has_packing()
        )

    def _current_packed(self) -> Tensor:
        weight = self.weight
        version = 0 if weight.is_inference() else weight._version
        source = (weight.data_ptr(), version, id(weight))
        if self._packed is None or self._packed_from != source:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _TYPICAL_ROWS)
            self._packed_from = source
        return self._packed

    def __getstate__(self) -> dict[str, Any]:
        """Leave the packed copy out of copies of the module: its memory cannot be copied."""
        return {**self.__dict__, "_packed": None, "_packed_from": None}

    def forget(self) -> None:
        """Drop the packed copy."""
        self._packed = self._packed_from = None


def allow_packing(model: nn.Module, allowed: bool) -> None:
    """Let the packed layers of a model keep packed copies of their weights, or drop them."""
    for module in model.modules():
        if isinstance(module, PackedLinear):
            module.may_pack = allowed
            if not allowed:
                module.forget()


def _has_packing() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


__all__ = ["Activation", "PackedLinear", "allow_packing"]
