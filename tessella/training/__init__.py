"""Training of tokenizers from a configuration."""

from tessella.training.config import TrainingConfig
from tessella.training.config_file import load_config
from tessella.training.run import train

__all__ = ["TrainingConfig", "load_config", "train"]
