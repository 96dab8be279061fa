"""Counting the entropy prior of a trained tokenizer, which ships beside its weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from tessella.codecs.entropy.calibration import calibrate
from tessella.codecs.entropy.prior import PRIOR_FILE
from tessella.data.pictures import PictureSet
from tessella.tokenizers.base import Tokenizer
from tessella.tokens import Tokens
from tessella.training.validation import read_image

_log = logging.getLogger(__name__)


def write_prior(
    model: Tokenizer,
    pictures: PictureSet,
    indices: Sequence[int],
    folder: Path,
    *,
    side: int,
) -> None:
    """Tokenize pictures, count their indices and write the prior beside the weights.

    Args:
        model: the tokenizer whose tokens are to be coded.
        pictures: pictures like those that will be coded.
        indices: which of them.
        folder: folder of the saved tokenizer.
        side: longer sides are cut to the central part of this many pixels.
    """

    def tokens() -> Iterator[Tokens]:
        for index in indices:
            image = read_image(pictures, index, side)
            if image is not None:
                yield model.encode(image)

    calibrate(tokens()).save(folder / PRIOR_FILE)
    _log.info("entropy prior counted on %d pictures", len(indices))


__all__ = ["write_prior"]
