"""Checkpoints of the TAESD project, as their author publishes them: an encoder and a decoder file.

Layers are numbered in a plain sequence; the decoder's first, which clamps, has no tensors and is no
layer in diffusers' count. The pair of files in one folder is read by
:func:`~tessella.tokenizers.checkpoints.reading.read_checkpoint`.

TAEF2 (for FLUX.2) needs what diffusers' AutoencoderTiny lacks: blocks with a pooled branch, see
:mod:`tessella.tokenizers.autoencoder_tiny`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tessella.tokenizers.autoencoder_tiny import AutoencoderTinyConfig
from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.diffusers_latent import diffusers_tiny
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, renamed

_RULES: tuple[Rule, ...] = (
    (r"^encoder\.(\d+)\.", r"encoder.layers.\1."),
    (r"^decoder\.(\d+)\.", lambda m: f"decoder.layers.{int(m[1]) - 1}."),
)


@register_format(
    "taesd",
    source="https://github.com/madebyollin/taesd (X_encoder and X_decoder, in one folder)",
    licence="MIT",
    note="TAESD, TAESDXL, TAESD3, TAEF1 and TAEF2",
)
def taesd(state: State, config: Any) -> tuple[AutoencoderTinyConfig, dict[str, Tensor]]:
    """Translate a pair under names that begin with ``encoder.`` and ``decoder.``."""
    return diffusers_tiny(renamed(unwrapped(state), _RULES), config)


__all__ = ["taesd"]
