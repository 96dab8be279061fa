"""Published checkpoints: state dicts of the original code to our modules.

::

    checkpoint --read_checkpoint--> state dict --convert(name, ...)--> Tokenizer

A *format* is how one published project stores its weights. Its ``translate`` function renames
tensors and states our config; everything else (strictness, dtypes, errors) is shared here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tessella.config import nearest
from tessella.errors import CheckpointError, ConfigError
from tessella.families import Families
from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.registry import TOKENIZERS
from tessella.tokenizers.saved import load_strictly

M = TypeVar("M", bound=nn.Module)
State = Mapping[str, Any]
#: ``(state dict, config) -> (our config dataclass, our state dict)``
Translate = Callable[[State, Any], tuple[Any, dict[str, Tensor]]]
#: ``state dict -> number of tensors that are taken from moving averages``
CountAverages = Callable[[State], int]


@dataclass(frozen=True, slots=True)
class Format:
    """How one project publishes its weights.

    Args:
        name: what ``tessella convert`` takes.
        translate: from their state dict and a config to our config and state dict. The config is
            our dataclass (a preset was named), a mapping in the project's own words, or empty: then
            sizes are read from the tensors where they can be.
        source: where the weights come from.
        licence: of the weights, as far as their authors state one.
        note: one sentence.
        averages: counts the tensors that ``translate`` takes from moving averages; None for
            projects that publish none.
    """

    name: str
    translate: Translate
    source: str
    licence: str
    note: str = ""
    averages: CountAverages | None = None


_FORMATS: dict[str, Format] = {}


def register_format(
    name: str,
    *,
    source: str,
    licence: str,
    note: str = "",
    averages: CountAverages | None = None,
) -> Callable[[Translate], Translate]:
    """Register a translation under the name of a checkpoint format.

    Raises:
        ConfigError: if the name is taken.
    """

    def add(translate: Translate) -> Translate:
        if name in _FORMATS:
            raise ConfigError(f"checkpoint format {name!r} is registered twice")
        _FORMATS[name] = Format(name, translate, source, licence, note, averages)
        return translate

    return add


def formats() -> Mapping[str, Format]:
    """All checkpoint formats by name."""
    return MappingProxyType(_FORMATS)


def convert(family: str, state_dict: State, config: str | State | Any = None) -> Tokenizer:
    """Build a tokenizer from a published checkpoint.

    Args:
        family: name of a checkpoint format, see :func:`formats`.
        state_dict: what the file holds (see :func:`~tessella.tokenizers.checkpoints.reading.
            read_checkpoint`): tensors by name, wrapped or not as its project does.
        config: name of a preset, a config dataclass, or the project's own config as a mapping;
            None reads sizes from the tensors.

    Returns:
        The tokenizer in evaluation mode, float32, on the CPU.

    Raises:
        ConfigError: if the format or the preset is unknown.
        CheckpointError: if the tensors are not those of the format, or do not fit the config.
    """
    form = _format(family)
    ours, state = translated(family, form.translate, state_dict, config, TOKENIZERS)
    return build(ours, state, TOKENIZERS, source=f"the {family} checkpoint")


def translated(
    name: str,
    translate: Translate,
    state_dict: State,
    config: str | State | Any,
    models: Families[Any],
) -> tuple[Any, dict[str, Tensor]]:
    """Return our config and state dict of a checkpoint of tokenizers or generators.

    Args:
        name: of the checkpoint format.
        translate: of that format.
        state_dict: what the file holds.
        config: as for :func:`convert`.
        models: the families whose presets may be named.

    Raises:
        ConfigError: if the preset is unknown.
        CheckpointError: if tensors or keys of the config are missing.
    """
    if isinstance(config, str):
        config = models.preset(config)[1].config
    try:
        return translate(state_dict, {} if config is None else config)
    except KeyError as error:
        raise CheckpointError(
            f"{error.args[0]!r} is missing from the checkpoint or its config; expected one of "
            f"{name!r}: is it another family's?"
        ) from error


def count_averages(family: str, state_dict: State) -> int:
    """Count the tensors that :func:`convert` takes from moving averages of the weights.

    Trainers keep averages beside the weights of the last step; published figures are mostly those
    of the averages.

    Args:
        family: name of a checkpoint format.
        state_dict: what the file holds, as for :func:`convert`.

    Raises:
        ConfigError: if the format is unknown.
    """
    averages = _format(family).averages
    return averages(state_dict) if averages else 0


def build(config: Any, state: Mapping[str, Tensor], models: Families[M], *, source: str) -> M:
    """Build the model of a config with given tensors, strictly.

    Args:
        config: a family's config dataclass.
        state: every tensor of the model.
        models: the families that the config may be of.
        source: what the tensors come from, for messages.

    Raises:
        CheckpointError: listing missing, unexpected or misshapen keys.
    """
    cls = models.of_config(config).model_class
    with torch.device("meta"):
        model = cls(config)  # type: ignore[call-arg]  # models take their config
    load_strictly(model, {name: tensor.float() for name, tensor in state.items()}, source)
    left = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    if left:  # made by the constructor and not saved: only a real model has them
        loaded, model = model.state_dict(), cls(config)  # type: ignore[call-arg]
        load_strictly(model, loaded, source)
    return model.eval()


def _format(name: str) -> Format:
    if name not in _FORMATS:
        raise ConfigError(
            f"checkpoint format {name!r} is unknown; {nearest(name, sorted(_FORMATS))}"
        )
    return _FORMATS[name]


__all__ = [
    "CountAverages",
    "Format",
    "State",
    "Translate",
    "build",
    "convert",
    "count_averages",
    "formats",
    "register_format",
    "translated",
]
