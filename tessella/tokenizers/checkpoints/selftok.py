"""Checkpoints of Selftok: the encoder and its codebook.

The files hold neither the autoencoder, which is Stable Diffusion 3's, nor names of a decoder that
are known here. Tensors that nothing reads are left out: norms that the published code does not
call, and the image stream of the last block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tessella.errors import CheckpointError
from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.reading import takes_averages, unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, count, renamed, without
from tessella.tokenizers.selftok import SelftokConfig

_ANCHOR = "query_tokens"
_ENCODER = ("x_embedder.", _ANCHOR, "blocks.", "quantizer.", "final_layer_norm3.")
_RULES: tuple[Rule, ...] = (
    (r"^x_embedder\.proj\.", "x_embedder."),
    (r"\.fc1\.", ".0."),
    (r"\.fc2\.", ".2."),
    (r"\.t_embedder\.mlp\.", ".t_embedder."),
    (r"\.adaLN_modulation\.", ".modulation."),
    (r"^quantizer\.(?=project_)", ""),
    (r"^final_layer_norm3\.", "norm_out."),
)
_CODEBOOK = "quantizer._codebook."
_KEYS = ("ema", "model", "state_dict")  # where weights stand, best first


@register_format(
    "selftok_encoder",
    source="https://huggingface.co/selftok-team/SelftokTokenizer",
    licence="MIT",
    note="encodes latents; join the autoencoder of Stable Diffusion 3 to encode pictures",
    averages=lambda s: len(_encoder(unwrapped(s, _KEYS))) if takes_averages(s, _KEYS) else 0,
)
def selftok_encoder(state: State, config: Any) -> tuple[SelftokConfig, dict[str, Tensor]]:
    """Translate Selftok's encoder; ``config`` may state ``stages`` and ``k_per_stage``."""
    theirs = _encoder(unwrapped(state, _KEYS))
    ours = config if isinstance(config, SelftokConfig) else _config(theirs, config)
    last = f"blocks.{ours.depth - 1}."
    kept = without(theirs, _CODEBOOK, *(last + x for x in ("attn.qkv.", "attn.proj.", "mlp.")))
    codebook = theirs[_CODEBOOK + "embed"].flatten(0, -2)
    return ours, renamed(kept, _RULES) | {
        "quantizer.codebook": codebook,
        # running averages as they would be after one hit of every code
        "quantizer.counts": torch.ones(len(codebook)),
        "quantizer.sums": codebook.clone(),
        "quantizer.initialised": torch.tensor(True),
    }


def _encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors without the prefix that they may have."""
    prefix = next((n.removesuffix(_ANCHOR) for n in state if n.endswith(_ANCHOR)), "")
    found = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    return {name: tensor for name, tensor in found.items() if name.startswith(_ENCODER)}


def _config(theirs: Mapping[str, Tensor], config: State) -> SelftokConfig:
    """Read the sizes from the tensors, and what they do not tell from the config."""
    base = SelftokConfig()
    tokens, query_width = theirs[_ANCHOR].shape[1:]
    width, channels, patch, _ = theirs["x_embedder.proj.weight"].shape
    embedding_width, code_dim = theirs["quantizer.project_out.weight"].shape
    counts = _numbers(config.get("k_per_stage", base.tokens_per_stage))
    if sum(counts) != tokens:
        raise CheckpointError(
            f"{tokens} queries found, and {sum(counts)} tokens in the stages {counts}; expected "
            "the same: give a config with the checkpoint's 'k_per_stage'"
        )
    return SelftokConfig(
        tokens_per_stage=counts,
        stages=_numbers(config.get("stages", base.stages)),
        latent_channels=channels,
        patch=patch,
        width=width,
        heads=config.get("num_heads", base.heads),
        query_width=query_width,
        query_heads=config.get("query_heads", base.query_heads),
        depth=count(theirs, r"blocks\.(\d+)\."),
        position_side=config.get("pos_embed_max_size", base.position_side),
        code_dim=code_dim,
        codebook_size=theirs[_CODEBOOK + "embed"].shape[-2],
        embedding_width=embedding_width,
    )


def _numbers(stated: Any) -> tuple[int, ...]:
    """Read numbers that may stand in one string, separated by commas."""
    return tuple(int(x) for x in (stated.split(",") if isinstance(stated, str) else stated))


__all__ = ["selftok_encoder"]
