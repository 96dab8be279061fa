"""Checkpoints of TokenFlow.

The convolutional networks have LlamaGen's names. Teachers are stored under the names of timm
(ViTamin) or of transformers (CLIP, SigLIP); a file without one gives a model that takes features.
The schedule of scales is not in the file: the published ones are known by their last grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tessella.errors import CheckpointError
from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.reading import takes_averages, unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, count, renamed, without
from tessella.tokenizers.checkpoints.vqgan import llamagen_vq
from tessella.tokenizers.layers.semantic import TeacherConfig
from tessella.tokenizers.registry import all_presets
from tessella.tokenizers.tokenflow import TokenFlowConfig
from tessella.tokenizers.vqgan import VQGANConfig

_TEACHER = "encoder_vqkd."
_KEYS = ("ema", "model", "state_dict")  # where weights stand, best first
_CONVOLUTIONS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_RULES: tuple[Rule, ...] = (
    (r"^(en|de)code_task_layer\.", r"\1code_task."),
    (r"^decoder_vqkd\.", "semantic_decoder."),
    (r"\.patch_embed\.proj\.", ".proj."),
    (r"\.fc_norm\.", ".norm."),
)
_BLOCK = r"encoder\.layers\.(\d+)\."
_TRANSFORMERS: tuple[Rule, ...] = (
    (r"^.*embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^.*embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^.*embeddings\.class_embedding$", "cls_token"),
    (r"^.*pre_layrnorm\.", "norm_pre."),
    (r"^.*post_layernorm\.", "norm."),
    (rf"^.*{_BLOCK}self_attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (rf"^.*{_BLOCK}self_attn\.", r"blocks.\1.attn."),
    (rf"^.*{_BLOCK}layer_norm", r"blocks.\1.norm"),
    (rf"^.*{_BLOCK}mlp\.", r"blocks.\1.mlp."),
)


@register_format(
    "tokenflow",
    source="https://huggingface.co/ByteFlow-AI/TokenFlow (.pt)",
    licence="Apache-2.0",
    note="a file without the teacher gives a model that takes a teacher's features",
    averages=lambda state: len(_tensors(state)) if takes_averages(state, _KEYS) else 0,
)
def tokenflow(state: State, config: Any) -> tuple[TokenFlowConfig, dict[str, Tensor]]:
    """Translate TokenFlow; ``config`` may state ``scales`` and what no tensor tells."""
    theirs = _tensors(state)
    convolutions = {k: v for k, v in theirs.items() if k.startswith(_CONVOLUTIONS)}
    ours = config if isinstance(config, TokenFlowConfig) else _config(theirs, config)
    _, named = llamagen_vq(convolutions, VQGANConfig())
    named |= _semantic(theirs)
    named["quantizer.codebook"] = torch.cat(
        [theirs["quantize.embedding_vqkd.weight"], theirs["quantize.embedding_vqgan.weight"]], 1
    )
    if ours.teacher.architecture:
        named |= translated_teacher(theirs, ours.teacher)
    return ours, named


def _tensors(state: State) -> dict[str, Tensor]:
    return without(unwrapped(state, _KEYS), "quantize.codebook_used")


def _semantic(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate task layers and semantic decoder; keys have no bias, ours has one of zeros."""
    prefixes = ("encode_task_layer.", "decode_task_layer.", "decoder_vqkd.")
    named = renamed({k: v for k, v in theirs.items() if k.startswith(prefixes)}, _RULES)
    named["semantic_decoder.proj.weight"] = named["semantic_decoder.proj.weight"].flatten(1)
    for block in range(count(named, r"semantic_decoder\.blocks\.(\d+)\.")):
        prefix = f"semantic_decoder.blocks.{block}.attn."
        query, value = named.pop(prefix + "q_bias"), named.pop(prefix + "v_bias")
        named[prefix + "qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    return named


def translated_teacher(theirs: Mapping[str, Tensor], config: TeacherConfig) -> dict[str, Tensor]:
    """Translate the teacher, leaving out what our model does without."""
    state = {k.removeprefix(_TEACHER): v for k, v in theirs.items() if k.startswith(_TEACHER)}
    if any("embeddings.patch_embedding." in name for name in state):
        state = _from_transformers(state)
    if config.dropped_blocks:
        blocks = count(state, r"blocks\.(\d+)\.")
        last = tuple(f"blocks.{blocks - 1 - i}." for i in range(config.dropped_blocks))
        state = without(state, *last, "norm.")
    # heads that pool patches into one vector
    state = without(state, "head.", "attn_pool.", "fc_norm.", "logit_scale")
    return {f"teacher.model.{name.removeprefix('trunk.')}": v for name, v in state.items()}


def _from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a vision tower of transformers (CLIP, SigLIP) to timm's names."""
    kept = {
        name: tensor
        for name, tensor in state.items()
        if not name.endswith("position_ids") and "vision_model.head." not in name
    }
    named = renamed(kept, _TRANSFORMERS)
    for block in range(count(named, r"blocks\.(\d+)\.")):
        for kind in ("weight", "bias"):
            parts = [named.pop(f"blocks.{block}.attn.{x}_proj.{kind}") for x in "qkv"]
            named[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    named["pos_embed"] = named["pos_embed"].unsqueeze(0)
    if "cls_token" in named:
        named["cls_token"] = named["cls_token"].view(1, 1, -1)
    return named


def _published(side: int, width: int) -> TokenFlowConfig:
    """Return the published model of a last grid and a teacher's width, for what no tensor tells."""
    for family, preset in all_presets().values():
        config = preset.config
        if family.name == "tokenflow" and (config.side, config.teacher.width) == (side, width):
            return config  # type: ignore[no-any-return]
    return TokenFlowConfig()


def _config(theirs: Mapping[str, Tensor], config: State) -> TokenFlowConfig:
    """Read the sizes from the tensors, and what they do not tell from the config."""
    positions, width = theirs["decoder_vqkd.pos_embed"].shape[1:]
    side = round((positions - 1) ** 0.5)
    base = _published(side, width)
    scales = (tuple(config["scales"]),) if "scales" in config else base.sides
    if scales[0][-1] != side:
        raise CheckpointError(
            f"a grid of {side} x {side} found; expected one of the published models', or a config "
            "with 'scales'"
        )
    levels = count(theirs, r"encoder\.conv_blocks\.(\d+)\.")
    codes, semantic_dim = theirs["quantize.embedding_vqkd.weight"].shape
    features = theirs["decode_task_layer.2.weight"].shape[0]
    channels = theirs["encoder.conv_in.weight"].shape[0]
    widths = [
        theirs[f"encoder.conv_blocks.{level}.res.0.conv2.weight"].shape[0]
        for level in range(levels)
    ]
    heads = config.get("semantic_decoder", {}).get("num_heads", base.semantic_heads)
    return replace(
        base,
        image_size=config.get("image_size", base.image_size),
        sides=scales,
        teacher=_teacher_config(theirs, base.teacher, width),
        feature_width=features,
        semantic_depth=count(theirs, r"decoder_vqkd\.blocks\.(\d+)\."),
        semantic_heads=heads,
        semantic_dim=semantic_dim,
        pixel_dim=theirs["quantize.embedding_vqgan.weight"].shape[1],
        codebook_size=codes,
        channels=channels,
        multipliers=tuple(w // channels for w in widths),
        blocks=count(theirs, r"encoder\.conv_blocks\.0\.res\.(\d+)\."),
        decoder_channels=theirs["decoder.conv_out.weight"].shape[1],
        decoder_blocks=count(theirs, r"decoder\.conv_blocks\.0\.res\.(\d+)\.") - 1,
        latent_channels=theirs["encoder.conv_out.weight"].shape[0],
        commitment_weight=config.get("commit_beta", base.commitment_weight),
        entropy_weight=config.get("entropy_loss_ratio", base.entropy_weight),
        alignment_weight=base.alignment_weight if features == width else 0.0,
    )


def _teacher_config(theirs: Mapping[str, Tensor], base: TeacherConfig, width: int) -> TeacherConfig:
    mean, std = theirs.get("scaling_layer.shift"), theirs.get("scaling_layer.scale")
    has_teacher = any(name.startswith(_TEACHER) for name in theirs)
    return replace(
        base,
        architecture=base.architecture if has_teacher else "",
        width=width,
        mean=tuple(mean.flatten().tolist()) if mean is not None else (),
        std=tuple(std.flatten().tolist()) if std is not None else (),
    )


__all__ = ["tokenflow", "translated_teacher"]
