"""Published generators: state dicts of the original code to our modules.

The counterpart of :mod:`tessella.tokenizers.checkpoints.base`: a *format* renames tensors and
states our config; strictness and errors are shared here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tessella.config import nearest
from tessella.errors import ConfigError
from tessella.generation.base import Generator
from tessella.generation.registry import GENERATORS
from tessella.tokenizers.checkpoints.base import State, Translate, build, translated


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
    ours, state = translated(name, _FORMATS[name].translate, state_dict, config, GENERATORS)
    return build(ours, state, GENERATORS, source=f"the {name} checkpoint")


__all__ = [
    "GeneratorFormat",
    "State",
    "Translate",
    "convert_generator",
    "generator_formats",
    "register_generator_format",
]
