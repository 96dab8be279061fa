"""What is evaluated: codecs at qualities, and peers that get the same bytes.

::

    progressive-gq-f8:2 progressive-gq-f8:4 jpeg:20, peers webp

makes two contenders: the tokenizer, which encodes each picture once for both qualities and has
``webp@progressive-gq-f8:2`` and ``webp@progressive-gq-f8:4`` beside it, and JPEG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessella.codecs.named import parse_codec
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.errors import ConfigError
from tessella.eval.results import ORIGINAL, Subject

RESIZE = "resize"  # the canvas of a data set without a codec


@dataclass(frozen=True, slots=True)
class Contender:
    """A codec with all of its qualities in one run.

    Args:
        name: what :func:`tessella.codecs.named.codec_named` takes.
        subjects: one a quality.
        peers: codecs that get the bytes of each subject, picture by picture.
        peer_subjects: one a subject and peer, the peers of the first subject first.
    """

    name: str
    subjects: tuple[Subject, ...]
    peers: tuple[str, ...]
    peer_subjects: tuple[Subject, ...]

    @property
    def all_subjects(self) -> tuple[Subject, ...]:
        """Its own subjects, then those of the peers."""
        return self.subjects + self.peer_subjects


def contenders(
    labels: Sequence[str], *, peers: Sequence[str] = (), device: str = "cpu"
) -> list[Contender]:
    """Read what the user wrote.

    Args:
        labels: ``NAME[:QUALITY]``, tokenizers and classical codecs.
        peers: names of codecs that every tokenizer is compared with at equal bytes.
        device: where to put a tokenizer while its settings are read.

    Raises:
        ConfigError: if there is no such codec or quality, a label comes twice, or a peer has a
            quality; before anything is measured.
        MissingDependencyError: if a library of a codec is not installed.
        CheckpointError: if a model is damaged or cannot be fetched.
    """
    if not labels:
        raise ConfigError("nothing to evaluate was given; expected models, as in jpeg:20")
    grouped: dict[str, list[Subject]] = {}
    is_tokenizer: dict[str, bool] = {}
    for label in labels:
        point = parse_codec(label, device=device)
        name = _without_quality(point.label) if point.quality is not None else point.label
        subject = Subject(point.label, point.codec.name, point.quality, point.codec.settings)
        taken = [s.label for subjects in grouped.values() for s in subjects]
        if subject.label in (*taken, ORIGINAL, RESIZE) or "@" in subject.label:
            raise ConfigError(
                f"model {subject.label!r} given twice or with a name that is taken; expected each "
                f"once, none called {ORIGINAL!r} or {RESIZE!r}, and no '@'"
            )
        grouped.setdefault(name, []).append(subject)
        is_tokenizer[name] = isinstance(point.codec, TokenizerCodec)
    settings = {peer: _peer_settings(peer, device) for peer in peers}
    return [
        _contender(name, subjects, settings if is_tokenizer[name] else {})
        for name, subjects in grouped.items()
    ]


def _contender(name: str, subjects: list[Subject], peers: dict[str, str]) -> Contender:
    matched = tuple(
        Subject(f"{peer}@{subject.label}", peer, None, settings, matched=subject.label)
        for subject in subjects
        for peer, settings in peers.items()
    )
    return Contender(name, tuple(subjects), tuple(peers), matched)


def _peer_settings(peer: str, device: str) -> str:
    point = parse_codec(peer, device=device)
    if point.quality is not None:
        raise ConfigError(
            f"peer {peer!r} given with a quality, but its bytes are those of the model; expected "
            f"{point.codec.name}"
        )
    return point.codec.settings


def _without_quality(label: str) -> str:
    return label.rpartition(":")[0]


__all__ = ["RESIZE", "Contender", "contenders"]
