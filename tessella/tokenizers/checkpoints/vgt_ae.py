"""Checkpoints of VGT-AE.

The vision tower has the names of InternViT; a file without one gives a model that takes features.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, count, renamed
from tessella.tokenizers.vgt_ae import VGTAEConfig

_TOWER = "encoder."
_RULES: tuple[Rule, ...] = (
    (r"^.*embeddings\.patch_embedding\.", "teacher.model.patch_embed.proj."),
    (r"^.*embeddings\.position_embedding$", "teacher.model.pos_embed"),
    (r"^.*embeddings\.class_embedding$", "teacher.model.cls_token"),
    (r"^.*layers\.(\d+)\.", r"teacher.model.blocks.\1."),
    (r"\.ls([12])$", r".ls\1.gamma"),
)


@register_format(
    "vgt_ae",
    source="https://huggingface.co/hustvl/vgt_ae",
    licence="MIT",
    note="with InternVL3's vision tower, or without any",
)
def vgt_ae(state: State, config: Any) -> tuple[VGTAEConfig, dict[str, Tensor]]:
    """Translate VGT-AE; ``config`` may state ``encoder_norm`` and sizes of the decoder's heads."""
    theirs = unwrapped(state, ("model", "state_dict"))
    tower = {name: tensor for name, tensor in theirs.items() if name.startswith(_TOWER)}
    rest = {name: tensor for name, tensor in theirs.items() if name not in tower}
    ours = config if isinstance(config, VGTAEConfig) else _config(rest, bool(tower), config)
    return ours, rest | renamed(tower, _RULES)


def _config(rest: Mapping[str, Tensor], has_tower: bool, config: State) -> VGTAEConfig:
    """Read the sizes from the tensors, and what they do not tell from the config."""
    base = VGTAEConfig()
    decoder = config.get("dc_ae_decoder", {})
    width, merged = rest["mlp1.1.weight"].shape
    levels = count(rest, r"decoder\.up_blocks\.(\d+)\.")
    attends = {
        int(m[1])
        for m in (re.match(r"decoder\.up_blocks\.(\d+)\.\d+\.attn\.", n) for n in rest)
        if m
    }
    first = min(attends, default=levels)
    kernels = [
        rest[name].shape[-1]
        for name in sorted(rest)
        if re.match(
            rf"decoder\.up_blocks\.{first}\.\d+\.attn\.to_qkv_multiscale\.\d+\.proj_in", name
        )
        and f".{_first_block(first, levels)}." in name
    ]
    teacher = replace(base.teacher, width=merged // 4)
    return replace(
        base,
        image_size=config.get("image_size", base.image_size),
        teacher=teacher if has_tower else replace(teacher, architecture=""),
        feature_width=width,
        latent_channels=rest["down_mlp.3.weight"].shape[0],
        is_normalised=config.get("encoder_norm", base.is_normalised),
        widths=tuple(_width(rest, level) for level in range(levels)),
        decoder_blocks=tuple(
            count(rest, rf"decoder\.up_blocks\.{level}\.(\d+)\.") - _first_block(level, levels)
            for level in range(levels)
        ),
        attention_from=first,
        kernel_sizes=tuple(kernels),
        head_dim=decoder.get("attention_head_dim", base.head_dim),
    )


def _first_block(level: int, levels: int) -> int:
    """Every level but the coarsest starts with the upsampling of the one below."""
    return 0 if level == levels - 1 else 1


def _width(rest: Mapping[str, Tensor], level: int) -> int:
    names = (f"decoder.up_blocks.{level}.{i}." for i in (0, 1))
    tensors = [rest[n] for name in names for n in rest if n.startswith(name) and n.endswith(_NORMS)]
    return tensors[0].shape[0]


_NORMS = (".norm.weight", ".norm_out.weight")

__all__ = ["vgt_ae"]
