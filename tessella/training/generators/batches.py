"""Batches of tokens and labels: from a token shard in memory, or tokenized on the fly.

Which pictures a step sees depends on the seed and the step only, so that a resumed run sees what an
uninterrupted one sees.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from tessella.data.crops import StepSampler, make_loader
from tessella.data.labelled import (
    LabelledSet,
    ViewDataset,
    ViewSettings,
    collate_labelled,
    view,
)
from tessella.data.token_sets import TokenBatch, TokenSet, read_token_shard, write_token_shard
from tessella.images import from_pixels
from tessella.tokenizers.base import Tokenizer
from tessella.training.generators.config import GeneratorDataSection

_VIEWS = 3  # stream of random numbers
_REPORT = 1000
_log = logging.getLogger(__name__)


class Batches(Protocol):
    """Where training batches come from."""

    def steps(self, sampler: StepSampler) -> Iterator[TokenBatch]:
        """Yield a batch for each step of a sampler."""


class StoredBatches:
    """Batches of a token set in memory.

    Args:
        tokens: all of them.
        seed: start of the stream that chooses.
    """

    def __init__(self, tokens: TokenSet, seed: int) -> None:
        self.tokens = tokens
        self.seed = seed

    def steps(self, sampler: StepSampler) -> Iterator[TokenBatch]:
        """Yield a batch for each step of a sampler."""
        for keys in sampler:
            chosen = [
                int(np.random.default_rng((self.seed, _VIEWS, *key)).integers(len(self.tokens)))
                for key in keys
            ]
            yield self.tokens.batch(torch.tensor(chosen))


class FreshBatches:
    """Batches that are cut and tokenized when they are needed.

    Args:
        pictures: where they come from.
        tokenizer: makes the tokens.
        settings: how squares are cut.
        seed: start of the streams.
        workers: processes that decode pictures.
    """

    def __init__(
        self,
        pictures: LabelledSet,
        tokenizer: Tokenizer,
        settings: ViewSettings,
        *,
        seed: int,
        workers: int,
    ) -> None:
        self.dataset = ViewDataset(pictures, settings, seed=(seed, _VIEWS))
        self.tokenizer = tokenizer
        self.workers = workers

    def steps(self, sampler: StepSampler) -> Iterator[TokenBatch]:
        """Yield a batch for each step of a sampler."""
        loader = make_loader(
            self.dataset, sampler, workers=self.workers, collate_fn=collate_labelled
        )
        for batch in loader:
            for problem in batch.problems:
                _log.warning("picture skipped: %s", problem)
            images = batch.images.to(self.tokenizer.device).float().div(127.5).sub(1)
            yield TokenBatch(self.tokenizer.encode(images), batch.labels)


def open_batches(
    data: GeneratorDataSection, pictures: LabelledSet, tokenizer: Tokenizer, seed: int
) -> Batches:
    """Open the source that a configuration names; a token shard is made if it is not there.

    Raises:
        ConfigError: if the shard is of another tokenizer or size.
    """
    settings = ViewSettings(data.size, data.enlarge, data.flip)
    if not data.tokens:
        return FreshBatches(pictures, tokenizer, settings, seed=seed, workers=data.workers)
    path = Path(data.tokens).expanduser()

    told = 0

    def report(done: int, total: int) -> None:
        nonlocal told
        if done >= told + _REPORT or done == total:
            told = done
            _log.info("tokenized %d of %d squares into %s", done, total, path)

    write_token_shard(
        path, pictures, tokenizer, views=settings, count=data.views, seed=seed, on_progress=report
    )
    return StoredBatches(read_token_shard(path, tokenizer, data.size), seed)


def validation_batches(
    pictures: LabelledSet, tokenizer: Tokenizer, data: GeneratorDataSection
) -> list[TokenBatch]:
    """Tokenize the central squares of validation pictures, spread evenly over the set."""
    most = data.val_batches * data.batch or len(pictures)
    count = min(most, len(pictures))
    places = [i * len(pictures) // count for i in range(count)]
    batches = []
    for first in range(0, count, data.batch):
        some = [pictures[place] for place in places[first : first + data.batch]]
        squares = [from_pixels(view(p, ViewSettings(data.size), None).copy()) for p, _ in some]
        labels = torch.tensor([label for _, label in some])
        batches.append(TokenBatch(tokenizer.encode(torch.cat(squares)), labels))
    return batches


__all__ = ["Batches", "FreshBatches", "StoredBatches", "open_batches", "validation_batches"]
