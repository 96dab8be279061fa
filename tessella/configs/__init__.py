"""Training configurations that ship with the package."""

from tessella.configs.shipped import config_names, find_config

__all__ = ["config_names", "find_config"]
