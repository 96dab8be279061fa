"""Protocols are stored with figures, and unlike ones are not compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tessella.errors import ConfigError, ShapeError
from tessella.eval.protocol import (
    PRESETS,
    Measurement,
    Protocol,
    check_comparable,
    reference_digest,
)
from tessella.eval.resizing import crop, resize


def test_presets_have_names_of_their_own() -> None:
    assert {name: p.name for name, p in PRESETS.items()} == {name: name for name in PRESETS}
    for name, protocol in PRESETS.items():
        for other in PRESETS.values():
            assert bool(protocol.differences(other)) == (other.name != name)


def test_a_measurement_survives_json() -> None:
    protocol = replace(PRESETS["adm"], reference="ab", weights="cd", count=50)
    measurement = Measurement("rFID", 1.25, protocol)
    assert Measurement.from_dict(json.loads(json.dumps(measurement.to_dict()))) == measurement
    with pytest.raises(ConfigError, match="colour"):
        Protocol.from_dict({"name": "a", "colour": "red"})
    with pytest.raises(ConfigError, match="protocol"):
        Measurement.from_dict({"metric": "rFID", "value": 1})


def test_unlike_protocols_are_not_compared_and_the_difference_is_named() -> None:
    ours = Measurement("rFID", 2.0, replace(PRESETS["torch-fidelity"], count=50))
    same = Measurement("rFID", 1.5, replace(ours.protocol, name="called otherwise"))
    assert ours.minus(same) == 0.5
    with pytest.raises(ConfigError, match="resize_filter: 'tf1' against 'clean'") as caught:
        ours.minus(Measurement("rFID", 1.0, replace(PRESETS["clean"], count=5000)))
    assert "count: 50 against 5000" in str(caught.value)
    with pytest.raises(ConfigError, match="metric: 'rFID' against 'KID'"):
        check_comparable([ours, same, replace(ours, metric="KID")])


@pytest.mark.parametrize(
    "wrong", [{"crop": "adm"}, {"size": 256}, {"resize_filter": "nearest"}, {"rounding": "up"}]
)
def test_impossible_protocols_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Protocol("a", **wrong)


def test_evidence_is_hashes_of_files(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (tmp_path / name for name in "abc")
    assert reference_digest([a, b]) == reference_digest([b, c]) != reference_digest([a])
    protocol = PRESETS["clean"].with_evidence(reference=reference_digest([a, b]), weights=a)
    assert protocol.weights.startswith("6b86b273ff34fce1")


def test_a_protocol_prepares_pictures() -> None:
    picture = Image.fromarray(
        np.arange(300 * 400 * 3, dtype=np.uint32).astype(np.uint8).reshape(300, 400, 3)
    )
    assert PRESETS["adm"].prepare(picture).shape == (3, 256, 256)
    assert PRESETS["clean"].prepare(picture).shape == (3, 300, 400)
    images = torch.tensor([[-1.0, 0.0, 0.3, 1.0]])
    assert PRESETS["adm"].to_pixels(images).tolist() == [[0, 128, 166, 255]]
    pixels = PRESETS["clean"].prepare(picture)[None]
    assert PRESETS["clean"].resize(pixels, (20, 30)).shape == (1, 3, 20, 30)


@pytest.mark.parametrize("size", [(300, 451), (64, 64), (90, 63)])
def test_the_crop_named_torchvision_is_torchvisions(size: tuple[int, int]) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    theirs = Compose([Resize(64, InterpolationMode.BICUBIC), CenterCrop(64)])(picture)
    assert np.array_equal(np.array(crop(picture, 64, "torchvision")), np.array(theirs))
    assert crop(picture, 0, "none") is picture


def test_every_resize_leaves_a_picture_of_the_right_size_alone() -> None:
    pixels = torch.randint(
        0, 256, (2, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    for name in ("tf1", "torch", "aa", "clean"):
        torch.testing.assert_close(resize(pixels, (9, 7), name), pixels.float())
    with pytest.raises(ShapeError, match="uint8"):
        resize(pixels.float(), (9, 7), "tf1")
