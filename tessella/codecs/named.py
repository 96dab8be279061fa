"""Codecs by name, as the command line writes them: ``jpeg:20``, ``progressive-gq-f8:2``."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tessella.codecs.base import Codec
from tessella.codecs.classical import classical_codecs
from tessella.codecs.files import codec_of
from tessella.config import nearest
from tessella.errors import ConfigError
from tessella.hub import is_hub_id, models


class CodecPoint(NamedTuple):
    """A codec at one quality.

    Args:
        codec: what compresses.
        quality: one of its qualities; None where none was written.
        label: what was written.
    """

    codec: Codec
    quality: int | None
    label: str


def codec_named(name: str, *, device: str = "cpu") -> Codec:
    """Return a classical codec, or a tokenizer's.

    Args:
        name: a classical name; a model that can be used by name, a folder (``./jpeg`` if it is
            called like a classical one), or a hub id.
        device: where to put a tokenizer.

    Raises:
        ConfigError: if there is no such codec; the message names the nearest one.
        MissingDependencyError: if a library of the codec is not installed.
        CheckpointError: if a model is damaged or cannot be fetched.
    """
    classical = classical_codecs()
    if name in classical:
        classical[name].check_installed()
        return classical[name]
    known = _names()
    if name in known or is_hub_id(name) or (name and Path(name).is_dir()):
        return codec_of(name, device=device)
    raise ConfigError(
        f"there is no codec {name!r}; {nearest(name, known)} (or give a folder of a model, or a "
        "hub id like org/name)"
    )


def parse_codec(text: str, *, device: str = "cpu") -> CodecPoint:
    """Read ``NAME[:QUALITY]``.

    Args:
        text: as ``jpeg:20``; see :func:`codec_named` for names.
        device: where to put a tokenizer.

    Raises:
        ConfigError: if there is no such codec, or it has no such quality.
        MissingDependencyError: if a library of the codec is not installed.
        CheckpointError: if a model is damaged or cannot be fetched.
    """
    text = text.strip()
    name, colon, written = text.rpartition(":")
    quality = _integer(written)
    if not colon or (quality is None and name not in _names()):
        return CodecPoint(codec_named(text, device=device), None, text)
    if quality is None:
        raise ConfigError(
            f"{text!r} gives {written!r} as the quality of {name}; expected an integer, as jpeg:20"
        )
    codec = codec_named(name, device=device)
    return CodecPoint(codec, codec.check_quality(quality), text)


def _names() -> list[str]:
    return [*classical_codecs(), *(record.name for record in models())]


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


__all__ = ["CodecPoint", "codec_named", "parse_codec"]
