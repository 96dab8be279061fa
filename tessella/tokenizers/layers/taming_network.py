"""The convolutional encoder and decoder of taming-transformers (arXiv 2012.09841).

::

    image --conv--> [blocks, halve] x (L-1) --blocks--> middle --norm, SiLU, conv--> map (h, w)
    map --conv--> middle --[blocks, double] x (L-1), blocks--> norm, SiLU, conv--> image

A block is GroupNorm, SiLU, convolution, twice, with a residual; attention of one head may follow
the blocks of a level and stands in the middle. Many systems store their weights in this network;
diffusers' modules are exactly it and are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn


def taming_networks(
    *,
    channels: int,
    multipliers: Sequence[int],
    blocks: int,
    attention_levels: Sequence[int],
    latent_channels: int,
    norm_groups: int = 32,
    has_middle_attention: bool = True,
) -> tuple[nn.Module, nn.Module]:
    """Return an encoder ``(B, 3, H, W) -> (B, Z, h, w)`` and a decoder back.

    Args:
        channels: width at full resolution.
        multipliers: factor of the width at each of the ``L`` resolutions; the grid's step is
            ``2^(L-1)`` pixels.
        blocks: residual blocks of an encoder level; a decoder level has one more.
        attention_levels: levels (0 is full resolution) whose blocks are followed by attention.
        latent_channels: width ``Z`` of the map.
        norm_groups: groups of the normalisations.
        has_middle_attention: whether attention stands between the two middle blocks.
    """
    from diffusers.models.autoencoders.vae import Decoder, Encoder

    attends = [level in attention_levels for level in range(len(multipliers))]
    sizes: dict[str, Any] = {
        "block_out_channels": tuple(channels * m for m in multipliers),
        "layers_per_block": blocks,
        "norm_num_groups": norm_groups,
        "act_fn": "silu",
        "mid_block_add_attention": has_middle_attention,
    }
    encoder = Encoder(
        in_channels=3,
        out_channels=latent_channels,
        down_block_types=tuple(
            "AttnDownEncoderBlock2D" if attend else "DownEncoderBlock2D" for attend in attends
        ),
        double_z=False,
        **sizes,
    )
    decoder = Decoder(
        in_channels=latent_channels,
        out_channels=3,
        up_block_types=tuple(
            "AttnUpDecoderBlock2D" if attend else "UpDecoderBlock2D" for attend in attends[::-1]
        ),
        **sizes,
    )
    return encoder, decoder


__all__ = ["taming_networks"]
