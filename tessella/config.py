"""Strict conversion between plain dictionaries (YAML, JSON) and frozen dataclasses.

An unknown key is an error that suggests the nearest right one, a missing key takes its default,
and a wrong type names the dotted path. Nothing is ever executed or imported by name.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tessella.errors import ConfigError

T = TypeVar("T")


def from_dict(cls: type[T], data: Mapping[str, Any], *, path: str = "") -> T:
    """Build a dataclass from a mapping, strictly.

    Args:
        cls: the dataclass to build; nested dataclasses are built from nested mappings.
        data: keys and values.
        path: where ``data`` sits in the whole configuration, for messages.

    Raises:
        ConfigError: for an unknown key, a missing one without default, or a wrong type.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Size:
        ...     width: int = 8
        >>> from_dict(Size, {"width": 4})
        Size(width=4)
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path or cls.__name__}: {_kind(data)} given; expected a mapping")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise ConfigError(_unknown(_join(path, str(key)), str(key), list(fields)))
    hints = get_type_hints(cls)
    values = {key: convert(hints[key], value, path=_join(path, key)) for key, value in data.items()}
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{_join(path, missing[0])} is missing; give it a value")
    return cls(**values)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as a dictionary of plain JSON values (tuples become lists)."""
    return {key: _plain(value) for key, value in dataclasses.asdict(config).items()}


def convert(hint: Any, value: Any, *, path: str) -> Any:  # noqa: PLR0911  # one a kind of hint
    """Check ``value`` against a type hint and return it in that type.

    Raises:
        ConfigError: if the value does not fit.
    """
    origin, args = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        return from_dict(hint, value, path=path)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in args or type(value) not in {type(a) for a in args}:
            raise ConfigError(_unknown_choice(path, value, args))
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, path)
    if origin is tuple:
        return _convert_tuple(args, value, path)
    if origin in (list, dict):
        return _convert_container(origin, args, value, path)
    if hint is Any:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{path}: {_kind(value)} given; expected {_name(hint)}")
    return value


def _convert_union(args: tuple[Any, ...], value: Any, path: str) -> Any:
    errors = []
    for arg in args:
        if arg is type(None):
            if value is None:
                return None
            continue
        try:
            return convert(arg, value, path=path)
        except ConfigError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    names = " or ".join(_name(a) for a in args)
    raise ConfigError(f"{path}: {_kind(value)} given; expected {names}")


def _convert_tuple(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{path}: {_kind(value)} given; expected a list")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(convert(args[0], v, path=f"{path}.{i}") for i, v in enumerate(value))
    if len(value) != len(args):
        raise ConfigError(f"{path}: a list of {len(value)} given; expected {len(args)} values")
    return tuple(
        convert(arg, v, path=f"{path}.{i}")
        for i, (arg, v) in enumerate(zip(args, value, strict=True))
    )


def _convert_container(origin: Any, args: tuple[Any, ...], value: Any, path: str) -> Any:
    if not isinstance(value, origin):
        raise ConfigError(f"{path}: {_kind(value)} given; expected a {origin.__name__}")
    if origin is list:
        return [convert(args[0], v, path=f"{path}.{i}") for i, v in enumerate(value)]
    return {
        convert(args[0], k, path=path): convert(args[1], v, path=_join(path, str(k)))
        for k, v in value.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def nearest(key: str, choices: list[str]) -> str:
    """Return a hint that names the nearest choice, or all of them when none is near."""
    close = difflib.get_close_matches(key, choices, n=1)
    return f"did you mean {close[0]!r}?" if close else "expected one of: " + ", ".join(choices)


def _unknown(path: str, key: str, choices: list[str]) -> str:
    return f"{path}: unknown key; {nearest(key, choices)}"


def _unknown_choice(path: str, value: Any, choices: tuple[Any, ...]) -> str:
    return f"{path}: {value!r} given; {nearest(str(value), [str(c) for c in choices])}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _kind(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint))


__all__ = ["convert", "from_dict", "nearest", "to_dict"]
