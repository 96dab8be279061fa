"""Checkpoints of Infinity's tokenizers.

The network has taming's names, but every convolution and norm is wrapped once more:
``conv1.conv.weight``. The quantizer has no weights; the files hold the place values of its bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from tessella.errors import CheckpointError
from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.reading import takes_averages, unwrapped
from tessella.tokenizers.checkpoints.renaming import renamed, without
from tessella.tokenizers.checkpoints.taming_names import (
    TamingSizes,
    taming_sizes,
    taming_to_diffusers,
)
from tessella.tokenizers.multiscale_bsq import MultiScaleBSQConfig

_KEYS = ("vae", "ema", "state_dict")  # where weights stand, best first
_PLACE_VALUES = ("quantizer.lfq.mask", "quantize.lfq.mask")
_GROUPS, _OTHER_GROUPS = 32, 24
_PATCHIFIED_LEVELS = 4  # stride 8: only the patchified model is published with it


@register_format(
    "infinity_bsq",
    source="https://huggingface.co/FoundationVision/Infinity (infinity_vae_d*.pth)",
    licence="MIT",
    note="plain and patchified tokenizers; without a config, stride 8 is taken for patchified",
    averages=lambda state: len(_tensors(state)) if takes_averages(state, _KEYS) else 0,
)
def infinity_bsq(state: State, config: Any) -> tuple[MultiScaleBSQConfig, dict[str, Tensor]]:
    """Translate Infinity's VAE; ``config`` holds ``apply_spatial_patchify`` and schedules."""
    tensors = _tensors(state)
    if "encoder.conv_in.conv.weight" in tensors:
        tensors = renamed(tensors, [(r"\.(conv|norm)\.(weight|bias)$", r".\2")])
    if isinstance(config, MultiScaleBSQConfig):
        ours = config
    else:
        ours = _config(taming_sizes(tensors), config)
    return ours, taming_to_diffusers(tensors)


def _tensors(state: State) -> dict[str, Tensor]:
    return without(unwrapped(state, _KEYS), *_PLACE_VALUES)


def _config(sizes: TamingSizes, config: Mapping[str, Any]) -> MultiScaleBSQConfig:
    if sizes.attention_levels:
        raise CheckpointError(
            f"attention at levels {sizes.attention_levels} found; expected none: is it another "
            "family's?"
        )
    is_patchified = config.get(
        "apply_spatial_patchify", len(sizes.multipliers) == _PATCHIFIED_LEVELS
    )
    odd = {bool(sizes.channels * factor % _GROUPS) for factor in sizes.multipliers}
    if len(odd) > 1:
        raise CheckpointError(
            f"widths {sizes.channels} x {sizes.multipliers} found; expected all or none to be "
            f"multiples of {_GROUPS}: a model has one number of normalisation groups here"
        )
    return replace(
        MultiScaleBSQConfig(),
        channels=sizes.channels,
        multipliers=sizes.multipliers,
        blocks=sizes.blocks,
        code_dim=sizes.latent_channels,
        is_patchified=bool(is_patchified),
        # theirs have a leading time axis of 1
        schedule=tuple((h, w) for *_, h, w in config.get("scale_schedule", ())),
        norm_groups=_OTHER_GROUPS if odd == {True} else _GROUPS,
    )


__all__ = ["infinity_bsq"]
