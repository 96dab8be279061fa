"""Checkpoints of VAR's tokenizer.

The network has taming's names, but one convolution makes queries, keys and values. Nothing in the
file tells the schedules of scales; the published two are assumed where no config says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tessella.errors import CheckpointError
from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, renamed
from tessella.tokenizers.checkpoints.taming_names import taming_sizes, taming_to_diffusers
from tessella.tokenizers.multiscale_vq import MultiScaleVQConfig

_HITS = "quantizer.averages.hits"
_RULES: tuple[Rule, ...] = (
    (r"^quantize\.embedding\.weight$", "quantizer.codebook"),
    (r"^quantize\.ema_vocab_hit_SV$", _HITS),
    # one phi for all scales, some that scales share, one a scale
    (r"^quantize\.quant_resi\.qresi\.", "quantizer.phi.convolutions.0."),
    (r"^quantize\.quant_resi\.qresi_ls\.", "quantizer.phi.convolutions."),
    (r"^quantize\.quant_resi\.(?=\d)", "quantizer.phi.convolutions."),
)


@register_format(
    "var_vqvae",
    source="https://huggingface.co/FoundationVision/var (vae_ch160v4096z32.pth)",
    licence="MIT",
    note="VAR's tokenizer, also inside the trainer's own checkpoints",
)
def var_vqvae(state: State, config: Any) -> tuple[MultiScaleVQConfig, dict[str, Tensor]]:
    """Translate VAR's VQVAE; ``config`` holds its constructor's arguments."""
    theirs = _split_attention(unwrapped(state, ("trainer", "vae_local", "state_dict")))
    named = renamed(taming_to_diffusers(theirs), _RULES)
    ours = config if isinstance(config, MultiScaleVQConfig) else _config(theirs, named, config)
    # the counts of another number of scales mean nothing here
    shape = (len(ours.sides[0]), ours.codebook_size)
    if _HITS not in named or named[_HITS].shape != shape:
        named[_HITS] = torch.zeros(shape)
    return ours, named


def _config(
    theirs: Mapping[str, Tensor], named: Mapping[str, Tensor], config: State
) -> MultiScaleVQConfig:
    """Read the sizes from the tensors, and what they do not tell from the config."""
    sizes = taming_sizes(theirs)
    last = (len(sizes.multipliers) - 1,)
    if sizes.attention_levels != last:
        raise CheckpointError(
            f"attention at levels {sizes.attention_levels} found; expected {last}, after the "
            "blocks of the lowest resolution only: is it another family's?"
        )
    codes, code_dim = named["quantizer.codebook"].shape
    numbers = {
        int(m[1])
        for m in (re.match(r"quantizer\.phi\.convolutions\.(\d+)\.", n) for n in named)
        if m
    }
    defaults = MultiScaleVQConfig()
    sides = (tuple(config["v_patch_nums"]),) if "v_patch_nums" in config else defaults.sides
    ratio = abs(config.get("quant_resi", defaults.phi_ratio))
    return replace(
        defaults,
        channels=sizes.channels,
        multipliers=sizes.multipliers,
        blocks=sizes.blocks,
        code_dim=code_dim,
        codebook_size=codes,
        sides=sides,
        phis=max(1, len(numbers)),
        phi_ratio=ratio if numbers else 0.0,
        cosine=config.get("using_znorm", False),
        kernel=theirs["quant_conv.weight"].shape[-1],
        commitment_weight=config.get("beta", defaults.commitment_weight),
    )


def _split_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split the joint convolutions of attention into those of queries, keys and values."""
    split: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".qkv." in name:
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                split[name.replace(".qkv.", f".{part}.")] = third
        else:
            split[name] = tensor
    return split


__all__ = ["var_vqvae"]
