"""Linear maps around a quantizer: low-dimensional codes for wide features (arXiv 2110.04627)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tessella.errors import ShapeError
from tessella.tokenizers.quantizers.base import Quantized, Quantizer


class ProjectedQuantizer(Quantizer):
    """``project_in`` -> inner quantizer -> ``project_out``; indices are the inner ones.

    Args:
        inner: quantizer of the narrow space.
        dim: width ``D`` outside.
    """

    def __init__(self, inner: Quantizer, dim: int) -> None:
        super().__init__(dim, inner.vocab_sizes, index_order=inner.index_order)
        self.inner = inner
        self.project_in = nn.Linear(dim, inner.dim)
        self.project_out = nn.Linear(inner.dim, dim)
        self.allows_missing = inner.allows_missing

    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        out = self.inner(_linear(self.project_in, z), generator=generator)
        return Quantized(_linear(self.project_out, out.z_q), out.indices, out.losses, out.stats)

    def _decode(self, indices: Tensor) -> Tensor:
        return _linear(self.project_out, self.inner.indices_to_codes(indices))

    def _index(self, codes: Tensor) -> Tensor:
        if self.dim < self.inner.dim:
            raise ShapeError(
                f"codes of width {self.dim}, projected from width {self.inner.dim}, given: the "
                "projection cannot be undone; keep the indices that forward() returned"
            )
        weight, bias = self.project_out.weight.float(), self.project_out.bias.float()
        narrow = (codes - bias) @ torch.linalg.pinv(weight).T
        return self.inner.codes_to_indices(narrow)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    bias = layer.bias.float() if layer.bias is not None else None
    return nn.functional.linear(x, layer.weight.float(), bias)


__all__ = ["ProjectedQuantizer"]
