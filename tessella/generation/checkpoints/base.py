"""Published generators: state dicts of the original code to our modules.

The counterpart of :mod:`tessella.tokenizers.checkpoints.base`: a *format* renames tensors and
states our config; strictness and errors are shared here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from tessella.config import nearest
from tessella.errors import CheckpointError, ConfigError
from tessella.generation.base import Generator
from tessella.generation.registry import GENERATORS
from tessella.tokenizers.saved import load_strictly

State = Mapping[str, Any]
#: ``(state dict, config) -> (our config dataclass, our state dict)``
Translate = Callable[[State, Any], tuple[Any, dict[str, Tensor]]]


@dataclass(frozen=True, slots=True)
class GeneratorFormat:
    """How one project publishes the weights of its generators.

    Args:
        name: what ``tessella convert`` takes.
        translate: from their state dict and a config (our dataclass, a mapping in their words, or
            an empty one) to our config and state dict.
        tokenizer: checkpoint format of the tokenizer whose tokens the generators write.
        source: where the weights come from.
        licence: of the weights, as far as their authors state one.
        note: one sentence.
        tokenizer_config: from our config of the generator to what the conversion of its tokenizer
            must be told.
        text_encoder: hub id of the encoder of prompts that the generators were trained with; empty
            for none.
    """

    name: str
    translate: Translate
    tokenizer: str
    source: str
    licence: str
    note: str = ""
    tokenizer_config: Callable[[Any], State] | None = None
    text_encoder: str = ""


_FORMATS: dict[str, GeneratorFormat] = {}


def register_generator_format(  # the fields of a record
    name: str,
    *,
    tokenizer: str,
    source: str,
    licence: str,
    note: str = "",
    tokenizer_config: Callable[[Any], State] | None = None,
    text_encoder: str = "",
) -> Callable[[Translate], Translate]:
    """Register a translation under the name of a checkpoint format.

    Raises:
        ConfigError: if the name is taken.
    """

    def add(translate: Translate) -> Translate:
        if name in _FORMATS:
            raise ConfigError(f"checkpoint format {name!r} is registered twice")
        _FORMATS[name] = GeneratorFormat(
            name, translate, tokenizer, source, licence, note, tokenizer_config, text_encoder
        )
        return translate

    return add


def generator_formats() -> Mapping[str, GeneratorFormat]:
    """All checkpoint formats of generators by name."""
    return MappingProxyType(_FORMATS)


def convert_generator(name: str, state_dict: State, config: str | State | Any = None) -> Generator:
    """Build a generator from a published checkpoint.

    Args:
        name: of a checkpoint format, see :func:`generator_formats`.
        state_dict: what the file holds: tensors by name, wrapped or not as its project does.
        config: name of a preset, a config dataclass, or the project's own config as a mapping;
            None reads sizes from the tensors.

    Returns:
        The generator in evaluation mode, float32, on the CPU.

    Raises:
        ConfigError: if the format or the preset is unknown.
        CheckpointError: if the tensors are not those of the format, or do not fit the config.
    """
    if name not in _FORMATS:
        raise ConfigError(
            f"checkpoint format {name!r} is unknown; {nearest(name, sorted(_FORMATS))}"
        )
    if isinstance(config, str):
        presets = GENERATORS.presets()
        if config not in presets:
            hint = nearest(config, sorted(presets))
            raise ConfigError(f"preset {config!r} is unknown; {hint}")
        config = presets[config][1].config
    try:
        ours, state = _FORMATS[name].translate(state_dict, {} if config is None else config)
    except KeyError as error:
        raise CheckpointError(
            f"{error.args[0]!r} is missing from the checkpoint or its config; expected one of "
            f"{name!r}: is it another family's?"
        ) from error
    of_config = next(f for f in GENERATORS.all().values() if f.config_class is type(ours))
    with torch.device("meta"):
        model = of_config.model_class(ours)
    floats = {key: tensor.float() for key, tensor in state.items()}
    load_strictly(model, floats, f"the {name} checkpoint")
    return model.eval()


__all__ = [
    "GeneratorFormat",
    "State",
    "Translate",
    "convert_generator",
    "generator_formats",
    "register_generator_format",
]
