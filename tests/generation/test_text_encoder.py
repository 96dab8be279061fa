"""Text features by a T5 encoder."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import pytest
import torch

from tessella.errors import CheckpointError, MissingDependencyError, ShapeError
from tessella.generation.text_encoder import TextEncoder

SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
WORDS = ["a", "red", "cat", "on", "the", "mat"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = r"transformers and sentencepiece.*tessella\[prompts\]"
    with pytest.raises(MissingDependencyError, match=message):
        TextEncoder("anywhere")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5 encoder with a vocabulary of a few words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
    pytest.importorskip("sentencepiece")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    path = tmp_path_factory.mktemp("t5")
    vocabulary = {word: i for i, word in enumerate([*SPECIAL.values(), *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, SPECIAL["unk_token"]))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **SPECIAL)
    fast.save_pretrained(path)
    config = transformers.T5Config(
        vocab_size=len(vocabulary), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    torch.manual_seed(0)
    transformers.T5EncoderModel(config).save_pretrained(path)
    return path


@pytest.mark.filterwarnings("ignore")
def test_features_have_no_padding_and_do_not_depend_on_the_batch(folder: Path) -> None:
    encoder = TextEncoder(str(folder), longest=5)
    prompts = ["a cat", "", "the red cat on the mat"]
    found = encoder(prompts)
    assert [tuple(row.shape) for row in found] == [(3, 16), (1, 16), (5, 16)]
    for prompt, row in zip(prompts, found, strict=True):
        torch.testing.assert_close(encoder([prompt])[0], row)
    assert not torch.allclose(found[0][:2], encoder(["red cat"])[0][:2])


@pytest.mark.filterwarnings("ignore")
def test_wrong_prompts_and_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="a list"):
        TextEncoder(str(folder))("a cat")
    with pytest.raises(ShapeError, match="at least one"):
        TextEncoder(str(folder))([])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        TextEncoder(str(tmp_path))(["a cat"])
