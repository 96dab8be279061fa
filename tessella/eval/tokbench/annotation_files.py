"""Annotation files read with suspicion: limits, strict JSON, and pictures inside the folder only.

Whatever is wrong is told as one error that names the file and the line or the entry.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

from tessella.errors import ConfigError, PictureError

MAX_FILE_BYTES = 2**26
MAX_SIDE = 2**20

Record = dict[str, Any]

_SHOWN = 5


def read_annotation(file: Path) -> str:
    """Return the text of an annotation file.

    Raises:
        ConfigError: if it is missing, larger than ``MAX_FILE_BYTES`` or no UTF-8 text.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"annotation {file} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{file} is larger than the limit of {MAX_FILE_BYTES} bytes; split it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no annotation: it is not UTF-8 text") from error


def parse_json(text: str, place: str) -> Any:
    """Return a JSON value; NaN and infinities are refused.

    Args:
        text: what to read.
        place: file, and line where the text is a line of it, for messages.

    Raises:
        ConfigError: if it is not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text else ""
        raise ConfigError(f"{place}{line}: no valid JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # endless digits, NaN; nested without end
        raise ConfigError(f"{place}: no valid JSON: {error}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def as_record(value: Any, place: str) -> Record:
    """Return a JSON object.

    Raises:
        ConfigError: if it is something else.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: {shown(value)} given; expected an object")
    return value


def text_of(record: Record, key: str, place: str, *, longest: int = 4096) -> str:
    """Return a string of a record.

    Raises:
        ConfigError: if it is missing, of another kind or longer than ``longest``.
    """
    value = record.get(key)
    if not isinstance(value, str) or len(value) > longest:
        given = shown(value) if key in record else "nothing"
        raise ConfigError(
            f"{place}: {key}: {given} given; expected a string of at most {longest} characters"
        )
    return value


def list_of(record: Record, key: str, place: str, *, longest: int) -> list[Any]:
    """Return a list of a record.

    Raises:
        ConfigError: if it is missing, of another kind or longer than ``longest``.
    """
    value = record.get(key)
    if not isinstance(value, list) or len(value) > longest:
        given = f"{len(value)} entries" if isinstance(value, list) else shown(value)
        raise ConfigError(
            f"{place}: {key}: {given} given; expected a list of at most {longest} entries"
        )
    return value


def side_of(record: Record, key: str, place: str) -> int:
    """Return the width or height of a picture.

    Raises:
        ConfigError: if it is no whole number from 1 to ``MAX_SIDE``.
    """
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE:
        return value
    raise ConfigError(f"{place}: {key}: {shown(value)} given; expected 1 to {MAX_SIDE}")


def numbers(values: Any, count: int, name: str, place: str) -> tuple[float, ...]:
    """Return coordinates as floats.

    Raises:
        ConfigError: if they are not ``count`` numbers of at most ``MAX_SIDE`` in size.
    """
    fits = isinstance(values, list) and len(values) == count
    if not fits or not all(is_number(v) and abs(v) <= MAX_SIDE for v in values):
        raise ConfigError(
            f"{place}: {name}: {shown(values)} given; expected {count} numbers of at most "
            f"{MAX_SIDE}"
        )
    return tuple(float(v) for v in values)


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def located(
    file: Path, names: Iterable[tuple[str, str]], folders: Sequence[Path]
) -> dict[str, Path]:
    """Find pictures in folders, the first that has them.

    Links are followed, also out of the folder: caches of data sets are made of them. Names that
    lead out of it are refused.

    Args:
        file: the annotation, for messages.
        names: place in the annotation, and name of a picture.
        folders: where they may lie.

    Raises:
        ConfigError: if a name leads out of the folder.
        PictureError: if pictures are missing; names the first of them.
    """
    found: dict[str, Path] = {}
    missing = []
    for place, name in names:
        is_absolute = PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor)
        parts = PureWindowsPath(name).parts  # splits at both kinds of slash
        if not parts or is_absolute or ".." in parts or not name.isprintable():
            raise ConfigError(
                f"{place}: picture {shown(name)} given; expected a file inside the folder"
            )
        path = next((p for folder in folders if (p := folder / name).is_file()), None)
        if path is None:
            missing.append(name)
        else:
            found[name] = path
    if missing:
        first = ", ".join(shown(name) for name in missing[:_SHOWN])
        raise PictureError(
            f"{len(missing)} pictures of {file} are missing: {first}"
            f"{', ...' if len(missing) > _SHOWN else ''}; looked for in "
            f"{', '.join(map(str, folders))}"
        )
    return found


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


__all__ = [
    "MAX_FILE_BYTES",
    "MAX_SIDE",
    "Record",
    "as_record",
    "is_number",
    "list_of",
    "located",
    "numbers",
    "parse_json",
    "read_annotation",
    "shown",
    "side_of",
    "text_of",
]
