"""A small saved model with an entropy prior, made on the spot: real weights, milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from skimage import data

from tessella.codecs.entropy.calibrate import Calibration, calibrate
from tessella.codecs.entropy.prior import PRIOR_FILE
from tessella.images import from_pixels
from tessella.tokenizers import Tokenizer
from tessella.tokenizers.registry import all_presets

PRESET = "progressive-gq-tiny"


def tiny_tokenizer(*, seed: int = 0) -> Tokenizer:
    """A tokenizer that starts as a transform codec, with all its convolutions at work."""
    family, preset = all_presets()[PRESET]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = family.model_class(preset.config)
        crops = photograph()[:256, :256].reshape(4, 64, 4, 64, 3).swapaxes(1, 2)
        model.initialize(torch.cat([from_pixels(crop) for crop in crops.reshape(16, 64, 64, 3)]))
        for parameter in model.parameters():
            if not parameter.any():  # layers that start as the identity
                torch.nn.init.normal_(parameter, std=0.02)
    return model.eval()


def save_tiny_model(folder: Path, *, seed: int = 0, has_prior: bool = True) -> Tokenizer:
    """Save the tokenizer and a prior counted on a photograph."""
    model = tiny_tokenizer(seed=seed)
    model.save_pretrained(folder)
    if has_prior:
        tokens = model.encode(from_pixels(photograph()))
        calibrate([tokens], Calibration(has_bit_model=False)).save(folder / PRIOR_FILE)
    return model


def photograph() -> np.ndarray:
    """A photograph, uint8 (512, 512, 3)."""
    return data.astronaut()
