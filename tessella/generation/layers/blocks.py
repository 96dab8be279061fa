"""A transformer block and a head that a condition modulates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tessella.errors import ShapeError
from tessella.generation.kv_cache.base import KVCache
from tessella.generation.layers.attention import Rotation, ScaleAttention
from tessella.generation.layers.cross_attention import TextKeys
from tessella.generation.layers.modulated import Modulation, add_branch, modulated
from tessella.generation.layers.packed_linear import PackedLinear


class Perceptron(nn.Module):
    """Two layers with GELU (tanh form) between them.

    Args:
        width: channels ``C``.
        hidden: channels between.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = PackedLinear(width, hidden)
        self.fc2 = PackedLinear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(..., C)``."""
        out: Tensor = self.fc2(self.fc1(x, "gelu_tanh"))
        return out


class BlockContext(NamedTuple):
    """What a block reads besides its tokens and its modulation.

    Args:
        rotation: rotary positions of the tokens.
        text: keys and values of a text, for blocks that attend to one.
    """

    rotation: Rotation | None = None
    text: TextKeys | None = None


_NOTHING = BlockContext()


class ModulatedBlock(nn.Module):
    """Attention and a perceptron, each modulated by a condition.

    Args:
        width: channels ``C``.
        heads: attention heads.
        hidden: channels inside the perceptron.
        is_modulation_shared: the modulation is that of all blocks plus an offset.
        is_normalized: queries and keys have length one.
        drop_path: rate at which a branch is dropped for a picture, in training.
        eps: of the normalisations.
    """

    def __init__(  # the numbers of a block
        self,
        width: int,
        heads: int,
        *,
        hidden: int,
        is_modulation_shared: bool,
        is_normalized: bool,
        drop_path: float,
        eps: float,
    ) -> None:
        super().__init__()
        self.attention = ScaleAttention(width, heads, is_normalized=is_normalized)
        self.perceptron = Perceptron(width, hidden)
        self.modulation: PackedLinear | None = None
        if is_modulation_shared:
            self.modulation_offset = nn.Parameter(torch.empty(1, 1, 6, width))
        else:
            self.modulation = PackedLinear(width, 6 * width)
        self.drop_path = drop_path
        self.eps = eps

    def modulation_of(self, active: Tensor, shared: Tensor | None) -> Modulation:
        """Return the modulation of this block.

        Args:
            active: ``SiLU(condition)``, ``(B, C)``.
            shared: ``(B, 6 C)`` that all blocks share, or None.
        """
        if self.modulation is not None:
            return Modulation.split(self.modulation(active))
        if shared is None:
            raise ShapeError("no shared modulation given; this block has none of its own")
        joined = shared.view(len(shared), 1, 6, -1) + self.modulation_offset
        return Modulation.split(joined)

    def forward(
        self,
        x: Tensor,
        modulation: Modulation,
        ends: Sequence[int],
        generator: torch.Generator | None = None,
        context: BlockContext = _NOTHING,
    ) -> Tensor:
        """Transform a sequence of whole scales ``(B, N, C)``."""
        y = modulated(x, modulation.scale1, modulation.shift1, self.eps)
        branch = self.attention(y, ends, context.rotation)
        x = self._add(x, modulation.gamma1, branch, generator)
        x = self._read(x, context)
        y = modulated(x, modulation.scale2, modulation.shift2, self.eps)
        return self._add(x, modulation.gamma2, self.perceptron(y), generator)

    def step(
        self,
        x: Tensor,
        modulation: Modulation,
        layer: int,
        cache: KVCache,
        context: BlockContext = _NOTHING,
    ) -> Tensor:
        """Transform one scale ``(R, n_k, C)``, which may be overwritten."""
        y = modulated(x, modulation.scale1, modulation.shift1, self.eps)
        branch = self.attention.step(y, layer, cache, context.rotation)
        x = self._read(add_branch(x, modulation.gamma1, branch), context)
        y = modulated(x, modulation.scale2, modulation.shift2, self.eps)
        return add_branch(x, modulation.gamma2, self.perceptron(y))

    def _read(self, x: Tensor, context: BlockContext) -> Tensor:
        """Add what a subclass reads between attention and perceptron; here nothing."""
        return x

    def _add(
        self, x: Tensor, gamma: Tensor, branch: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        return torch.addcmul(x, gamma, dropped(branch, self.drop_path, self.training, generator))


class ModulatedHead(nn.Module):
    """``Linear(LN(x) (1 + scale) + shift)`` with scale and shift from a condition.

    Args:
        width: channels ``C``.
        out: number of logits of a token.
        eps: of the normalisation.
    """

    def __init__(self, width: int, out: int, *, eps: float) -> None:
        super().__init__()
        self.modulation = PackedLinear(width, 2 * width)
        self.out = PackedLinear(width, out)
        self.eps = eps

    def modulation_of(self, active: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift ``(B, 1, C)`` for ``SiLU(condition)`` ``(B, C)``."""
        scale, shift = self.modulation(active).unsqueeze(1).chunk(2, dim=-1)
        return scale, shift

    def forward(self, x: Tensor, modulation: tuple[Tensor, Tensor]) -> Tensor:
        """Return logits ``(B, N, out)``."""
        logits: Tensor = self.out(self.normed(x, modulation))
        return logits

    def normed(self, x: Tensor, modulation: tuple[Tensor, Tensor]) -> Tensor:
        """Return what the linear layer reads, ``(B, N, C)``."""
        return modulated(x, *modulation, self.eps)

    def mixed(
        self, x: Tensor, modulation: tuple[Tensor, Tensor], weight: float, batch: int
    ) -> Tensor:
        """Return guided logits ``(B, N, out)``: ``weight`` conditional + the rest unconditional.

        The linear layer runs once, on the mixture of its inputs: the weights add up to one, so that
        its bias stays as it is.

        Args:
            x: ``(R, N, C)``, conditional rows first.
            modulation: of all rows.
            weight: share of the conditional prediction.
            batch: number of conditional rows.
        """
        if weight == 1:
            scale, shift = (part[:batch] for part in modulation)
            return self.forward(x[:batch], (scale, shift))
        normed = self.normed(x, modulation)
        logits: Tensor = self.out(torch.lerp(normed[batch:], normed[:batch], weight))
        return logits


def dropped(
    branch: Tensor, rate: float, is_training: bool, generator: torch.Generator | None
) -> Tensor:
    """Drop a branch for whole pictures ``(B, ...)`` at a rate, and scale up the others."""
    if not (rate and is_training):
        return branch
    device = torch.device("cpu") if generator is None else generator.device
    chance = torch.rand(len(branch), generator=generator, device=device).to(branch.device)
    kept = (chance >= rate).to(branch.dtype) / (1 - rate)
    return branch * kept.view(-1, *(1,) * (branch.ndim - 1))


__all__ = ["BlockContext", "ModulatedBlock", "ModulatedHead", "Perceptron", "dropped"]
