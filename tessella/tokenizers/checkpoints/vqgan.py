"""Checkpoints of VQGAN and its descendants: taming-transformers, LlamaGen and IBQ.

All three store one network under three spellings. LlamaGen counts decoder levels from the lowest
resolution, taming (and IBQ) from full resolution, diffusers' modules from the lowest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.lightning import with_averages
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, count, renamed, without
from tessella.tokenizers.vqgan import Assignment, VQGANConfig

_ATTENTION: tuple[Rule, ...] = (
    (r"\.norm\.(weight|bias)$", r".group_norm.\1"),
    (r"\.([qkv])\.(weight|bias)$", r".to_\1.\2"),
    (r"\.proj_out\.(weight|bias)$", r".to_out.0.\1"),
)


@register_format(
    "vqgan",
    source="https://github.com/CompVis/taming-transformers (.ckpt)",
    licence="MIT",
    note="taming-transformers' VQGAN and latent diffusion's VQ models",
)
def vqgan(state: State, config: Any) -> tuple[VQGANConfig, dict[str, Tensor]]:
    """Translate taming-transformers' VQGAN; ``config`` is its ``params`` mapping."""
    return _translated(without(unwrapped(state), "loss."), config, "nearest")


@register_format(
    "ibq",
    source="https://huggingface.co/TencentARC (IBQ-Tokenizer, .ckpt)",
    licence="Apache-2.0",
    note="averaged weights are taken where the file has them",
)
def ibq(state: State, config: Any) -> tuple[VQGANConfig, dict[str, Tensor]]:
    """Translate IBQ's Lightning checkpoint."""
    return _translated(without(with_averages(unwrapped(state)), "loss."), config, "aligned")


@register_format(
    "llamagen_vq",
    source="https://github.com/FoundationVision/LlamaGen (vq_ds16_c2i.pt, vq_ds8_c2i.pt)",
    licence="MIT",
    note="averaged weights are taken where the file has them",
)
def llamagen_vq(state: State, config: Any) -> tuple[VQGANConfig, dict[str, Tensor]]:
    """Translate LlamaGen's VQ-8 and VQ-16; ``config`` is its ``ModelArgs`` mapping."""
    # the file's own "quantize.codebook_used" counts usage
    theirs = without(unwrapped(state, ("ema", "model", "state_dict")), "quantize.codebook_used")
    levels = count(theirs, r"encoder\.conv_blocks\.(\d+)\.")
    rules: list[Rule] = [
        (r"^encoder\.conv_blocks\.", "encoder.down."),
        (
            r"^decoder\.conv_blocks\.(\d+)\.",
            lambda m: f"decoder.up.{levels - 1 - int(m[1])}.",
        ),
        (r"\.res\.", ".block."),
        (r"\.mid\.0\.", ".mid.block_1."),
        (r"\.mid\.1\.", ".mid.attn_1."),
        (r"\.mid\.2\.", ".mid.block_2."),
    ]
    return _translated(renamed(theirs, rules), config, "cosine")


def _translated(
    taming: Mapping[str, Tensor], config: Any, assignment: Assignment
) -> tuple[VQGANConfig, dict[str, Tensor]]:
    """Translate tensors under taming's names."""
    ours = config if isinstance(config, VQGANConfig) else _config(taming, assignment)
    levels = len(ours.multipliers)
    rules: list[Rule] = [
        (r"^quantize\.embedding\.weight$", "quantizer.codebook"),
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
    state = renamed(taming, rules)
    attention = {name for name in state if ".attentions." in name}
    named = renamed({name: state[name] for name in attention}, _ATTENTION)
    rest = {name: tensor for name, tensor in state.items() if name not in attention}
    # their attention maps are 1x1 convolutions, diffusers' are linear
    return ours, rest | {
        name: tensor.flatten(1) if tensor.ndim == 4 else tensor for name, tensor in named.items()
    }


def _config(taming: Mapping[str, Tensor], assignment: Assignment) -> VQGANConfig:
    """Read the sizes from the tensors."""
    widths = [
        taming[f"encoder.down.{level}.block.0.conv2.weight"].shape[0]
        for level in range(count(taming, r"encoder\.down\.(\d+)\."))
    ]
    channels = taming["encoder.conv_in.weight"].shape[0]
    codes, code_dim = taming["quantize.embedding.weight"].shape
    attends = {
        int(m[1]) for m in (re.match(r"encoder\.down\.(\d+)\.attn\.", n) for n in taming) if m
    }
    return replace(
        VQGANConfig(assignment=assignment),
        channels=channels,
        multipliers=tuple(width // channels for width in widths),
        blocks=count(taming, r"encoder\.down\.0\.block\.(\d+)\."),
        attention_levels=tuple(sorted(attends)),
        latent_channels=taming["encoder.conv_out.weight"].shape[0],
        code_dim=code_dim,
        codebook_size=codes,
    )


__all__ = ["ibq", "llamagen_vq", "vqgan"]
