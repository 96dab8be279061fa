"""Visual tokenizers and generative image compression: pictures, tokens, small files and back.

Everything is imported when it is first used, so that ``import tessella`` costs next to nothing.

Example:
    >>> import tessella
    >>> model = tessella.load("progressive-gq-f8")          # doctest: +SKIP
    >>> tokens = model.encode("photo.jpg")                  # doctest: +SKIP
    >>> tessella.write("photo.tsl", tokens)                 # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tessella.errors import (
    CheckpointError,
    ConfigError,
    MissingDependencyError,
    PictureError,
    ShapeError,
    TessellaError,
    TokenFileError,
)

if TYPE_CHECKING:
    from tessella.codecs.files import decode, encode, read, write
    from tessella.generation.pipelines import InfinityPipeline, VARPipeline, load_pipeline
    from tessella.hub import load, models
    from tessella.images import save_image as save
    from tessella.tokens import LevelLayout, TokenLayout, Tokens

__version__ = "0.1.0"

# public name -> module and the name there
_LAZY = {
    "InfinityPipeline": ("tessella.generation.pipelines", "InfinityPipeline"),
    "LevelLayout": ("tessella.tokens", "LevelLayout"),
    "TokenLayout": ("tessella.tokens", "TokenLayout"),
    "Tokens": ("tessella.tokens", "Tokens"),
    "VARPipeline": ("tessella.generation.pipelines", "VARPipeline"),
    "decode": ("tessella.codecs.files", "decode"),
    "encode": ("tessella.codecs.files", "encode"),
    "load": ("tessella.hub", "load"),
    "load_pipeline": ("tessella.generation.pipelines", "load_pipeline"),
    "models": ("tessella.hub", "models"),
    "read": ("tessella.codecs.files", "read"),
    "save": ("tessella.images", "save_image"),
    "write": ("tessella.codecs.files", "write"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = [
    "CheckpointError",
    "ConfigError",
    "InfinityPipeline",
    "LevelLayout",
    "MissingDependencyError",
    "PictureError",
    "ShapeError",
    "TessellaError",
    "TokenFileError",
    "TokenLayout",
    "Tokens",
    "VARPipeline",
    "__version__",
    "decode",
    "encode",
    "load",
    "load_pipeline",
    "models",
    "read",
    "save",
    "write",
]
