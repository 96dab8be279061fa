"""Two processes must act as one on the joint batch: codebooks, samples and batch entropies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor

from tessella.tokenizers.quantizers import (
    EMAVQ,
    GQ,
    LFQ,
    VQ,
    ClusteringVQ,
    EMAConfig,
    EntropyConfig,
    LevelDropout,
    ResidualQuantizer,
    kmeans,
)
from tessella.tokenizers.quantizers.distributed import sample_rows
from tessella.tokenizers.quantizers.multi_codebook import MultiCodebookVQ

SPLIT = (37, 23)  # processes may hold batches of unequal size
STEPS = 3


def joint_batches() -> Tensor:
    return torch.randn(STEPS, sum(SPLIT), 6, generator=torch.Generator().manual_seed(5))


def work(batches: Tensor, seed: int) -> dict[str, Tensor]:
    """Everything that looks across processes, on this process's rows."""
    generator = torch.Generator().manual_seed(seed)
    results = {"sample": sample_rows(batches[0], 11, generator=generator)}
    results["means"], results["counts"] = kmeans(batches[0], 7, generator=generator)
    torch.manual_seed(1)
    ema = EMAConfig(decay=0.7, kmeans_iterations=4, dead_code_threshold=2.5)
    quantizer = EMAVQ(6, 24, ema=ema)
    shared = ResidualQuantizer([EMAVQ(6, 12, ema=ema)], num_levels=3)
    clustering = ClusteringVQ(6, 24, decay=0.7)
    multi = MultiCodebookVQ(6, 24, 2, decay=0.2, renew_every=1, dead_below=0.5)
    for batch in batches:
        quantizer(batch, generator=generator)
        shared(batch, generator=generator)
        clustering(batch)
        multi(batch, generator=generator)
    modules = {"ema": quantizer, "shared": shared, "clustering": clustering, "multi": multi}
    for name, module in modules.items():
        results |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    results |= entropies(batches[0])
    dropped = ResidualQuantizer([EMAVQ(6, 4) for _ in range(6)], dropout=LevelDropout(min_levels=1))
    depths = [(dropped(batches[0], generator=generator).indices[0] >= 0).sum() for _ in range(6)]
    return results | {"depths": torch.stack(depths)}


def entropies(batch: Tensor) -> dict[str, Tensor]:
    results = {}
    torch.manual_seed(2)
    config = EntropyConfig(sample_weight=0.0, temperature=1.0)
    for name, quantizer in (
        ("gq", GQ(2, 3, entropy=config)),
        ("lfq", LFQ(6, entropy=config)),
        ("vq", VQ(6, 9, entropy=config)),
        ("local", GQ(2, 3, entropy=EntropyConfig(sample_weight=0.0, reduce_marginal=False))),
    ):
        z = batch.clone().requires_grad_()
        out = quantizer(z)
        out.losses["entropy"].backward()
        results[f"entropy.{name}"] = out.stats["codebook_entropy"]
        results[f"gradient.{name}"] = z.grad
    return results


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(SPLIT)
    )
    rows = torch.split(joint_batches(), SPLIT, dim=1)[rank]
    # the second process has another seed: draws must come from the first
    results = work(rows, seed=rank)
    save_file({k: v.contiguous() for k, v in results.items()}, f"{folder}/{rank}.safetensors")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(process, args=(str(folder),), nprocs=len(SPLIT))
    single = work(joint_batches(), seed=0)
    return [load_file(Path(folder) / f"{rank}.safetensors") for rank in range(len(SPLIT))] + [
        single
    ]


def test_processes_agree_to_the_last_bit(results):
    first, second, _ = results
    assert first.keys() == second.keys()
    for name in first:
        if not name.startswith(("gradient", "entropy.local")):
            assert torch.equal(first[name], second[name]), name


def test_processes_equal_one_with_the_joint_batch(results):
    first, _, single = results
    assert first.keys() == single.keys()
    for name, value in single.items():
        if not name.startswith(("gradient", "entropy.local")):
            torch.testing.assert_close(first[name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_averaged_gradients_are_those_of_the_joint_entropy(results):
    *ranks, single = results
    for name in ("gq", "lfq", "vq"):
        averaged = torch.cat([rank[f"gradient.{name}"] for rank in ranks]) / len(ranks)
        torch.testing.assert_close(averaged, single[f"gradient.{name}"], atol=1e-7, rtol=1e-4)


def test_local_entropies_are_kept_apart_on_request(results):
    first, second, _ = results
    assert first["entropy.local"] != second["entropy.local"]


def test_revival_and_dropout_took_place(results):
    _, _, single = results
    assert single["ema.counts"].min() >= 2.5
    assert all(len(table.unique(dim=0)) < 24 for table in single["multi.codebook"])
    assert len(single["depths"].unique()) > 1
