"""Checkpoints of TiTok, TA-TiTok and One-D-Piece.

Sizes come from the tensors. What these do not tell comes from the project's own config where it is
given, from its section ``model.vq_model``:

* ``use_l2_norm``; by default true with the proxy head and false with the pixel head, as in every
  published model;
* attention heads, which follow from ``vit_enc_model_size`` and ``vit_dec_model_size`` for small,
  base and large, and are ``heads`` for others; by default 64 channels wide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.maskgit_vqgan import maskgit_sizes
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, count, renamed
from tessella.tokenizers.layers.latent_tokens import TransformerSize
from tessella.tokenizers.maskgit_vqgan import MaskGITVQGANConfig
from tessella.tokenizers.one_d_piece import OneDPieceConfig
from tessella.tokenizers.ta_titok import TATiTokConfig
from tessella.tokenizers.titok_sizes import TiTokConfig

C = TypeVar("C", bound=TiTokConfig)

_HEADS = {"small": 8, "base": 12, "large": 16}
_HEAD_WIDTH = 64

_RULES: tuple[Rule, ...] = (
    (r"^latent_tokens$", "encoder.latent_tokens"),
    (r"\.latent_token_positional_embedding$", ".latent_positions"),
    (r"\.text_guidance_positional_embedding$", ".text_positions"),
    (r"\.positional_embedding$", ".positions"),
    (r"\.text_guidance_proj\.", ".text_embed."),
    (r"\.ln_pre\.", ".norm_pre."),
    (r"\.ln_post\.", ".norm_post."),
    (r"\.transformer\.(\d+)\.", r".blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^encoder\.conv_out\.", "encoder.projection."),
    (r"^decoder\.decoder_embed\.", "decoder.embed."),
    (r"^quantize\.embedding\.weight$", "quantizer.codebook"),
    (r"^quantize\.embed_prob$", "quantizer.usage"),
    (r"^pixel_quantize\.embedding\.weight$", "pixel_codebook"),
)
_PIXEL_HEAD: tuple[Rule, ...] = (
    (r"^decoder\.ffn\.0\.", "decoder.head.patches."),
    (r"^decoder\.conv_out\.", "decoder.head.smooth."),
)
_PROXY_HEAD: tuple[Rule, ...] = ((r"^decoder\.ffn\.", "decoder.head."),)


@register_format(
    "titok",
    source="https://huggingface.co/yucornetto (tokenizer_titok_*)",
    licence="Apache-2.0",
    note="codes or Gaussian, proxy or pixel head",
)
def titok(state: State, config: Any) -> tuple[TiTokConfig, dict[str, Tensor]]:
    """Translate TiTok; ``config`` is its YAML as a mapping."""
    return _translated(state, config, TiTokConfig)


@register_format(
    "one_d_piece",
    source="https://huggingface.co/turing-motors (One-D-Piece-{S,B,L}-256)",
    licence="Apache-2.0",
    note="checkpoints of the first stage of training, without pixel_*, encode and do not draw",
)
def one_d_piece(state: State, config: Any) -> tuple[OneDPieceConfig, dict[str, Tensor]]:
    """Translate One-D-Piece; ``config`` is its YAML as a mapping."""
    return _translated(state, config, OneDPieceConfig)


@register_format(
    "ta_titok",
    source="https://huggingface.co/turkeyju (tokenizer_tatitok_*)",
    licence="Apache-2.0 (for research, as the authors say)",
    note="TiTok whose decoder takes a caption",
)
def ta_titok(state: State, config: Any) -> tuple[TATiTokConfig, dict[str, Tensor]]:
    """Translate TA-TiTok; ``config`` is its YAML as a mapping."""
    theirs = unwrapped(state)
    width, length = (
        theirs["decoder.text_guidance_proj.weight"].shape[1],
        theirs["decoder.text_guidance_positional_embedding"].shape[0],
    )
    ours, result = _translated(theirs, config, TATiTokConfig)
    result["decoder.null_text"] = torch.zeros(length, width)  # theirs never goes without text
    return replace(ours, text_width=width, text_length=length), result


def _translated(state: State, config: Any, cls: type[C]) -> tuple[C, dict[str, Tensor]]:
    theirs = unwrapped(state)
    is_proxy = "decoder.ffn.2.weight" in theirs
    if isinstance(config, Mapping):
        ours = _config(theirs, config, cls, is_proxy=is_proxy)
    elif type(config) is cls:
        ours = config
    else:
        raise ConfigError(
            f"a config of type {type(config).__name__} given; expected {cls.__name__}, the name of "
            "a preset of that family, or the project's own config as a mapping"
        )
    if is_proxy:
        has_decoder = "pixel_quantize.embedding.weight" in theirs
        ours = replace(ours, proxy_parts="decoder" if has_decoder else "none")
    result = renamed(theirs, (*_RULES, *(_PROXY_HEAD if is_proxy else _PIXEL_HEAD)))
    # their projection is a 1x1 convolution, ours is linear
    result["encoder.projection.weight"] = result["encoder.projection.weight"].flatten(1)
    return ours, result


def _config(
    theirs: Mapping[str, Tensor], config: Mapping[str, Any], cls: type[C], *, is_proxy: bool
) -> C:
    """Read the sizes from the tensors, and the rest from their config."""
    settings = _vq_model(config)
    patch = theirs["encoder.patch_embed.weight"].shape[-1]
    codebook = theirs.get("quantize.embedding.weight")
    return cls(
        image_size=patch * math.isqrt(theirs["encoder.positional_embedding"].shape[0] - 1),
        patch=patch,
        tokens=theirs["latent_tokens"].shape[0],
        encoder=_size(theirs, "encoder", settings, "vit_enc_model_size"),
        decoder=_size(theirs, "decoder", settings, "vit_dec_model_size"),
        codebook_size=0 if codebook is None else codebook.shape[0],
        code_dim=theirs["decoder.decoder_embed.weight"].shape[1],
        is_cosine=codebook is not None and bool(settings.get("use_l2_norm", is_proxy)),
        is_clustering="quantize.embed_prob" in theirs,
        head="proxy" if is_proxy else "pixels",
        proxy=_proxy(theirs) if is_proxy else MaskGITVQGANConfig(),
    )


def _proxy(theirs: Mapping[str, Tensor]) -> MaskGITVQGANConfig:
    """Return the sizes of the VQGAN; without its decoder only the number of codes is known."""
    codebook = theirs.get("pixel_quantize.embedding.weight")
    if codebook is None:
        return MaskGITVQGANConfig(codebook_size=theirs["decoder.ffn.2.weight"].shape[0])
    return maskgit_sizes(theirs, "pixel_decoder.", codebook)


def _size(
    theirs: Mapping[str, Tensor], half: str, settings: Mapping[str, Any], key: str
) -> TransformerSize:
    width = theirs[f"{half}.class_embedding"].shape[-1]
    depth = count(theirs, rf"{half}\.transformer\.(\d+)\.")
    named = _HEADS.get(settings.get(key, ""))
    heads = named or settings.get("heads") or max(1, width // _HEAD_WIDTH)
    return TransformerSize(width, depth, heads)


def _vq_model(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the section ``model.vq_model`` of a config; an empty one if there is none."""
    section: Mapping[str, Any] = (config.get("model") or {}).get("vq_model") or {}
    return section


__all__ = ["one_d_piece", "ta_titok", "titok"]
