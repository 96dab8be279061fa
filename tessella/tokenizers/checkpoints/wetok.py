"""Checkpoints of WeTok and Open-MAGVIT2: Lightning files with raw and averaged weights.

Published figures are those of the averaged weights, and the average is taken tensor by tensor:
where only the decoder was trained (the generative stage) the encoder has none. Checkpoints of
generators hold the tokenizer they were trained with under ``first_stage_model.``, which is then
taken as it is: their tokens are those of its raw weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tessella.errors import CheckpointError
from tessella.tokenizers.checkpoints.base import State, register_format
from tessella.tokenizers.checkpoints.lightning import count_averages, with_averages
from tessella.tokenizers.checkpoints.reading import unwrapped
from tessella.tokenizers.checkpoints.renaming import Rule, count, renamed
from tessella.tokenizers.wetok import WeTokConfig

_GROUP_BITS = 8  # of every published WeTok
_INNER = "first_stage_model."
_TOKENIZER = ("encoder.", "decoder.")
_UP_SAMPLER = re.compile(r"decoder\.levels\.\d+\.up\.0\.(weight|bias)")


def _averages(state: State) -> int:
    """Count the averages that :func:`_networks` takes."""
    tensors = unwrapped(state)
    is_inner = any(name.startswith(_INNER) for name in tensors)
    return 0 if is_inner else count_averages(tensors, _TOKENIZER)


@register_format(
    "wetok",
    source="https://huggingface.co/GrayShine/WeTok (.ckpt)",
    licence="Apache-2.0",
    note="averaged weights are taken tensor by tensor where the file has them",
    averages=_averages,
)
def wetok(state: State, config: Any) -> tuple[WeTokConfig, dict[str, Tensor]]:
    """Translate WeTok's Lightning checkpoint; ``config`` is the mapping of its YAML.

    Only the number of groups is read from the mapping (``num_codebooks``, wherever it stands);
    without it groups have 8 bits, as in every release.
    """
    theirs = _networks(state)
    bits = theirs["encoder.conv_out.weight"].shape[0]
    groups = _find(config, "num_codebooks")
    return _translated(theirs, config, bits // _GROUP_BITS if groups is None else groups)


@register_format(
    "open_magvit2",
    source="https://github.com/TencentARC/SEED-Voken (imagenet_256_L.ckpt and others)",
    licence="Apache-2.0",
    note="averaged weights are taken tensor by tensor where the file has them",
    averages=_averages,
)
def open_magvit2(state: State, config: Any) -> tuple[WeTokConfig, dict[str, Tensor]]:
    """Translate Open-MAGVIT2's Lightning checkpoint; all sizes are read from the tensors."""
    return _translated(_networks(state), config, 1)


def _networks(state: State) -> dict[str, Tensor]:
    """Return the encoder's and decoder's tensors under the project's names."""
    tensors = unwrapped(state)
    inner = {n.removeprefix(_INNER): t for n, t in tensors.items() if n.startswith(_INNER)}
    chosen = inner or with_averages(tensors)
    return {n: t for n, t in chosen.items() if n.startswith(_TOKENIZER)}


def _translated(
    theirs: Mapping[str, Tensor], config: Any, groups: int
) -> tuple[WeTokConfig, dict[str, Tensor]]:
    ours = config if isinstance(config, WeTokConfig) else _config(theirs, groups)
    last = len(ours.multipliers) - 1
    rules: list[Rule] = [
        (r"\.mid_block\.", ".middle."),
        (r"\.nin_shortcut\.", ".shortcut."),
        (r"^encoder\.down\.", "encoder.levels."),
        (r"\.downsample\.", ".down."),
        (
            r"^decoder\.(up|adaptive)\.(\d+)\.",
            lambda m: (
                f"decoder.levels.{last - int(m[2])}." + ("norm." if m[1] == "adaptive" else "")
            ),
        ),
        (r"\.block\.(\d+)\.", r".blocks.\1."),
        (r"\.upsample\.conv1\.", ".up.0."),
    ]
    state = renamed(theirs, rules)
    return ours, {
        name: _shuffled(tensor) if _UP_SAMPLER.fullmatch(name) else tensor
        for name, tensor in state.items()
    }


def _shuffled(tensor: Tensor) -> Tensor:
    """Reorder the output channels of an up-sampling convolution for pixel shuffling.

    Theirs put the four pixels of a cell outermost, ``(2 dy + dx) C + c``; ``nn.PixelShuffle`` takes
    ``4 c + 2 dy + dx``.
    """
    cells = tensor.reshape(4, -1, *tensor.shape[1:])
    return cells.transpose(0, 1).flatten(0, 1)


def _config(theirs: Mapping[str, Tensor], groups: int) -> WeTokConfig:
    """Read the sizes from the tensors."""
    widths = [
        theirs[f"encoder.down.{level}.block.0.conv2.weight"].shape[0]
        for level in range(count(theirs, r"encoder\.down\.(\d+)\."))
    ]
    channels = theirs["encoder.conv_in.weight"].shape[0]
    bits = theirs["encoder.conv_out.weight"].shape[0]
    if groups < 1 or bits % groups:
        raise CheckpointError(
            f"{groups} groups given for {bits} bits a position; expected a divisor: give the "
            "config that belongs to the checkpoint"
        )
    return WeTokConfig(
        channels=channels,
        multipliers=tuple(width // channels for width in widths),
        blocks=count(theirs, r"encoder\.down\.0\.block\.(\d+)\."),
        groups=groups,
        group_bits=bits // groups,
        is_generative=theirs["decoder.conv_in.weight"].shape[1] == 2 * bits,
    )


def _find(config: Any, key: str) -> Any:
    """Return the first value of a key in nested mappings; None if there is none."""
    if not isinstance(config, Mapping):
        return None
    if key in config:
        return config[key]
    return next(
        (v for v in (_find(inner, key) for inner in config.values()) if v is not None), None
    )


__all__ = ["open_magvit2", "wetok"]
