"""What pictures are asked for: classes, texts, or features of texts; and their size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tessella.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from tessella.generation.pipelines import InfinityPipeline, NextScalePipeline

_SIZE = re.compile(r"(\d+)x(\d+)")
_EXPECTED = {
    "class": "of classes; expected --class NUMBERS",
    "text": "of texts; expected --prompt TEXT or --text-features FILE",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Pictures to generate.

    Args:
        names: of the pictures, without their seeds.
        conditions: what the generator takes, one a picture.
        negative: features of what no picture shall be.
    """

    names: list[str]
    conditions: list[Any]
    negative: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that say what is generated, as they were typed.

    Args:
        classes: class numbers by comma.
        prompts: texts.
        features: file with text features.
        negative: text of what no picture shall be.
        text_encoder: hub id or folder, in place of the one that the pipeline names.
        size: ``WIDTHxHEIGHT``.
        aspect: width by height.
    """

    classes: str = ""
    prompts: tuple[str, ...] = ()
    features: Path | None = None
    negative: str = ""
    text_encoder: str = ""
    size: str = ""
    aspect: float | None = None

    def check(self, model: str, kind: str) -> None:
        """Check that the options fit a model.

        Args:
            model: its name.
            kind: ``class`` or ``text``.

        Raises:
            ConfigError: naming the option that does not fit, and those that do.
        """
        given: dict[str, dict[str, object]] = {
            "class": {"--class": self.classes},
            "text": {
                "--prompt": self.prompts,
                "--text-features": self.features,
                "--negative": self.negative,
                "--text-encoder": self.text_encoder,
                "--aspect": self.aspect,
            },
        }
        for other in given.keys() - {kind}:
            wrong = [option for option, value in given[other].items() if value]
            if wrong:
                raise ConfigError(
                    f"{wrong[0]} given, but {model} writes pictures {_EXPECTED[kind]}"
                )
        if not (self.classes or self.prompts or self.features):
            raise ConfigError(f"nothing to draw given; {model} writes pictures {_EXPECTED[kind]}")
        if self.prompts and self.features:
            raise ConfigError("--prompt and --text-features given; expected one of them")
        if self.size and self.aspect:
            raise ConfigError("--size and --aspect given; expected one of them")

    def wanted(self, pipe: NextScalePipeline, number: int) -> Wanted:
        """Return the pictures to generate, ``number`` of each class or text.

        Raises:
            ConfigError: if an option cannot be understood, or a text not be encoded.
        """
        if pipe.condition_kind == "class":
            labels = class_numbers(self.classes)
            names = [f"class{label}" for label in labels]
            return Wanted(_repeated(names, number), _repeated(labels, number))
        texts = cast("InfinityPipeline", pipe)
        if self.text_encoder:
            texts.text_encoder = self.text_encoder
        found = _read_features(self.features) if self.features else list(self.prompts)
        features = texts.encode_texts(found)
        names = [f"prompt{i}" for i in range(len(features))]
        negative = texts.encode_texts([self.negative])[0] if self.negative else None
        return Wanted(_repeated(names, number), _repeated(features, number), negative)

    def image_size(self, pipe: NextScalePipeline) -> tuple[int, int] | None:
        """Return ``(height, width)`` in pixels; None for the model's usual size.

        Raises:
            ConfigError: if the size cannot be understood, or the model writes one size alone.
        """
        if self.aspect:
            return cast("InfinityPipeline", pipe).nearest_size(self.aspect)
        if not self.size:
            return None
        match = _SIZE.fullmatch(self.size)
        if match is None:
            raise ConfigError(f"--size {self.size!r} given; expected WIDTHxHEIGHT, as in 1024x1024")
        return int(match[2]), int(match[1])


def class_numbers(text: str) -> list[int]:
    """Read numbers separated by commas.

    Raises:
        ConfigError: if there is something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--class {text!r} given; expected class numbers, as in --class 207,360"
        ) from error


def _repeated(items: list[Any], number: int) -> list[Any]:
    return [item for item in items for _ in range(number)]


def _read_features(path: Path) -> list[Tensor]:
    """Read one tensor a text, in the order of their names; numbers in names count as such."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ConfigError(
            f"--text-features {path} given; expected a safetensors file with a tensor (T, C) a "
            f"text: {error}"
        ) from error
    return [tensors[name] for name in sorted(tensors, key=_natural)]


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which ``a2`` comes before ``a10``."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


__all__ = ["Asked", "Wanted", "class_numbers"]
