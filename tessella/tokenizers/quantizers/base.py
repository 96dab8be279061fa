"""The contract of every bottleneck between an encoder and a decoder.

::

    z (..., input_dim) --forward--> Quantized(z_q (..., dim), indices (..., G), losses, stats)
    indices (..., G) --indices_to_codes--> codes (..., dim) --codes_to_indices--> indices

:class:`Quantizer` is the discrete case; a continuous bottleneck (Gaussian KL) derives from
:class:`Bottleneck` directly: its ``vocab_sizes`` are empty and its ``indices`` have ``G = 0``.

Rules that hold for all of them:

* vectors are channel-last; ``dim`` is the width of the codes;
* ``losses`` holds *weighted* terms: their sum is the bottleneck's training loss. The raw values
  behind them, and other numbers worth a curve, are in ``stats`` (detached);
* in evaluation mode there is no side effect, ``losses`` is empty and ``z_q`` is the exact code;
* everything is computed in float32 with autocast off, whatever the input's dtype; only ``z_q``
  returns to the input's dtype;
* ``z_q`` equals the code exactly in training too, gradients are those of the estimator.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.quantizers.indices import BitOrder, flatten_radix, unflatten_radix

_CONTINUOUS_BITS = 32
MAX_VOCAB = 2**62  # an index and its alphabet's size must both fit int64


class Quantized(NamedTuple):
    """What a bottleneck makes of a batch of vectors.

    Args:
        z_q: ``(..., D)`` codes, with the estimator's gradient to the input.
        indices: ``(..., G)`` int64; ``G = 0`` for a continuous bottleneck.
        losses: weighted scalar terms; empty in evaluation mode.
        stats: raw values for the log, detached.
    """

    z_q: Tensor
    indices: Tensor
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """Sum of the weighted terms; zero when there are none."""
        zero = torch.zeros((), device=self.z_q.device)
        return sum(self.losses.values(), start=zero)


class Bottleneck(nn.Module, ABC):
    """Anything between an encoder and a decoder.

    Args:
        input_dim: width of ``z``.
        dim: width of ``z_q``.
    """

    def __init__(self, input_dim: int, dim: int) -> None:
        super().__init__()
        if input_dim < 1 or dim < 1:
            raise ConfigError(f"widths {input_dim} and {dim} given; expected at least 1")
        self._input_dim = input_dim
        self._dim = dim

    @property
    def input_dim(self) -> int:
        """Width of the vectors that :meth:`forward` takes."""
        return self._input_dim

    @property
    def dim(self) -> int:
        """Width of the codes."""
        return self._dim

    @property
    @abstractmethod
    def vocab_sizes(self) -> tuple[int, ...]:
        """Alphabet of each of the ``G`` indices of a token; empty when continuous."""

    @property
    def is_continuous(self) -> bool:
        """Whether tokens are floats rather than indices."""
        return not self.vocab_sizes

    @property
    def bits_per_token(self) -> float:
        """Uncoded size of one token in bits: sum of log2 of the alphabets, or 32 a float."""
        if self.is_continuous:
            return float(_CONTINUOUS_BITS * self.dim)
        return sum(math.log2(size) for size in self.vocab_sizes)

    def forward(self, z: Tensor, *, generator: torch.Generator | None = None) -> Quantized:
        """Quantize vectors.

        Args:
            z: ``(..., input_dim)`` floats.
            generator: source of randomness where a method needs it; None is torch's global one.

        Returns:
            The codes with gradients, indices, weighted losses and raw stats.

        Raises:
            ShapeError: if ``z`` is not a float tensor of width ``input_dim``.
        """
        _check_vectors(z, self.input_dim, "z")
        with without_autocast(z.device):
            out = self._quantize(z.float(), generator)
        return out._replace(z_q=out.z_q.to(z.dtype))

    @abstractmethod
    def _quantize(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        """Quantize float32 vectors ``(..., input_dim)`` with autocast off."""


class Quantizer(Bottleneck):
    """A discrete bottleneck: vectors to indices and exact codes.

    Args:
        dim: width ``D`` of the vectors and codes.
        vocab_sizes: alphabet of each of the ``G`` indices of a token.
        index_order: which group is least significant in :meth:`flatten_indices`: the first
            ("lsb") or the last ("msb").
    """

    #: whether index -1, or fewer indices than G, stand for levels that are left out
    allows_missing = False

    def __init__(
        self, dim: int, vocab_sizes: Sequence[int], *, index_order: BitOrder = "lsb"
    ) -> None:
        super().__init__(dim, dim)
        if not vocab_sizes or min(vocab_sizes) < 2 or max(vocab_sizes) > MAX_VOCAB:
            raise ConfigError(
                f"vocab_sizes {tuple(vocab_sizes)} given; expected at least one alphabet, "
                "each of 2 to 2^62 entries: split longer codes into more groups"
            )
        self._vocab_sizes = tuple(int(size) for size in vocab_sizes)
        self.index_order: BitOrder = index_order

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Alphabet of each of the ``G`` indices of a token."""
        return self._vocab_sizes

    @property
    def groups(self) -> int:
        """Number ``G`` of indices of a token."""
        return len(self._vocab_sizes)

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Look up exact codes.

        Args:
            indices: ``(..., G)`` integers; residual quantizers also take the first ``q <= G``
                and -1 for levels that are left out.

        Returns:
            ``(..., D)`` float32 codes.

        Raises:
            ShapeError: if the dtype, the number of groups or a value does not fit.
        """
        indices = self._checked_indices(indices)
        with without_autocast(indices.device):
            return self._decode(indices)

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        """Return the indices ``(..., G)`` of exact codes ``(..., D)``.

        Raises:
            ShapeError: if ``codes`` is not a float tensor of width ``D``.
        """
        _check_vectors(codes, self.dim, "codes")
        with torch.no_grad(), without_autocast(codes.device):
            return self._index(codes.float())

    def flatten_indices(self, indices: Tensor) -> Tensor:
        """Join the ``G`` indices ``(..., G)`` of a token into one ``(...)``.

        Raises:
            ShapeError: if the product of the alphabets exceeds 2^62, or an index its alphabet.
        """
        indices = self._checked_indices(indices)
        return flatten_radix(indices, self.vocab_sizes, order=self.index_order)

    def unflatten_indices(self, flat: Tensor) -> Tensor:
        """Split joint indices ``(...)`` into ``(..., G)``; the inverse of flattening."""
        return unflatten_radix(flat, self.vocab_sizes, order=self.index_order)

    @abstractmethod
    def _decode(self, indices: Tensor) -> Tensor:
        """Look up float32 codes of checked int64 indices."""

    @abstractmethod
    def _index(self, codes: Tensor) -> Tensor:
        """Find the indices of exact float32 codes."""

    def _checked_indices(self, indices: Tensor) -> Tensor:
        shape, dtype = tuple(indices.shape), indices.dtype
        if dtype == torch.bool or indices.is_floating_point() or indices.is_complex():
            raise ShapeError(f"indices of dtype {dtype} given; expected integers")
        given = shape[-1] if shape else 0
        if given != self.groups and not (self.allows_missing and 0 < given < self.groups):
            raise ShapeError(f"indices of shape {shape} given; expected (..., {self.groups})")
        indices = indices.to(torch.int64)
        sizes = torch.tensor(self.vocab_sizes[:given], device=indices.device)
        lowest = -1 if self.allows_missing else 0
        if bool(((indices < lowest) | (indices >= sizes)).any()):
            raise ShapeError(
                f"indices from {int(indices.min())} to {int(indices.max())} given; "
                f"expected {lowest} to below the alphabets {_brief(self.vocab_sizes)}"
            )
        return indices


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Switch autocast off on a device that knows it."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _check_vectors(vectors: Tensor, dim: int, name: str) -> None:
    if not vectors.is_floating_point():
        raise ShapeError(f"{name} of dtype {vectors.dtype} given; expected floats (..., {dim})")
    if vectors.ndim == 0 or vectors.shape[-1] != dim:
        raise ShapeError(
            f"{name} of shape {tuple(vectors.shape)} given; expected channel-last (..., {dim})"
        )


def _brief(sizes: tuple[int, ...]) -> str:
    if len(set(sizes)) == 1 and len(sizes) > 1:
        return f"{len(sizes)} x {sizes[0]}"
    return ", ".join(map(str, sizes))


__all__ = ["MAX_VOCAB", "Bottleneck", "Quantized", "Quantizer", "without_autocast"]
