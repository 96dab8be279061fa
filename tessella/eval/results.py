"""What an evaluation found: records a picture, a word and a face, and figures of whole sets.

Everything is plain data that JSON holds. Means and tables are made of the records and are never
stored beside them, so the two cannot disagree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tessella.errors import ConfigError
from tessella.images import atomic_file

VERSION = 1
ORIGINAL = "original"  # the subject of readings of untouched pictures

Kind = Literal["images", "text", "faces"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A codec at one quality.

    Args:
        label: what it is called everywhere, such as ``jpeg:20`` or ``jpeg@progressive-gq-f8:2``.
        codec: name of the codec.
        quality: its quality; None for its default, or where another subject's bytes decide.
        settings: all else that decides the bytes.
        matched: label of the subject whose bytes it meets, picture by picture; empty for none.
    """

    label: str
    codec: str
    quality: int | None
    settings: str
    matched: str = ""


@dataclass(frozen=True, slots=True)
class SetInfo:
    """Pictures that were measured.

    Args:
        name: what it is called in records.
        kind: what is measured on it besides pixels.
        count: number of pictures.
        digest: SHA-256 over the files.
        canvas: side of the square that TokBench pads pictures to; 0 where they keep their size.
        engine: what read the words or embedded the faces, with versions; empty for pictures.
    """

    name: str
    kind: Kind
    count: int
    digest: str
    canvas: int = 0
    engine: str = ""

    @property
    def engine_title(self) -> str:
        """The engine with eight digits of each digest, for headings."""
        return re.sub(r"(sha256:[0-9a-f]{8})[0-9a-f]+", r"\1", self.engine)


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """One reconstruction.

    Args:
        subject: label.
        dataset: name of the set.
        picture: its file in the set.
        width: in pixels, of the original.
        height: in pixels.
        num_bytes: of the file.
        encode_seconds: from pixels to bytes; for several qualities of one codec, the work that
            they share counts in each.
        decode_seconds: from bytes to pixels.
        scores: by metric (``psnr``, ``ssim``, ``ms_ssim``, ``lpips``, ``dists``); None where the
            picture is too small for it.
    """

    subject: str
    dataset: str
    picture: str
    width: int
    height: int
    num_bytes: int
    encode_seconds: float
    decode_seconds: float
    scores: dict[str, float | None]

    @property
    def bpp(self) -> float:
        """Bits of the file per pixel."""
        return 8 * self.num_bytes / (self.width * self.height)


@dataclass(frozen=True, slots=True)
class WordRecord:
    """One word that was read.

    Args:
        subject: label; ``original`` for the untouched picture.
        dataset: name of the set.
        picture: its file in the set.
        text: what is written.
        read: what the engine read.
        height: of its characters, pixels of the original.
        ratio: character size over the picture's longer side.
    """

    subject: str
    dataset: str
    picture: str
    text: str
    read: str
    height: float
    ratio: float


@dataclass(frozen=True, slots=True)
class FaceRecord:
    """One face.

    Args:
        subject: label.
        dataset: name of the set.
        picture: its file in the set.
        side: of the face, pixels of the original.
        ratio: that over the picture's longer side.
        similarity: of the reconstructed and the original face, by the set's engine.
    """

    subject: str
    dataset: str
    picture: str
    side: float
    ratio: float
    similarity: float


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a whole set, such as rFID.

    Args:
        subject: label.
        dataset: name of the set.
        metric: its name.
        value: None if it could not be computed.
        protocol: of :class:`tessella.eval.protocol.Protocol`; how it was measured.
        note: why there is no value, or what to mind.
    """

    subject: str
    dataset: str
    metric: str
    value: float | None
    protocol: dict[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """How one codebook of a tokenizer is used on a set.

    Args:
        subject: label.
        dataset: name of the set.
        part: which group or level, in words.
        vocab_size: codes that there are.
        statistics: by name (``usage``, ``entropy``, ``perplexity``, ``zipf``, ``gini``, ...).
        ranks: where the frequencies below were taken, from 1.
        shares: share of all tokens that the code of each rank has.
    """

    subject: str
    dataset: str
    part: str
    vocab_size: int
    statistics: dict[str, float]
    ranks: list[int]
    shares: list[float]


@dataclass(frozen=True, slots=True)
class Results:
    """All of an evaluation.

    Args:
        subjects: what was evaluated.
        sets: on what.
        protocol: of the distances between sets.
        versions: of the libraries that figures depend on.
        pictures: one each reconstruction.
        words: one each word and subject.
        faces: one each face and subject.
        figures: of whole sets.
        tokens: use of codebooks.
        missing: metric or engine, and what it lacks.
    """

    subjects: tuple[Subject, ...]
    sets: tuple[SetInfo, ...]
    protocol: dict[str, Any]
    versions: dict[str, str]
    pictures: tuple[PictureRecord, ...] = ()
    words: tuple[WordRecord, ...] = ()
    faces: tuple[FaceRecord, ...] = ()
    figures: tuple[Figure, ...] = ()
    tokens: tuple[TokenRecord, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write a JSON file, whole or not at all."""
        text = json.dumps({"version": VERSION, **asdict(self)}, indent=1, ensure_ascii=False)
        with atomic_file(Path(path)) as stream:
            stream.write((text + "\n").encode("utf-8"))

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Read what :meth:`save` wrote.

        Raises:
            ConfigError: if the file is none of ours, or of another version.
        """
        try:
            value = json.loads(Path(path).read_text("utf-8"))
            if value.pop("version", None) != VERSION:
                raise ConfigError(
                    f"{path} is no evaluation of version {VERSION}; expected a file that "
                    "`tessella eval --json` wrote"
                )
            for name, record in _RECORDS.items():
                value[name] = tuple(record(**item) for item in value[name])
            return cls(**value)
        except ConfigError:
            raise
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"{path} cannot be read as an evaluation ({error}); expected a file that "
                "`tessella eval --json` wrote"
            ) from error


_RECORDS: Mapping[str, type[Any]] = {
    "subjects": Subject,
    "sets": SetInfo,
    "pictures": PictureRecord,
    "words": WordRecord,
    "faces": FaceRecord,
    "figures": Figure,
    "tokens": TokenRecord,
}

__all__ = [
    "ORIGINAL",
    "VERSION",
    "FaceRecord",
    "Figure",
    "Kind",
    "PictureRecord",
    "Results",
    "SetInfo",
    "Subject",
    "TokenRecord",
    "WordRecord",
]
