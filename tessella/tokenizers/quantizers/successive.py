"""Successive group-wise lookup-free quantization: signs of what the earlier signs left over.

Plain group-wise lookup-free codes (WeTok, arXiv 2508.05599) take the sign of every latent channel
on its own, so a network must learn to fold a channel to give its second bit. Here each bit is the
sign of a *residual*, as in residual quantization (SoundStream, arXiv 2107.03312), without a table:

    s_0 = 0
    u_j = <z - s_{j-1}, a_j> / g_j        b_j = sign(u_j)        s_j = s_{j-1} + g_j b_j v_j

with learned directions ``a_j, v_j`` and a positive step ``g_j``, fixed within a group and, from the
second group on, a small network of the state that the earlier groups left (backward adaptive, as
in QINCo, arXiv 2401.14732). The first groups therefore carry the coarse picture and later ones
refine it: any prefix of groups is a valid code. Inside a group the feedback only needs the 8 x 8
matrix ``<v_i, a_j>``, so the cost is O(tokens x dim) and nothing has 2^bits rows.

The straight-through gradient passes where ``|u| <= 2``: beyond it this bit is saturated, and since
``u`` of the next bit contains the residual, the gradient of the whole chain is that of a uniform
quantizer: one inside its range, zero outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.quantizers.base import without_autocast
from tessella.tokenizers.quantizers.indices import bits_to_index, index_to_signs
from tessella.tokens import ABSENT

_SATURATION = 2.0  # a bit's cell reaches from 0 to two steps
_MAX_LOG_STEP = 2.0  # steps adapt by at most e^2 either way


class SuccessiveCodes(NamedTuple):
    """What the quantizer makes of latents.

    Args:
        states: ``(G, ..., D)``; ``states[q - 1]`` is the latent that the first ``q`` groups give.
        indices: ``(..., G)`` int64, first bit of a group least significant.
    """

    states: Tensor
    indices: Tensor


class SuccessiveGQ(nn.Module):
    """Successive sign quantizer with ``groups`` ordered groups of ``group_bits`` bits.

    Args:
        dim: width ``D`` of the latents.
        groups: number ``G`` of groups, most important first.
        group_bits: bits of a group.
        hidden: width of the network that adapts the steps to the state.
    """

    def __init__(self, dim: int, *, groups: int = 8, group_bits: int = 8, hidden: int = 48) -> None:
        super().__init__()
        if min(dim, groups, hidden) < 1 or not 1 <= group_bits <= 16:
            raise ConfigError(
                f"dim={dim}, groups={groups}, group_bits={group_bits}, hidden={hidden} given; "
                "expected at least 1 each, and at most 16 bits in a group"
            )
        self.dim, self.groups, self.group_bits = dim, groups, group_bits
        self.analysis = nn.Parameter(torch.randn(groups, dim, group_bits) * 0.1)
        self.synthesis = nn.Parameter(torch.randn(groups, group_bits, dim) * 0.1)
        self.step_hidden = nn.Parameter(torch.randn(groups, dim, hidden) * 0.15)
        self.step_bias = nn.Parameter(torch.zeros(groups, hidden))
        self.step_out = nn.Parameter(torch.zeros(groups, hidden, group_bits))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SuccessiveGQ:
        """Move to a device but keep float32 when the model is cast.

        These tensors are what tokens mean: rounding them would give another token space, whose
        tokens no other copy of the model decodes.
        """

        def moved(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            narrowed = new.dtype not in (tensor.dtype, torch.float32)
            return tensor.to(new.device) if narrowed else new

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Alphabet of each group."""
        return (2**self.group_bits,) * self.groups

    def forward(self, latents: Tensor) -> SuccessiveCodes:
        """Quantize latents ``(..., D)``, with straight-through gradients."""
        if latents.shape[-1] != self.dim:
            raise ShapeError(f"latents of width {latents.shape[-1]} given; expected {self.dim}")
        states, indices = [], []
        with without_autocast(latents.device):
            latents = latents.float()
            state = torch.zeros_like(latents)
            for group in range(self.groups):
                steps = self._steps(group, state)
                signs, scaled = self._signs(group, latents - state, steps)
                state = state + scaled @ self.synthesis[group]
                states.append(state)
                indices.append(bits_to_index(signs > 0))
        return SuccessiveCodes(torch.stack(states), torch.stack(indices, dim=-1))

    @torch.no_grad()
    def latents_to_indices(self, latents: Tensor) -> Tensor:
        """Return the indices ``(..., G)`` of latents ``(..., D)``, several times faster.

        Directions and step network look at the state in one product, bits are rows, contiguous in
        memory, and the feedback is a rank-one update of the rows below.
        """
        if latents.shape[-1] != self.dim:
            raise ShapeError(f"latents of width {latents.shape[-1]} given; expected {self.dim}")
        bits = self.group_bits
        with without_autocast(latents.device):
            flat = latents.reshape(-1, self.dim).float()
            projected = self.analysis.transpose(1, 2).flatten(0, 1) @ flat.T
            state = torch.zeros_like(flat)
            indices = []
            for group in range(self.groups):
                rows = projected[group * bits : (group + 1) * bits]
                steps = torch.ones_like(rows)
                if group:
                    seen = state @ torch.cat([self.analysis[group], self.step_hidden[group]], 1)
                    rows = rows - seen[:, :bits].T
                    steps = self._steps_of(group, seen[:, bits:]).T.contiguous()
                scaled = self._feed_back(group, rows, steps)
                indices.append(bits_to_index((scaled > 0).T))
                state.addmm_(scaled.T, self.synthesis[group])
            return torch.stack(indices, dim=-1).reshape(*latents.shape[:-1], self.groups)

    def _feed_back(self, group: int, rows: Tensor, steps: Tensor) -> Tensor:
        """Return the signs of ``rows`` ``(group_bits, N)`` times their steps; uses ``rows`` up.

        Steps are positive, so dividing by them does not matter to a sign.
        """
        feedback = self.synthesis[group] @ self.analysis[group]
        opposite, scaled = -steps, torch.empty_like(steps)
        for j in range(self.group_bits):
            torch.where(rows[j] > 0, steps[j], opposite[j], out=scaled[j])
            rows[j + 1 :].addr_(feedback[j, j + 1 :], scaled[j], alpha=-1)
        return scaled

    def indices_to_state(self, indices: Tensor) -> Tensor:
        """Return the latent ``(..., D)`` of the first ``q <= G`` groups ``(..., q)``.

        A position whose last groups are absent gets the latent of those that it has.
        """
        given = indices.shape[-1]
        if not 1 <= given <= self.groups:
            raise ShapeError(f"{given} groups given; expected 1 to {self.groups}")
        with without_autocast(indices.device):
            shape = (*indices.shape[:-1], self.dim)
            state = torch.zeros(shape, device=indices.device, dtype=torch.float32)
            is_here = indices != ABSENT
            is_whole = bool(is_here.all())
            for group in range(given):
                signs = index_to_signs(indices[..., group], self.group_bits).float()
                if not is_whole:
                    signs *= is_here[..., group, None]
                steps = self._steps(group, state)
                scaled = signs if steps is None else signs * steps
                state = state + scaled @ self.synthesis[group]
            return state

    def _steps(self, group: int, state: Tensor) -> Tensor | None:
        """Return the steps ``(..., group_bits)`` of a group; None stands for one."""
        if group == 0:  # nothing is known yet
            return None
        return self._steps_of(group, state.detach() @ self.step_hidden[group])

    def _steps_of(self, group: int, hidden: Tensor) -> Tensor:
        """Return the steps of a group from what its network sees, ``(..., hidden)``."""
        hidden = F.leaky_relu(hidden + self.step_bias[group], 0.1)
        logs = hidden @ self.step_out[group]
        return logs.clamp(-_MAX_LOG_STEP, _MAX_LOG_STEP).exp()

    def _signs(self, group: int, residual: Tensor, steps: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return signs and scaled straight-through signs, ``(..., group_bits)`` each."""
        analysis, synthesis = self.analysis[group], self.synthesis[group]
        projected = residual @ analysis
        feedback = synthesis @ analysis  # (bits, bits): what bit i takes from the input of bit j
        scaled: list[Tensor] = []
        signs: list[Tensor] = []
        for j in range(self.group_bits):
            u = projected[..., j]
            if j:
                u = u - torch.stack(scaled, dim=-1) @ feedback[:j, j]
            if steps is not None:
                u = u / steps[..., j].detach()
            sign = torch.where(u > 0, 1.0, -1.0)
            soft = u.clamp(-_SATURATION, _SATURATION)
            passed = sign + (soft - soft.detach())
            scaled.append(passed if steps is None else passed * steps[..., j])
            signs.append(sign.detach())
        return torch.stack(signs, dim=-1), torch.stack(scaled, dim=-1)

    @torch.no_grad()
    def initialize(self, latents: Tensor, importance: Tensor) -> None:
        """Choose axis-aligned directions and steps greedily for typical latents.

        Bit after bit goes to the channel whose residual, times its importance, is largest:
        reverse water-filling for sign bits. Each step is the mean magnitude of the residual, the
        least-squares step of a sign quantizer. Channels beyond the given ones start outside the
        code, but every bit looks at them a little, so that training can give them a meaning.

        Args:
            latents: ``(N, C)`` of the first ``C <= D`` channels.
            importance: ``(C,)``; how much a unit of each channel weighs in the picture.
        """
        residual = latents.float().clone()
        self.synthesis.zero_()
        self.analysis[:, : latents.shape[1]] = 0
        for group in range(self.groups):
            for bit in range(self.group_bits):
                magnitude = residual.abs().mean(dim=0)
                channel = int((magnitude * importance).argmax())
                step = magnitude[channel].clamp(min=1e-6)
                self.analysis[group, channel, bit] = 1 / step
                self.synthesis[group, bit, channel] = step
                column = residual[:, channel]
                residual[:, channel] = column - step * torch.where(column > 0, 1.0, -1.0)


__all__ = ["SuccessiveCodes", "SuccessiveGQ"]
