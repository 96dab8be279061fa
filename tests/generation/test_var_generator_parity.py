"""Agreement with recordings of VAR's transformer, and with its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts

from tessella.generation import Sampling
from tessella.generation.checkpoints import convert_generator
from tessella.generation.kv_cache import FullCache, Visible
from tessella.generation.var import VARGenerator
from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.multiscale_vq import MultiScaleVQTokenizer
from tessella.tokens import Tokens

pytestmark = pytest.mark.parity
LOGITS, PICTURES, SMOOTH_PICTURES = 3e-4, 1e-4, 2e-3


class Case(NamedTuple):
    folder: Path
    model: VARGenerator
    tokenizer: MultiScaleVQTokenizer
    train: Recording
    config: dict[str, Any]
    tokens: Tokens

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        return self.model.grids


def _part(state: Recording, prefix: str) -> Recording:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


@pytest.fixture(params=["a_per_block_adaln", "b_shared_adaln"])
def case(request: pytest.FixtureRequest, parity_dir: Path) -> Case:
    folder = parity_dir / "var_transformer" / request.param
    config = load_config(folder)
    state = load_parts(folder, "state*.safetensors")
    vae = {**config["vae"], "v_patch_nums": config["patch_nums"]}
    tokenizer = convert("var_vqvae", _part(state, "vae."), vae)
    model = convert_generator("var", _part(state, "var."), config)
    assert isinstance(tokenizer, MultiScaleVQTokenizer)
    assert isinstance(model, VARGenerator)
    train = load_parts(folder, "io_train.safetensors")
    side = config["patch_nums"][-1] * tokenizer.stride
    levels = [
        train[f"input.gt_idx.{k}"].view(-1, n, n, 1) for k, n in enumerate(config["patch_nums"])
    ]
    tokens = Tokens(levels, tokenizer.layout(side, side))
    return Case(folder, model, tokenizer, train, config, tokens)


def test_what_the_transformer_reads(case: Case) -> None:
    inputs = case.tokenizer.scale_inputs(case.tokens.levels, case.grids)
    assert_close(inputs, case.train["input.x_BLCv_wo_first_l"], LOGITS)


@torch.no_grad()
def test_every_block_and_the_logits(case: Case) -> None:
    model, train = case.model, case.train
    entered: list[torch.Tensor] = []
    left: list[torch.Tensor] = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
        block.register_forward_hook(lambda _, args, out: left.append(out))
    normed: list[torch.Tensor] = []
    model.head.out.register_forward_pre_hook(lambda _, args: normed.append(args[0]))
    out = model(case.tokens, train["input.labels"], tokenizer=case.tokenizer)
    assert_close(entered[0], train["train.x_embedded"], LOGITS)
    for i, ours in enumerate(left):
        assert_close(ours, train[f"train.block_out.{i}"], LOGITS)
    assert_close(normed[0], train["train.head_nm_out"], LOGITS)
    assert_close(out.logits, train["train.logits"], LOGITS)
    none = torch.full_like(train["input.labels"], -1)
    unconditional = model(case.tokens, none, tokenizer=case.tokenizer).logits
    assert_close(unconditional, train["train.logits_uncond"], LOGITS)


@pytest.mark.parametrize("smoothing", [0, 0.1])
@torch.no_grad()
def test_loss(case: Case, smoothing: float) -> None:
    object.__setattr__(case.model.config, "label_smoothing", float(smoothing))
    out = case.model(case.tokens, case.train["input.labels"], tokenizer=case.tokenizer)
    expected = float(case.train[f"train.loss_ls{smoothing:g}"])
    assert float(out.losses["cross_entropy"]) == pytest.approx(expected, rel=1e-5)


class Watched(FullCache):
    """Remembers all keys and values that came."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[int, str], list[torch.Tensor]] = {}

    def update(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor, queries: torch.Tensor
    ) -> Visible:
        self.seen.setdefault((layer, "k"), []).append(keys.clone())
        self.seen.setdefault((layer, "v"), []).append(values.clone())
        return super().update(layer, keys, values, queries)


def test_generation(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, run in case.config["runs"].items():
        io = load_parts(case.folder, f"io_gen_{name}.safetensors")
        logits: list[torch.Tensor] = []
        mixed = case.model.head.mixed

        def watch(*args: Any, mixed: Any = mixed, logits: Any = logits) -> torch.Tensor:
            logits.append(mixed(*args).clone())
            return logits[-1]

        monkeypatch.setattr(case.model.head, "mixed", watch)
        totals: list[torch.Tensor] = []
        cache = Watched()
        smooth = run.get("more_smooth", False)
        tokens = case.model.generate(
            case.train["input.labels"],
            tokenizer=case.tokenizer,
            guidance_scale=run["cfg"],
            sampling=Sampling(top_k=run["top_k"], top_p=run["top_p"], smooth=smooth),
            generator=torch.Generator().manual_seed(run["g_seed"]),
            kv_cache=cache,
            on_scale_end=lambda event, totals=totals: totals.append(event.total),
        )
        monkeypatch.setattr(case.model.head, "mixed", mixed)
        for k, level in enumerate(tokens.levels):
            assert_close(logits[k], io[f"logits.{k}"], LOGITS)
            assert torch.equal(level.flatten(1), io[f"idx.{k}"])
        tolerance = SMOOTH_PICTURES if smooth else PICTURES
        assert_close(totals[-1], io["fhat"], tolerance)
        images = case.tokenizer.features_to_images(totals[-1].clone()).clamp(-1, 1)
        assert_close((images + 1) / 2, io["image01"], tolerance)
        for (layer, kind), parts in cache.seen.items():
            if f"cache_{kind}.{layer}" in io:
                assert_close(torch.cat(parts, dim=2), io[f"cache_{kind}.{layer}"], LOGITS)


def test_greedy_generation_needs_no_noise(case: Case) -> None:
    run = case.config["runs"]["greedy"]
    io = load_parts(case.folder, "io_gen_greedy.safetensors")
    tokens = case.model.generate(
        case.train["input.labels"],
        tokenizer=case.tokenizer,
        guidance_scale=run["cfg"],
        sampling=Sampling(greedy=True),
    )
    for k, level in enumerate(tokens.levels):
        assert torch.equal(level.flatten(1), io[f"idx.{k}"])
