"""Continuous tokens in files: a stated uniform quantisation, and the error that it allows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import photograph
from typer.testing import CliRunner

import tessella
from tessella.cli import app
from tessella.codecs.entropy.calibrate import Calibration, calibrate
from tessella.codecs.entropy.prior import PRIOR_FILE
from tessella.codecs.files import codec_of
from tessella.codecs.token_codec import pack, unpack
from tessella.codecs.token_coding import PackOptions
from tessella.images import decode_rgb, from_pixels, to_pixels
from tessella.tokenizers import Tokenizer
from tessella.tokenizers.registry import all_presets
from tessella.tokens import Tokens

PRESETS = ("kl-tiny", "taesd-tiny", "dc-ae-tiny")


def _pixels() -> np.ndarray:
    return np.ascontiguousarray(photograph()[100:165, 200:290])


@pytest.fixture(scope="module", params=PRESETS)
def model(request: pytest.FixtureRequest) -> Tokenizer:
    family, preset = all_presets()[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return family.model_class(preset.config).eval()


@pytest.fixture(params=[False, True], ids=["raw", "prior"])
def folder(request: pytest.FixtureRequest, model: Tokenizer, tmp_path: Path) -> Path:
    """A saved model, with or without an entropy prior."""
    path = tmp_path / "model"
    model.save_pretrained(path)
    if request.param:
        tokens = model.encode(from_pixels(photograph()[:192, 100:292].copy()))
        calibration = Calibration(has_bit_model=False, exponent=model.latent_exponent)
        calibrate([tokens], calibration).save(path / PRIOR_FILE)
    return path


def _error(found: Tokens, tokens: Tokens) -> float:
    assert found.layout.levels == tokens.layout.levels
    pairs = zip(found.levels, tokens.levels, strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("exponent", [None, 0, 3, 8, 12])
def test_files_round_to_the_stated_step(
    model: Tokenizer, folder: Path, tmp_path: Path, exponent: int | None
) -> None:
    tokens = model.encode(from_pixels(_pixels()))
    path = tmp_path / "a.tsl"
    tessella.write(path, tokens, model=folder, options=PackOptions(exponent=exponent))
    found = tessella.read(path, model=folder)
    assert found.layout == tokens.layout
    step = 2.0 ** -(model.latent_exponent if exponent is None else exponent)
    assert 0 < _error(found, tokens) <= step / 2
    assert all(torch.equal(level, (level / step).round() * step) for level in found.levels)
    # what was rounded once comes back exactly
    tessella.write(path, found, model=folder, options=PackOptions(exponent=exponent))
    assert tessella.read(path, model=folder) == found


def test_values_far_out_keep_the_bound(model: Tokenizer, folder: Path) -> None:
    codec = codec_of(folder)
    tokens = model.encode(from_pixels(_pixels()))
    far = tokens.levels[0].clone()
    far[0, 0, 0, 0], far[0, 1, 2, 1] = 900.3, -70_000.7
    spiked = Tokens((far,), tokens.layout)
    assert _error(codec.unpack(codec.pack(spiked)).tokens, spiked) <= 2.0**-codec.space.exponent / 2


def test_the_model_need_not_be_here_to_read_raw_files(model: Tokenizer) -> None:
    tokens = model.encode(from_pixels(_pixels()))
    found = unpack(pack(tokens)).tokens
    assert _error(found, tokens) <= 2.0**-9  # without a model, multiples of 1/256


def test_coarser_steps_and_a_prior_are_smaller(model: Tokenizer, tmp_path: Path) -> None:
    tokens = model.encode(from_pixels(photograph()[:192, 100:292].copy()))
    model.save_pretrained(tmp_path)
    sizes = [len(codec_of(tmp_path).pack(tokens, PackOptions(exponent=e))) for e in (8, 5, 2)]
    assert sizes == sorted(sizes, reverse=True)
    calibrate([tokens], Calibration(has_bit_model=False, exponent=5)).save(tmp_path / PRIOR_FILE)
    assert len(codec_of(tmp_path).pack(tokens)) < 0.9 * sizes[1]


def _run(arguments: Sequence[str | Path]) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_line_takes_the_folder_of_a_model(
    model: Tokenizer, folder: Path, tmp_path: Path
) -> None:
    picture, coded, back = tmp_path / "a.png", tmp_path / "a.tsl", tmp_path / "back.png"
    Image.fromarray(_pixels()).save(picture)
    out = _run(["encode", picture, "--model", folder, "-o", coded])
    count = model.layout(65, 90).num_values
    assert f"90x65  {count:,} tokens".replace(",", " ") in out
    _run(["decode", coded, "--model", folder, "-o", back])
    decoded = model.decode(tessella.read(coded, model=folder))
    assert np.array_equal(decode_rgb(back), to_pixels(decoded))
    found = re.search(r"steps of 2\^-(\d)", _run(["info", coded]))
    assert found is None or int(found[1]) == model.latent_exponent


def test_rounding_costs_little_in_the_picture(model: Tokenizer, folder: Path) -> None:
    codec = codec_of(folder)
    tokens = model.encode(from_pixels(_pixels()))
    rounded = codec.unpack(codec.pack(tokens)).tokens
    noise = rounded.levels[0] - tokens.levels[0]
    # an error that is uniform within a step
    assert float(noise.std()) == pytest.approx(2.0**-5 / 12**0.5, rel=0.1)
    assert abs(float(noise.mean())) < 2.0**-5 / 20
