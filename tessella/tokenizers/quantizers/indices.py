"""Bits to indices and mixed-radix indices to one number, in integers throughout.

Half precision cannot count (bfloat16 stops at 256), so nothing here touches floats. The loops run
over bits or groups and keep temporaries at the size of the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tessella.errors import ShapeError

BitOrder = Literal["lsb", "msb"]

MAX_FLAT = 2**62


def bits_to_index(bits: Tensor, *, order: BitOrder = "lsb") -> Tensor:
    """Read bits as binary numbers.

    Args:
        bits: ``(..., n)`` booleans, ``n <= 62``.
        order: "lsb" when the first bit is the least significant, "msb" when the most.

    Returns:
        ``(...)`` int64.
    """
    width = bits.shape[-1]
    index = torch.zeros(bits.shape[:-1], dtype=torch.int64, device=bits.device)
    for j in range(width):
        index |= bits[..., j].to(torch.int64) << _shift(j, width, order)
    return index


def index_to_signs(index: Tensor, width: int, *, order: BitOrder = "lsb") -> Tensor:
    """Write the bits of ``(...)`` int64 numbers as -1 and +1, ``(..., width)`` float32."""
    signs = torch.empty((*index.shape, width), dtype=torch.float32, device=index.device)
    for j in range(width):
        signs[..., j] = (index >> _shift(j, width, order)) & 1
    return signs.mul_(2).sub_(1)


def flatten_radix(indices: Tensor, sizes: Sequence[int], *, order: BitOrder = "lsb") -> Tensor:
    """Join digits ``(..., G)`` of the given radices into one number ``(...)``.

    Raises:
        ShapeError: if the product of the radices exceeds 2^62.
    """
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=indices.device)
    for digit, stride in zip(indices.unbind(-1), _strides(sizes, order), strict=True):
        flat += digit * stride
    return flat


def unflatten_radix(flat: Tensor, sizes: Sequence[int], *, order: BitOrder = "lsb") -> Tensor:
    """Split numbers ``(...)`` into digits ``(..., G)`` of the given radices.

    Raises:
        ShapeError: if a number lies outside the product of the radices.
    """
    strides = _strides(sizes, order)
    total = math.prod(sizes)
    if flat.is_floating_point() or flat.dtype == torch.bool:
        raise ShapeError(f"flat indices of dtype {flat.dtype} given; expected integers")
    flat = flat.to(torch.int64)
    if bool(((flat < 0) | (flat >= total)).any()):
        raise ShapeError(
            f"flat indices from {int(flat.min())} to {int(flat.max())} given; "
            f"expected 0 to {total - 1}"
        )
    digits = [
        flat.div(stride, rounding_mode="floor").remainder(size)
        for size, stride in zip(sizes, strides, strict=True)
    ]
    return torch.stack(digits, dim=-1)


def _strides(sizes: Sequence[int], order: BitOrder) -> list[int]:
    if math.prod(sizes) > MAX_FLAT:
        raise ShapeError(
            f"alphabets whose product has {math.log2(math.prod(sizes)):.1f} bits given; one "
            "int64 index holds 62: keep one index a group"
        )
    ordered = list(sizes) if order == "lsb" else list(reversed(sizes))
    strides = [math.prod(ordered[:i]) for i in range(len(ordered))]
    return strides if order == "lsb" else strides[::-1]


def _shift(j: int, width: int, order: BitOrder) -> int:
    return j if order == "lsb" else width - 1 - j


__all__ = [
    "BitOrder",
    "bits_to_index",
    "flatten_radix",
    "index_to_signs",
    "unflatten_radix",
]
