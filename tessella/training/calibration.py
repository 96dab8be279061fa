"""Counting the entropy prior of a trained tokenizer, which ships beside its weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from tessella.codecs.entropy.bit_training import BitTraining
from tessella.codecs.entropy.calibrate import Calibration, calibrate
from tessella.codecs.entropy.prior import PRIOR_FILE
from tessella.data.pictures import PictureSet
from tessella.tokenizers.base import Tokenizer
from tessella.tokens import Tokens
from tessella.training.config import CalibrationSection
from tessella.training.validation import read_image, spread

_log = logging.getLogger(__name__)


def write_prior(
    model: Tokenizer,
    pictures: PictureSet,
    folder: Path,
    settings: CalibrationSection,
    *,
    side: int,
) -> None:
    """Tokenize pictures, count their indices and write the prior beside the weights.

    Args:
        model: the tokenizer whose tokens are to be coded.
        pictures: pictures like those that will be coded.
        folder: folder of the saved tokenizer.
        settings: how many of the pictures, and how long a context model is fitted.
        side: longer sides are cut to the central part of this many pixels.
    """
    indices = spread(len(pictures), settings.pictures)

    def tokens() -> Iterator[Tokens]:
        for index in indices:
            image = read_image(pictures, index, side)
            if image is not None:
                yield model.encode(image)

    def tell(group: int, step: int, bits: float) -> None:
        _log.debug("context model of group %d, step %d: %.4f bits a position", group, step, bits)

    _log.info("making the entropy prior from %d pictures", len(indices))
    calibration = Calibration(
        has_bit_model=settings.steps > 0,
        training=BitTraining(steps=max(settings.steps, 1)),
        exponent=model.latent_exponent,
    )
    calibrate(tokens(), calibration, tell).save(folder / PRIOR_FILE)


__all__ = ["write_prior"]
