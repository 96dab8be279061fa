"""Two processes, and two halves merged, give what one process gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from tessella.eval.metrics import (
    CMMD,
    BitsPerPixel,
    CodebookUse,
    FaceScores,
    FrechetDistance,
    GLCMScore,
    InceptionScore,
    KernelDistance,
    MeanPSNR,
    PrecisionRecall,
    TokenDensity,
    TokenLanguage,
    WordScores,
)

SPLIT = (7, 5)  # processes may hold unequal numbers
COUNT = sum(SPLIT)

Update = Callable[[Any, slice], None]


def data() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "features": torch.randn(COUNT, 4, generator=generator),
        "fake": torch.randn(COUNT, 4, generator=generator),
        "pixels": torch.randint(0, 256, (COUNT, 3, 64, 64), dtype=torch.uint8, generator=generator),
        "tokens": torch.randint(0, 16, (COUNT, 3, 3), generator=generator),
    }


def cases() -> dict[str, tuple[Any, Update]]:
    """Each metric, and how it takes a part of the data."""
    values = data()
    features, fake, pixels, tokens = values.values()

    def two_sets(metric: Any, part: slice) -> None:
        metric.update(features[part], real=True)
        metric.update(fake[part], real=False)

    words = [f"word{i % 4}" for i in range(COUNT)]
    sizes = [0.02 + 0.01 * (i % 3) for i in range(COUNT)]
    return {
        "psnr": (MeanPSNR(), lambda m, p: m.update(pixels[p], pixels.flip(0)[p])),
        "frechet": (FrechetDistance(num_features=4, accept_few=True), two_sets),
        "kernel": (KernelDistance(subsets=4, subset_size=6), two_sets),
        "neighbours": (PrecisionRecall(k=2), two_sets),
        "cmmd": (CMMD(), two_sets),
        "score": (InceptionScore(splits=2), lambda m, p: m.update(features[p])),
        "glcm": (GLCMScore(), lambda m, p: m.update(pixels[p])),
        "bpp": (BitsPerPixel(), lambda m, p: m.update(100 * p.stop, 10 + p.start, 20)),
        "density": (TokenDensity(), lambda m, p: m.update(features[p, 0] > 0, tokens[p, 0, 0] + 1)),
        "use": (CodebookUse([16, 16, 16]), lambda m, p: m.update(tokens[p])),
        "language": (TokenLanguage(16), lambda m, p: m.update(tokens[p])),
        "words": (WordScores(), lambda m, p: m.update(words[p], words[::-1][p], sizes[p])),
        "faces": (FaceScores(), lambda m, p: m.update(features[p], fake[p], sizes[p])),
    }


def parts() -> list[slice]:
    return [slice(0, SPLIT[0]), slice(SPLIT[0], COUNT)]


def other_process(_: int, folder: str) -> None:
    torch.set_num_threads(1)
    work(1, folder)


def work(rank: int, folder: str) -> None:
    """Take this process's part, and compute with the other's."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(SPLIT)
    )
    try:
        for name, (metric, update) in cases().items():
            update(metric, parts()[rank])
            Path(folder, f"{name}.{rank}").write_text(repr(metric.compute()))
    finally:
        dist.destroy_process_group()


def together(metric: Any, update: Update) -> str:
    for part in parts():
        update(metric, part)
    return repr(metric.compute())


def test_two_processes_equal_one(tmp_path: Path) -> None:
    context = mp.spawn(other_process, args=(str(tmp_path),), nprocs=1, join=False)
    work(0, str(tmp_path))
    while not context.join():
        pass
    for name, (metric, update) in cases().items():
        expected = together(metric, update)
        for rank in range(len(SPLIT)):
            assert (tmp_path / f"{name}.{rank}").read_text() == expected, name


def test_merged_halves_equal_the_whole() -> None:
    whole = {name: together(*case) for name, case in cases().items()}
    firsts, seconds = cases(), cases()
    for name, (second, update) in seconds.items():
        first = firsts[name][0]
        update(first, parts()[0])
        update(second, parts()[1])
        second.merge_state(first)  # what comes in goes first
        assert repr(second.compute()) == whole[name], name


def test_a_metric_starts_again_after_reset() -> None:
    for name, (metric, update) in cases().items():
        expected = together(metric, update)
        metric.reset()
        assert together(metric, update) == expected, name


def test_nothing_given_is_an_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics', about compute before update
        for name, (metric, _) in cases().items():
            with pytest.raises(Exception, match="expected") as caught:
                metric.compute()
            assert type(caught.value).__module__ == "tessella.errors", name
