"""The exceptions of the library: one root, few children.

Every message has three parts: what was given, what was expected, what to do about it.
"""


class TessellaError(Exception):
    """Root of every error that the library raises on purpose."""


class ConfigError(TessellaError, ValueError):
    """A configuration has an unknown key, a wrong type or an impossible value."""


class ShapeError(TessellaError, ValueError):
    """A tensor or a size does not fit what the operation needs."""


class PictureError(TessellaError, ValueError):
    """A picture file is damaged, too large or of a kind that cannot be read."""


class TokenFileError(TessellaError, ValueError):
    """A token file is damaged, hostile, truncated or needs something that is not here."""


class TargetError(TessellaError, ValueError):
    """No file of a picture has the size or the quality that was asked for."""


class CheckpointError(TessellaError, ValueError):
    """Weights are missing, foreign, truncated or do not fit the model."""


class MissingWeightsError(CheckpointError):
    """Published weights are neither at the given path nor in a cache; none were downloaded."""


class MissingDependencyError(TessellaError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


__all__ = [
    "CheckpointError",
    "ConfigError",
    "MissingDependencyError",
    "MissingWeightsError",
    "PictureError",
    "ShapeError",
    "TargetError",
    "TessellaError",
    "TokenFileError",
]
