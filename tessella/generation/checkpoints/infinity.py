"""Checkpoints of Infinity's transformers.

Blocks stand in chunks, ``block_chunks.CHUNK.module.NUMBER``, or one after the other. Sizes are read
from the tensors; what they do not tell is taken from a config in the project's words, or as in the
published models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tessella.errors import CheckpointError
from tessella.generation.checkpoints.base import State, register_generator_format
from tessella.generation.infinity_config import InfinityConfig
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, count, renamed
from tessella.tokenizers.infinity_schedules import TEMPLATES

_RULES: tuple[Rule, ...] = (
    (r"^cfg_uncond$", "text.null"),
    (r"^text_norm\.", "text.norm."),
    (r"^text_proj_for_sos\.ca\.mat_q$", "text.pool.query"),
    (r"^text_proj_for_sos\.ca\.mat_kv\.", "text.pool.text.key_value."),
    (r"^text_proj_for_sos\.ca\.v_bias$", "text.pool.text.v_bias"),
    (r"^text_proj_for_sos\.ca\.proj\.", "text.pool.proj."),
    (r"^text_proj_for_ca\.0\.", "text.inner."),
    (r"^text_proj_for_ca\.2\.", "text.outer."),
    (r"^pos_start$", "start_embedding"),
    (r"^lvl_embed\.", "scale_embedding."),
    (r"^word_embed\.", "word_embedding."),
    (r"^shared_ada_lin\.1\.", "shared_modulation."),
    (r"^(blocks\.\d+)\.sa\.mat_qkv\.", r"\1.attention.qkv."),
    (r"^(blocks\.\d+)\.sa\.scale_mul_1H11$", r"\1.attention.log_temperature"),
    (r"^(blocks\.\d+)\.sa\.", r"\1.attention."),
    (r"^(blocks\.\d+)\.ca\.mat_q\.", r"\1.cross_attention.query."),
    (r"^(blocks\.\d+)\.ca\.mat_kv\.", r"\1.cross_attention.text.key_value."),
    (r"^(blocks\.\d+)\.ca\.v_bias$", r"\1.cross_attention.text.v_bias"),
    (r"^(blocks\.\d+)\.ca\.proj\.", r"\1.cross_attention.proj."),
    (r"^(blocks\.\d+)\.ca_norm\.", r"\1.text_norm."),
    (r"^(blocks\.\d+)\.ca_gamma$", r"\1.text_gamma"),
    (r"^(blocks\.\d+)\.ffn\.", r"\1.perceptron."),
    (r"^(blocks\.\d+)\.ada_lin\.1\.", r"\1.modulation."),
    (r"^(blocks\.\d+)\.ada_gss$", r"\1.modulation_offset"),
    (r"^head_nm\.ada_lin\.1\.", "head.modulation."),
    (r"^head\.(weight|bias)$", r"head.out.\1"),
)
_CHUNKED = re.compile(r"^block_chunks\.(\d+)\.module\.(\d+)\.")
_WRAPPERS = ("trainer", "gpt_fsdp", "gpt_wo_ddp", "state_dict", "model")
_FLAT = (".log_temperature", ".text_gamma")


@register_generator_format(
    "infinity",
    tokenizer="infinity_bsq",
    source="https://huggingface.co/FoundationVision/Infinity (infinity_2b_reg.pth and others)",
    licence="MIT",
    note="text to image; features come from Flan-T5-XL",
    text_encoder="google/flan-t5-xl",
)
def infinity(state: State, config: Any) -> tuple[InfinityConfig, dict[str, Tensor]]:
    """Translate an Infinity transformer.

    ``config`` may hold ``scale_schedule`` and ``h_div_w`` for models of one size,
    ``add_lvl_embeding_only_first_block`` and ``rope2d_normalized_by_hw``.
    """
    theirs = unwrapped(state, _WRAPPERS)
    # biases of keys, which are zero
    kept = {name: t for name, t in theirs.items() if not name.endswith(".zero_k_bias")}
    lengths = _chunk_lengths(kept)
    named = renamed(_unchunked(kept, lengths), _RULES)
    for name in named:
        if name.endswith(_FLAT):
            named[name] = named[name].flatten()
    named["text.pool.query"] = named["text.pool.query"].squeeze(0)
    ours = config if isinstance(config, InfinityConfig) else _config(named, lengths, config)
    return ours, named


def _chunk_lengths(state: Mapping[str, Tensor]) -> list[int]:
    """Return how many blocks each chunk has; empty where there are no chunks."""
    chunks = count(state, r"block_chunks\.(\d+)\.")
    return [count(state, rf"block_chunks\.{i}\.module\.(\d+)\.") for i in range(chunks)]


def _unchunked(state: Mapping[str, Tensor], lengths: list[int]) -> dict[str, Tensor]:
    """Number the blocks of all chunks in one row."""

    def number(match: re.Match[str]) -> str:
        return f"blocks.{sum(lengths[: int(match[1])]) + int(match[2])}."

    return {_CHUNKED.sub(number, name): tensor for name, tensor in state.items()}


def _config(
    state: Mapping[str, Tensor], lengths: list[int], config: Mapping[str, Any]
) -> InfinityConfig:
    """Read the sizes from the tensors, and the rest from the config."""
    if config.get("rope2d_normalized_by_hw", 2) != 2:
        raise CheckpointError(
            f"rope2d_normalized_by_hw={config['rope2d_normalized_by_hw']} given; expected 2, "
            "positions in the coordinates of the finest map, as in the published models"
        )
    width, bits = state["word_embedding.weight"].shape
    text_length, text_channels = state["text.null"].shape
    depth = count(state, r"blocks\.(\d+)\.")
    gamma = state.get("blocks.0.text_gamma")
    return InfinityConfig(
        depth=depth,
        width=width,
        heads=state["blocks.0.attention.log_temperature"].numel(),
        bits=bits,
        mlp_hidden=state["blocks.0.perceptron.fc1.weight"].shape[0],
        text_channels=text_channels,
        text_length=text_length,
        text_heads=state["text.pool.query"].shape[0],
        # any number: the learned factors replace it
        text_gamma=None if gamma is None else 1.0,
        max_scales=state["scale_embedding.weight"].shape[0],
        level_blocks=_level_blocks(depth, lengths, config),
        is_modulation_shared="shared_modulation.weight" in state,
        # theirs have a leading time axis of 1
        schedule=tuple((h, w) for *_, h, w in config.get("scale_schedule", ())),
        finest=_finest(config),
    )


def _level_blocks(depth: int, lengths: list[int], config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the blocks before which the scale's embedding is added: one, or one a chunk."""
    if config.get("add_lvl_embeding_only_first_block", 1):
        return (0,)
    chunks = lengths or [1] * depth
    return tuple(sum(chunks[:i]) for i in range(len(chunks)))


def _finest(config: Mapping[str, Any]) -> tuple[int, int] | None:
    if "h_div_w" not in config:
        return None
    ratio = min(TEMPLATES, key=lambda known: abs(known - float(config["h_div_w"])))
    return TEMPLATES[ratio][-1]


__all__ = ["infinity"]
