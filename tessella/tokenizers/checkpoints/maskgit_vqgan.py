"""Checkpoints of MaskGIT's VQGAN in its PyTorch port, whose names our modules keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import count, renamed
from tessella.tokenizers.maskgit_vqgan import MaskGITVQGANConfig


@register_format(
    "maskgit_vqgan",
    source="https://huggingface.co/fun-research/TiTok (maskgit-vqgan-imagenet-f16-256.bin)",
    licence="Apache-2.0",
    note="the VQGAN of MaskGIT, ported by open-muse",
)
def maskgit_vqgan(state: State, config: Any) -> tuple[MaskGITVQGANConfig, dict[str, Tensor]]:
    """Translate the VQGAN; sizes are read from the tensors."""
    theirs = unwrapped(state)
    ours = config
    if not isinstance(config, MaskGITVQGANConfig):
        ours = maskgit_sizes(theirs, "decoder.", theirs["quantize.embedding.weight"])
    return ours, renamed(theirs, [(r"^quantize\.embedding\.weight$", "quantizer.codebook")])


def maskgit_sizes(state: Mapping[str, Tensor], prefix: str, codebook: Tensor) -> MaskGITVQGANConfig:
    """Read the sizes from a decoder and its codes.

    Args:
        state: tensors by name.
        prefix: what the decoder's names begin with.
        codebook: ``(K, Z)``.

    Raises:
        KeyError: naming a tensor that is missing.
    """
    levels = count(state, rf"{prefix}up\.(\d+)\.")
    widths = [state[f"{prefix}up.{i}.block.0.conv2.weight"].shape[0] for i in range(levels)]
    channels = state[f"{prefix}conv_out.weight"].shape[1]
    return MaskGITVQGANConfig(
        channels=channels,
        multipliers=tuple(width // channels for width in widths),
        blocks=count(state, rf"{prefix}up\.0\.block\.(\d+)\."),
        latent_channels=codebook.shape[1],
        codebook_size=codebook.shape[0],
    )


__all__ = ["maskgit_sizes", "maskgit_vqgan"]
