"""Checkpoints of diffusers' continuous autoencoders: AutoencoderKL, AutoencoderTiny, AutoencoderDC.

Our modules have diffusers' networks and names, so the tensors are taken as they are. Sizes are read
from the tensors (of AutoencoderDC: from its ``config.json``); ``config.json`` also tells how to
standardise latents. Without it their scale is 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from tessella.errors import CheckpointError
from tessella.tokenizers.autoencoder_dc import AutoencoderDCConfig
from tessella.tokenizers.autoencoder_kl import AutoencoderKLConfig
from tessella.tokenizers.autoencoder_tiny import AutoencoderTinyConfig
from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, count, renamed

_ATTENTION = "EfficientViTBlock"
# attention of files from before diffusers 0.18
_OLD_NAMES: tuple[Rule, ...] = (
    (r"\.query\.(weight|bias)$", r".to_q.\1"),
    (r"\.key\.(weight|bias)$", r".to_k.\1"),
    (r"\.value\.(weight|bias)$", r".to_v.\1"),
    (r"\.proj_attn\.(weight|bias)$", r".to_out.0.\1"),
)


@register_format(
    "diffusers_kl",
    source="https://huggingface.co/stabilityai/sd-vae-ft-mse and other AutoencoderKL folders",
    licence="see the source",
    note="give its config.json as the config: it holds the scale of the latents",
)
def diffusers_kl(state: State, config: Any) -> tuple[AutoencoderKLConfig, dict[str, Tensor]]:
    """Translate diffusers' AutoencoderKL; ``config`` is its ``config.json``."""
    tensors = {
        # some old files keep attention as 1x1 convolutions
        name: tensor.flatten(1) if ".attentions." in name and tensor.ndim == 4 else tensor
        for name, tensor in renamed(unwrapped(state), _OLD_NAMES).items()
    }
    if isinstance(config, AutoencoderKLConfig):
        return config, tensors
    _expect(config, act_fn="silu", latents_mean=None, latents_std=None)
    levels = range(count(tensors, r"encoder\.down_blocks\.(\d+)\."))
    ours = AutoencoderKLConfig(
        widths=tuple(
            tensors[f"encoder.down_blocks.{i}.resnets.0.conv2.weight"].shape[0] for i in levels
        ),
        blocks=count(tensors, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        latent_channels=tensors["decoder.conv_in.weight"].shape[1],
        norm_groups=config.get("norm_num_groups", 32),
        has_quant_conv="quant_conv.weight" in tensors,
        has_post_quant_conv="post_quant_conv.weight" in tensors,
        has_attention=any(".mid_block.attentions." in name for name in tensors),
        **_scale(config),
    )
    return ours, tensors


@register_format(
    "diffusers_tiny",
    source="https://huggingface.co/madebyollin/taesd and other AutoencoderTiny folders",
    licence="MIT",
    note="with the pooled blocks of TAEF2 where the file has them",
)
def diffusers_tiny(state: State, config: Any) -> tuple[AutoencoderTinyConfig, dict[str, Tensor]]:
    """Translate diffusers' AutoencoderTiny; ``config`` is its ``config.json``."""
    tensors = unwrapped(state)
    if isinstance(config, AutoencoderTinyConfig):
        return config, tensors
    _expect(config, act_fn="relu", upsample_fn="nearest", upsampling_scaling_factor=2)
    ours = AutoencoderTinyConfig(
        channels=tensors["encoder.layers.0.weight"].shape[0],
        encoder_blocks=_blocks(tensors, "encoder"),
        decoder_blocks=_blocks(tensors, "decoder"),
        latent_channels=tensors["decoder.layers.0.weight"].shape[1],
        has_pool=any(".pool." in name for name in tensors),
        **_scale(config),
    )
    return ours, tensors


@register_format(
    "diffusers_dc",
    source="https://huggingface.co/mit-han-lab (dc-ae-*-diffusers)",
    licence="see the source",
    note="needs its config.json as the config, or a preset",
)
def diffusers_dc(state: State, config: Any) -> tuple[AutoencoderDCConfig, dict[str, Tensor]]:
    """Translate diffusers' AutoencoderDC; ``config`` is its ``config.json``."""
    tensors = unwrapped(state)
    if isinstance(config, AutoencoderDCConfig):
        return config, tensors
    _expect(
        config,
        encoder_out_shortcut=True,
        decoder_in_shortcut=True,
        decoder_conv_act_fn="relu",
        decoder_block_out_channels=config["encoder_block_out_channels"],
        decoder_block_types=config["encoder_block_types"],
        decoder_qkv_multiscales=config["encoder_qkv_multiscales"],
    )
    widths = tuple(config["encoder_block_out_channels"])
    kinds = _by_level(config["encoder_block_types"], len(widths))
    attention_from = kinds.index(_ATTENTION) if _ATTENTION in kinds else len(kinds)
    kernels = {tuple(k) for k in config["encoder_qkv_multiscales"][attention_from:]}
    norms = _by_level(config["decoder_norm_types"], len(widths))
    if len(kernels) > 1 or "ResBlock" in kinds[attention_from:]:
        raise CheckpointError(
            f"block types {kinds} with attention at scales {sorted(kernels)} given; expected "
            "convolutional levels and then levels with one kind of attention"
        )
    ours = AutoencoderDCConfig(
        widths=widths,
        encoder_blocks=tuple(config["encoder_layers_per_block"]),
        decoder_blocks=tuple(config["decoder_layers_per_block"]),
        attention_from=attention_from,
        kernel_sizes=next(iter(kernels), ()),
        head_dim=config.get("attention_head_dim", 32),
        has_shuffle=config["downsample_block_type"] == "pixel_unshuffle",
        has_batch_norm="batch_norm" in norms,
        latent_channels=config["latent_channels"],
        **_scale(config),
    )
    return ours, tensors


def _by_level(value: str | Sequence[str], levels: int) -> tuple[str, ...]:
    return (value,) * levels if isinstance(value, str) else tuple(value)


def _scale(config: Mapping[str, Any]) -> dict[str, float]:
    return {
        "scale": float(config.get("scaling_factor", 1.0)),
        "shift": float(config.get("shift_factor") or 0.0),
    }


def _expect(config: Mapping[str, Any], **expected: Any) -> None:
    """Check the options of a config that our modules do not have.

    Raises:
        CheckpointError: naming the option.
    """
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise CheckpointError(
                f"{key}={config[key]!r} in the config; only {value!r} is supported"
            )


def _blocks(tensors: Mapping[str, Tensor], part: str) -> tuple[int, ...]:
    """Count the blocks between the plain convolutions of a sequence of layers."""
    pattern = re.compile(rf"{part}\.layers\.(\d+)\.(conv\.|pool\.)?")
    found = (pattern.match(name) for name in tensors)
    is_block = {int(m[1]): bool(m[2]) for m in found if m}
    counts: list[int] = []
    for _, block in sorted(is_block.items()):
        if not block:
            counts.append(0)
        elif counts:
            counts[-1] += 1
    return tuple(counts[:-1])


__all__ = ["diffusers_dc", "diffusers_kl", "diffusers_tiny"]
