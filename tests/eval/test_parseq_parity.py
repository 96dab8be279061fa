"""PARSeq against a recording of docTR's, with tiny random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts
from safetensors.torch import save_file

from tessella.errors import CheckpointError, ConfigError, MissingWeightsError, ShapeError
from tessella.eval.tokbench.parseq import VOCABULARY, PARSeq, PARSeqConfig
from tessella.eval.tokbench.text_engines import text_engine

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def config(parity_dir: Path) -> dict[str, Any]:
    return load_config(parity_dir / "parseq_tiny")


@pytest.fixture(scope="module")
def recording(parity_dir: Path) -> Recording:
    return load_parts(parity_dir / "parseq_tiny", "io.safetensors")


@pytest.fixture(scope="module")
def network(parity_dir: Path, config: dict[str, Any]) -> PARSeq:
    sizes = config["config"]
    width = sizes["d_model"]
    ours = PARSeqConfig(
        vocabulary=sizes["vocab"],
        width=width,
        encoder_layers=sizes["enc_layers"],
        encoder_heads=sizes["enc_heads"],
        encoder_hidden=width * sizes["enc_ffd_ratio"],
        decoder_heads=sizes["dec_heads"],
        decoder_hidden=sizes["dec_ff_dim"] * sizes["dec_ffd_ratio"],
        max_length=sizes["max_length"],
        image_size=tuple(sizes["input_shape"][1:]),
        patch_size=tuple(sizes["patch"]),
    )
    return PARSeq.from_state(load_parts(parity_dir / "parseq_tiny", "state.safetensors"), ours)


def test_features_are_those_of_the_recording(network: PARSeq, recording: Recording) -> None:
    found = network.feat_extractor(recording["x"])
    assert_close(found, recording["encoder_features"], 1e-4)


@pytest.mark.parametrize(
    ("logits", "words", "is_clipped"),
    [("logits_free", "free", False), ("logits_target_len", "with_targets", True)],
)
def test_words_are_those_of_the_recording(
    network: PARSeq,
    recording: Recording,
    config: dict[str, Any],
    logits: str,
    words: str,
    is_clipped: bool,
) -> None:
    longest = max(map(len, config["targets"])) if is_clipped else None
    found = network(recording["x"], max_length=longest)
    assert_close(found, recording[logits], 1e-4)
    texts = network.texts(found)
    assert [text for text, _ in texts] == [text for text, _ in config[words]]
    assert [sure for _, sure in texts] == pytest.approx([sure for _, sure in config[words]])


def test_a_word_is_read_alike_whatever_its_neighbours(
    network: PARSeq, recording: Recording
) -> None:
    # the second word ends early: alone it is decoded in fewer steps than beside the others
    together = network.texts(network(recording["x"]))
    alone = [network.texts(network(word[None]))[0] for word in recording["x"]]
    assert [text for text, _ in alone] == [text for text, _ in together]
    assert [sure for _, sure in alone] == pytest.approx([sure for _, sure in together], abs=1e-5)


def test_sizes_are_those_of_the_published_file() -> None:
    with torch.device("meta"):
        network = PARSeq()
    assert sum(p.numel() for p in network.parameters()) == 23_843_071
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 126
    assert tuple(network.state_dict()["head.weight"].shape) == (127, 384)


def test_words_of_another_size_and_other_weights_are_refused(
    network: PARSeq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ShapeError, match=r"\(B, 3, 32, 128\)"):
        network(torch.zeros(1, 3, 32, 64))
    save_file(network.state_dict(), tmp_path / "tiny.safetensors")
    with pytest.raises(CheckpointError, match="docTR's PARSeq"):
        text_engine("parseq", weights=tmp_path / "tiny.safetensors")
    with pytest.raises(ConfigError, match="batch size"):
        text_engine("parseq", clip_to_batch_labels=-1)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeightsError, match=r"parseq-56125471\.pt"):
        text_engine("parseq")


def test_the_engine_clips_lengths_in_batches_as_published(
    network: PARSeq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "parseq.safetensors"
    save_file(network.state_dict(), file)
    monkeypatch.setattr(PARSeq, "from_state", lambda state: network)
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (20, 30 + 40 * i, 3), dtype=np.uint8) for i in range(4)]
    free = text_engine("parseq", weights=file).read(crops)
    engine = text_engine("parseq", weights=file, clip_to_batch_labels=2)
    assert "clipped in batches of 2" in engine.identity
    clipped = engine.read(crops, labels=["a", "bc", "def", "ghijklm"])
    assert max(len(r.text) for r in free) > 3
    assert all(len(r.text) <= 3 for r in clipped[:2])
    assert [r.text for r in clipped[2:]] == [r.text for r in free[2:]]
    with pytest.raises(ConfigError, match="needs the labels"):
        engine.read(crops)
