"""From YAML and ``key=value`` overrides to a checked :class:`TrainingConfig`."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tessella.config import from_dict, nearest, to_dict
from tessella.configs import find_config
from tessella.errors import ConfigError
from tessella.tokenizers.registry import family
from tessella.training.config import TrainingConfig, dotted_keys


class _Loader(yaml.SafeLoader):
    """The safe loader, with numbers such as ``8e-4`` and without silent duplicate keys.

    YAML 1.1 reads ``8e-4`` as text because it lacks a point.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise ConfigError(f"key {key!r} is given twice in the mapping at line {line}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def load_config(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> TrainingConfig:
    """Read, override and check a configuration.

    Args:
        config: a shipped name, the path of a YAML file, or a mapping of the same shape.
        overrides: ``dotted.key=value``, the value in YAML.

    Raises:
        ConfigError: naming the key that is wrong and the nearest right one.
    """
    data = read_config(config)
    for override in overrides:
        apply_override(data, override)
    check_keys(data, TrainingConfig, free=("model.config.", "optimizer.lr_multipliers."))
    result = from_dict(TrainingConfig, data)
    # complete, so that a run goes on with its own sizes should a preset ever change
    complete = dataclasses.replace(result.model, config=to_dict(tokenizer_config(result)))
    return dataclasses.replace(result, model=complete)


def read_config(config: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as a mapping of its own, unchecked.

    Args:
        config: a shipped name, the path of a YAML file, or a mapping.

    Raises:
        ConfigError: if there is none, or it is no mapping.
    """
    if isinstance(config, (str, Path)):
        path = find_config(config)
        data = parse_yaml(path.read_text(encoding="utf-8"), where=str(path))
    else:
        data = copy.deepcopy(dict(config))
    if not isinstance(data, dict):
        raise ConfigError(f"a {type(data).__name__} given; expected a mapping of sections")
    return data


def tokenizer_config(config: TrainingConfig) -> Any:
    """Build the config dataclass of the tokenizer's family.

    Raises:
        ConfigError: with the dotted path of what is wrong.
    """
    of_family = family(config.model.family)
    config_class, given = of_family.config_class, config.model.config
    presets = {preset.name: preset.config for preset in of_family.presets}
    if config.model.preset not in ("", *presets):
        raise ConfigError(
            f"model.preset: {config.model.preset!r} given; "
            f"{nearest(config.model.preset, list(presets))}"
        )
    names = [f.name for f in dataclasses.fields(config_class)]
    for key in given:
        if key not in names:
            raise ConfigError(_unknown(f"model.config.{key}", [f"model.config.{n}" for n in names]))
    try:
        base = to_dict(presets[config.model.preset]) if config.model.preset else {}
        return from_dict(config_class, {**base, **given}, path="model.config")
    except ConfigError as error:
        message = str(error)
        raise ConfigError(
            message if message.startswith("model.config") else f"model.config: {message}"
        ) from error


def parse_yaml(text: str, *, where: str) -> Any:
    """Parse YAML safely.

    Raises:
        ConfigError: naming ``where`` and the line.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()  # type: ignore[no-untyped-call]
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the dotted paths whose values differ between two plain configurations."""
    a, b = dict(_leaves(old, "")), dict(_leaves(new, ""))
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set the value that a text ``dotted.key=value`` names.

    Raises:
        ConfigError: if it is no such text.
    """
    key, equals, value = override.partition("=")
    parts = key.strip().split(".")
    if parts[:2] == ["optimizer", "lr_multipliers"]:  # parameter names have dots themselves
        parts = [*parts[:2], ".".join(parts[2:])] if len(parts) > 2 else parts
    if not equals or not all(parts):
        raise ConfigError(f"{override!r} given; expected key=value, such as trainer.steps=1000")
    here = data
    for i, part in enumerate(parts[:-1]):
        inner = here.setdefault(part, {})
        if not isinstance(inner, dict):
            at = ".".join(parts[: i + 1])
            raise ConfigError(f"{override!r} given, but {at} is {inner!r} and not a section")
        here = inner
    here[parts[-1]] = parse_yaml(value, where=f"override {override!r}")


def check_keys(data: Mapping[str, Any], cls: type, *, free: tuple[str, ...]) -> None:
    """Find the first unknown key of the sections; suggestions come from the whole tree.

    Args:
        data: what was given.
        cls: config dataclass that says which keys there are.
        free: beginnings of keys that are checked elsewhere.

    Raises:
        ConfigError: naming the key and the nearest right one.
    """
    known = dotted_keys(cls)
    for key, _ in _nodes(data, ""):
        if key not in known and not key.startswith(free):
            raise ConfigError(_unknown(key, known))


def _unknown(key: str, known: Sequence[str]) -> str:
    """Say what the nearest key is: of the same name elsewhere, or of a similar path."""
    last = key.rpartition(".")[2]
    same = [k for k in known if k.rpartition(".")[2] == last]
    close = same or difflib.get_close_matches(key, known, n=1)
    if not close:
        by_name = {k.rpartition(".")[2]: k for k in known}
        close = [by_name[name] for name in difflib.get_close_matches(last, by_name, n=1)]
    siblings = [k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]]
    hint = f"did you mean {close[0]!r}?" if close else f"expected one of {siblings or list(known)}"
    return f"{key}: unknown key; {hint}"


def _nodes(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield every key with its dotted path, a section before what is in it."""
    for key, value in data.items():
        path = f"{prefix}{key}"
        yield path, value
        if isinstance(value, Mapping):
            yield from _nodes(value, f"{path}.")


def _leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    return ((k, v) for k, v in _nodes(data, prefix) if not isinstance(v, Mapping))


__all__ = [
    "apply_override",
    "changed_keys",
    "check_keys",
    "load_config",
    "parse_yaml",
    "read_config",
    "tokenizer_config",
]
