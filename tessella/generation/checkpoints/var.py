"""Checkpoints of VAR's transformers, bare or inside the trainer's own files.

Nothing in a file tells the sides of the maps. The published two schedules are told by their number
of tokens; another one must be given in the config as ``patch_nums``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tessella.errors import CheckpointError
from tessella.generation.checkpoints.base import State, register_generator_format
from tessella.generation.var import VARConfig
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, renamed
from tessella.tokenizers.multiscale_vq import VAR_SIDES

_RULES: tuple[Rule, ...] = (
    (r"^class_emb\.", "class_embedding."),
    (r"^pos_start$", "start_embedding"),
    (r"^pos_1LC$", "position_embedding"),
    (r"^lvl_embed\.", "scale_embedding."),
    (r"^word_embed\.", "word_embedding."),
    (r"^shared_ada_lin\.1\.", "shared_modulation."),
    (r"^(blocks\.\d+)\.attn\.mat_qkv\.", r"\1.attention.qkv."),
    (r"^(blocks\.\d+)\.attn\.scale_mul_1H11$", r"\1.attention.log_temperature"),
    (r"^(blocks\.\d+)\.attn\.", r"\1.attention."),
    (r"^(blocks\.\d+)\.ffn\.", r"\1.perceptron."),
    (r"^(blocks\.\d+)\.ada_lin\.1\.", r"\1.modulation."),
    (r"^(blocks\.\d+)\.ada_gss$", r"\1.modulation_offset"),
    (r"^head_nm\.ada_lin\.1\.", "head.modulation."),
    (r"^head\.(weight|bias)$", r"head.out.\1"),
)
# buffers that follow from the sides
_DROPPED = re.compile(r"(^lvl_1L|^attn_bias_for_masking|\.zero_k_bias)$")


def _tokenizer_config(config: VARConfig) -> State:
    """Tell the tokenizer a schedule that is not one of the published two."""
    return {} if config.sides in VAR_SIDES else {"v_patch_nums": config.sides}


@register_generator_format(
    "var",
    tokenizer="var_vqvae",
    source="https://huggingface.co/FoundationVision/var (var_d16.pth to var_d36.pth)",
    licence="MIT",
    note="class-conditional ImageNet, 256 and 512 pixels",
    tokenizer_config=_tokenizer_config,
)
def var(state: State, config: Any) -> tuple[VARConfig, dict[str, Tensor]]:
    """Translate a VAR transformer; ``config`` may hold ``patch_nums``."""
    theirs = unwrapped(state, ("trainer", "var_wo_ddp", "state_dict", "model"))
    kept = {name: tensor for name, tensor in theirs.items() if not _DROPPED.search(name)}
    named = renamed(kept, _RULES)
    for name in named:
        if name.endswith(".log_temperature"):
            named[name] = named[name].flatten()
    ours = config if isinstance(config, VARConfig) else _config(named, config)
    return ours, named


def _config(named: Mapping[str, Tensor], config: State) -> VARConfig:
    """Read the sizes from the tensors, and the sides from the config or the number of tokens."""
    width, code_dim = named["word_embedding.weight"].shape
    tokens = named["position_embedding"].shape[1]
    blocks = [re.match(r"blocks\.(\d+)\.", name) for name in named]
    depth = 1 + max((int(match[1]) for match in blocks if match), default=-1)
    is_normalized = "blocks.0.attention.log_temperature" in named
    if is_normalized:
        heads = named["blocks.0.attention.log_temperature"].numel()
    else:
        heads = config.get("num_heads", depth)
    return VARConfig.of_depth(
        depth,
        width=width,
        heads=heads,
        sides=_sides(tokens, config),
        codebook_size=named["head.out.weight"].shape[0],
        code_dim=code_dim,
        classes=named["class_embedding.weight"].shape[0] - 1,
        mlp_ratio=named["blocks.0.perceptron.fc1.weight"].shape[0] / width,
        is_modulation_shared="shared_modulation.weight" in named,
        is_normalized=is_normalized,
    )


def _sides(tokens: int, config: State) -> tuple[int, ...]:
    if "patch_nums" in config:
        return tuple(config["patch_nums"])
    for sides in VAR_SIDES:
        if sum(side * side for side in sides) == tokens:
            return sides
    raise CheckpointError(
        f"positions of {tokens} tokens found; the published schedules have 680 and 2240: give the "
        "sides of the maps as patch_nums in a config"
    )


__all__ = ["var"]
