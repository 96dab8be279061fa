"""Names of taming-transformers' encoder and decoder, and the sizes that their tensors state.

Decoder levels are counted from full resolution there, from the lowest in diffusers' modules, which
:mod:`tessella.tokenizers.layers.taming_network` uses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from tessella.tokenizers.checkpoints.renaming import Rule, count, renamed

_ATTENTION: tuple[Rule, ...] = (
    (r"\.norm\.(weight|bias)$", r".group_norm.\1"),
    (r"\.([qkv])\.(weight|bias)$", r".to_\1.\2"),
    (r"\.proj_out\.(weight|bias)$", r".to_out.0.\1"),
)


class TamingSizes(NamedTuple):
    """Sizes of an encoder; see :func:`~tessella.tokenizers.layers.taming_network`."""

    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention_levels: tuple[int, ...]
    latent_channels: int


def taming_sizes(state: Mapping[str, Tensor]) -> TamingSizes:
    """Read the sizes of the network from tensors under taming's names.

    Raises:
        KeyError: if a tensor of the encoder is missing.
    """
    widths = [
        state[f"encoder.down.{level}.block.0.conv2.weight"].shape[0]
        for level in range(count(state, r"encoder\.down\.(\d+)\."))
    ]
    channels = state["encoder.conv_in.weight"].shape[0]
    attends = {
        int(m[1]) for m in (re.match(r"encoder\.down\.(\d+)\.attn\.", n) for n in state) if m
    }
    return TamingSizes(
        channels,
        tuple(width // channels for width in widths),
        count(state, r"encoder\.down\.0\.block\.(\d+)\."),
        tuple(sorted(attends)),
        state["encoder.conv_out.weight"].shape[0],
    )


def taming_to_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the encoder's and decoder's tensors to diffusers' names; others keep theirs."""
    levels = count(state, r"encoder\.down\.(\d+)\.")
    rules: list[Rule] = [
        (r"\.norm_out\.", ".conv_norm_out."),
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
        (r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1."),
        (
            r"^decoder\.up\.(\d+)\.",
            lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}.",
        ),
        (r"\.block\.(\d+)\.", r".resnets.\1."),
        (r"\.attn\.(\d+)\.", r".attentions.\1."),
        (r"\.downsample\.", ".downsamplers.0."),
        (r"\.upsample\.", ".upsamplers.0."),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
    ]
    named = renamed(state, rules)
    attention = {name: tensor for name, tensor in named.items() if ".attentions." in name}
    rest = {name: tensor for name, tensor in named.items() if name not in attention}
    # their attention maps are 1x1 convolutions, diffusers' are linear
    return rest | {
        name: tensor.flatten(1) if tensor.ndim == 4 else tensor
        for name, tensor in renamed(attention, _ATTENTION).items()
    }


__all__ = ["TamingSizes", "taming_sizes", "taming_to_diffusers"]
