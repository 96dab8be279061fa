"""The training configurations that ship with the package, by name."""

from __future__ import annotations

from pathlib import Path

from tessella.config import nearest
from tessella.errors import ConfigError

_FOLDER = Path(__file__).parent


def config_names() -> list[str]:
    """Return the names of the shipped configurations."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def find_config(name: str | Path) -> Path:
    """Return the file of a configuration.

    Args:
        name: a shipped name such as ``progressive_gq_tiny``, or the path of a YAML file.

    Raises:
        ConfigError: if there is neither.
    """
    names = config_names()
    if str(name) in names:
        return _FOLDER / f"{name}.yaml"
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise ConfigError(f"{path} does not exist; expected a YAML file or one of {names}")
    raise ConfigError(
        f"configuration {str(name)!r} is unknown; {nearest(str(name), names)} "
        "(or give the path of a YAML file)"
    )


__all__ = ["config_names", "find_config"]
