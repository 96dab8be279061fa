"""Checkpoints of VQGAN and its descendants: taming-transformers, LlamaGen and IBQ.

All three store one network under three spellings. LlamaGen counts decoder levels from the lowest
resolution, taming (and IBQ) from full resolution, diffusers' modules from the lowest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.lightning import count_averages, with_averages
from tessella.tokenizers.checkpoints.reading import takes_averages, unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, count, renamed, without
from tessella.tokenizers.checkpoints.taming_names import taming_sizes, taming_to_diffusers
from tessella.tokenizers.vqgan import Assignment, VQGANConfig

_TOKENIZER = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize.")
_LLAMAGEN = ("ema", "model", "state_dict")  # where weights stand, best first


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
    averages=lambda state: count_averages(unwrapped(state), _TOKENIZER),
)
def ibq(state: State, config: Any) -> tuple[VQGANConfig, dict[str, Tensor]]:
    """Translate IBQ's Lightning checkpoint."""
    return _translated(without(with_averages(unwrapped(state)), "loss."), config, "aligned")


@register_format(
    "llamagen_vq",
    source="https://github.com/FoundationVision/LlamaGen (vq_ds16_c2i.pt, vq_ds8_c2i.pt)",
    licence="MIT",
    note="averaged weights are taken where the file has them",
    averages=lambda s: len(_llamagen_tensors(s)) if takes_averages(s, _LLAMAGEN) else 0,
)
def llamagen_vq(state: State, config: Any) -> tuple[VQGANConfig, dict[str, Tensor]]:
    """Translate LlamaGen's VQ-8 and VQ-16; ``config`` is its ``ModelArgs`` mapping."""
    theirs = _llamagen_tensors(state)
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


def _llamagen_tensors(state: State) -> dict[str, Tensor]:
    # the file's own "quantize.codebook_used" counts usage
    return without(unwrapped(state, _LLAMAGEN), "quantize.codebook_used")


def _translated(
    taming: Mapping[str, Tensor], config: Any, assignment: Assignment
) -> tuple[VQGANConfig, dict[str, Tensor]]:
    """Translate tensors under taming's names."""
    ours = config if isinstance(config, VQGANConfig) else _config(taming, assignment)
    named = taming_to_diffusers(taming)
    return ours, renamed(named, [(r"^quantize\.embedding\.weight$", "quantizer.codebook")])


def _config(taming: Mapping[str, Tensor], assignment: Assignment) -> VQGANConfig:
    """Read the sizes from the tensors."""
    sizes = taming_sizes(taming)
    codes, code_dim = taming["quantize.embedding.weight"].shape
    return replace(
        VQGANConfig(assignment=assignment),
        channels=sizes.channels,
        multipliers=sizes.multipliers,
        blocks=sizes.blocks,
        attention_levels=sizes.attention_levels,
        latent_channels=sizes.latent_channels,
        code_dim=code_dim,
        codebook_size=codes,
    )


__all__ = ["ibq", "llamagen_vq", "vqgan"]
