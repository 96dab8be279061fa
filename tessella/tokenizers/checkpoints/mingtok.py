"""Checkpoints of MingTok."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, count, renamed, without
from tessella.tokenizers.mingtok import MingTokConfig

_PARTS = ("low_level_encoder", "semantic_decoder", "pixel_decoder")
_MEAN, _DEVIATION = 1.46817409, 8.09449291  # of the released latents
_RULES: tuple[Rule, ...] = (
    # blocks stand in one chunk
    (r"\.blocks\.0\.(\d+)\.", r".transformer.blocks.\1."),
    (r"\.patch_embed\.proj\.", ".patch_embed."),
    (r"^sem_to_pix\.", "pixel_decoder.widen."),
)


@register_format(
    "mingtok",
    source="https://huggingface.co/inclusionAI/MingTok-Vision",
    licence="MIT",
    note="the folder's config.json tells how latents are standardised",
)
def mingtok(state: State, config: Any) -> tuple[MingTokConfig, dict[str, Tensor]]:
    """Translate MingTok; ``config`` is its mapping of ``mean`` and ``scaling_factor``, or empty."""
    theirs = without(unwrapped(state, ("model", "state_dict")), "target_backbone")
    ours = config if isinstance(config, MingTokConfig) else _config(theirs, config)
    return ours, renamed(theirs, _RULES)


def _config(theirs: Mapping[str, Tensor], config: State) -> MingTokConfig:
    """Read the sizes from the tensors, and the standardisation from the config."""
    stated = config.get("config", config)
    mean = float(stated.get("mean", _MEAN))
    deviation = float(stated.get("scaling_factor", _DEVIATION))
    channels, width = theirs["low_level_encoder.out_proj.weight"].shape
    patch = theirs["low_level_encoder.patch_embed.proj.weight"].shape[-1]
    side = round((theirs["low_level_encoder.pos_embed"].shape[1] - 1) ** 0.5)
    depths = [count(theirs, rf"{part}\.blocks\.0\.(\d+)\.") for part in _PARTS]
    return MingTokConfig(
        image_size=side * patch,
        patch=patch,
        pixel_patch=round((theirs["pixel_decoder.head.weight"].shape[0] / 3) ** 0.5),
        latent_channels=channels,
        encoder_width=width,
        encoder_depth=depths[0],
        semantic_width=theirs["semantic_decoder.norm.weight"].shape[0],
        semantic_depth=depths[1],
        pixel_width=theirs["pixel_decoder.norm.weight"].shape[0],
        pixel_depth=depths[2],
        scale=1 / deviation,
        shift=mean,
    )


__all__ = ["mingtok"]
