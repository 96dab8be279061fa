"""First weights of next-scale transformers, as in VAR's code."""

from __future__ import annotations

import torch
from torch import nn

from tessella.generation.layers.blocks import ModulatedBlock, ModulatedHead

_HEAD, _REST = 0.02, 0.5


@torch.no_grad()
def initialize_next_scale(model: nn.Module, depth: int, first_gamma: float) -> None:
    """Draw weights from torch's global generator, like every constructor of torch's modules.

    Truncated normal of deviation ``sqrt(1 / 3C)`` for linear layers and embeddings, less for what
    ends a residual branch, almost zero for gammas.

    Args:
        model: with ``shared_modulation``, ``blocks`` and ``head``; parameters of its own are drawn
            like embeddings.
        depth: number of blocks.
        first_gamma: factor of the weights that make gammas.
    """
    deviation = (1 / (3 * _width(model))) ** 0.5
    for parameter in model.parameters(recurse=False):
        nn.init.trunc_normal_(parameter, std=deviation)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=deviation)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()
    for module in model.modules():
        if isinstance(module, ModulatedBlock):
            module.attention.proj.weight /= (2 * depth) ** 0.5
            module.perceptron.fc2.weight /= (2 * depth) ** 0.5
            if module.modulation is not None:
                _shrink_modulation(module.modulation, first_gamma)
            else:
                offset = module.modulation_offset
                offset.normal_().div_(offset.shape[-1] ** 0.5)
                offset[:, :, :2] *= first_gamma
                offset[:, :, 2:] *= _REST
        elif isinstance(module, ModulatedHead):
            module.out.weight *= _HEAD
            module.modulation.weight *= _REST
    shared = getattr(model, "shared_modulation", None)
    if shared is not None:
        _shrink_modulation(shared, first_gamma)


def _shrink_modulation(linear: nn.Linear, first_gamma: float) -> None:
    gammas = linear.weight.shape[0] // 3
    linear.weight[:gammas] *= first_gamma
    linear.weight[gammas:] *= _REST


def _width(model: nn.Module) -> int:
    return next(
        m for m in model.modules() if isinstance(m, ModulatedBlock)
    ).attention.q_bias.numel()


__all__ = ["initialize_next_scale"]
