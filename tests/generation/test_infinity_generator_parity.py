"""Agreement with recordings of Infinity's transformer, and with its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts

from tessella.generation import Prompts, Sampling
from tessella.generation.checkpoints import convert_generator
from tessella.generation.infinity import InfinityGenerator
from tessella.generation.kv_cache import FullCache, Visible
from tessella.generation.layers.rope2d import rotation_of
from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.multiscale_bsq import MultiScaleBSQTokenizer

pytestmark = pytest.mark.parity
LOGITS, PICTURES, ROTATIONS = 2e-4, 2e-4, 1e-5


class Case(NamedTuple):
    folder: Path
    model: InfinityGenerator
    tokenizer: MultiScaleBSQTokenizer
    config: dict[str, Any]
    prompts: list[torch.Tensor]
    train: Recording


def _part(state: Recording, prefix: str) -> Recording:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    root = Path(metafunc.config.getoption("--parity")) / "infinity_transformer"
    names = sorted(path.parent.name for path in root.glob("*/config.json"))
    metafunc.parametrize("case", names or ["none"], indirect=True)


@pytest.fixture
def case(request: pytest.FixtureRequest, parity_dir: Path) -> Case:
    folder = parity_dir / "infinity_transformer" / request.param
    config = load_config(folder)
    state = load_parts(folder, "state*.safetensors")
    tokenizer = convert("infinity_bsq", _part(state, "vae."), config)
    model = convert_generator("infinity", _part(state, "gpt."), config)
    assert isinstance(tokenizer, MultiScaleBSQTokenizer)
    assert isinstance(model, InfinityGenerator)
    train = load_parts(folder, "io_train.safetensors")
    prompts = list(train["input.text_features"].split(config["text_lens"]))
    return Case(folder, model, tokenizer, config, prompts, train)


def test_rotary_positions(case: Case) -> None:
    grids, config = case.model.grids, case.model.config
    finest, dim = config.finest_of(grids), config.width // config.heads
    ours = rotation_of(grids, finest, dim, torch.device("cpu"))
    assert_close(ours.cos, case.train["rope.cos"], ROTATIONS)
    assert_close(ours.sin, case.train["rope.sin"], ROTATIONS)


@torch.no_grad()
def test_every_block_and_the_logits(case: Case) -> None:
    model, train = case.model, case.train
    text = model._checked(case.prompts, None)
    assert_close(model.text(text).pooled, train["train.sos_cond"], LOGITS)
    left: list[torch.Tensor] = []
    attended: list[torch.Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, args, out: left.append(out.clone()))
        block.cross_attention.register_forward_hook(lambda _, args, out: attended.append(out))
    logits = model.predict(train["input.x_BLC_wo_prefix"], text, model.grids)
    for i, ours in enumerate(left):
        assert_close(ours, train[f"train.block_out.{i}"], LOGITS)
    assert_close(attended[0], train["train.block0_cross_attn"], LOGITS)
    assert_close(logits.flatten(2), train["train.logits"], LOGITS)


class Watched(FullCache):
    """Remembers all keys and values that came."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[str, int], list[torch.Tensor]] = {}

    def update(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor, queries: torch.Tensor
    ) -> Visible:
        self.seen.setdefault(("k", layer), []).append(keys.clone())
        self.seen.setdefault(("v", layer), []).append(values.clone())
        return super().update(layer, keys, values, queries)


@pytest.mark.parametrize("is_greedy", [False, True])
def test_generation(case: Case, monkeypatch: pytest.MonkeyPatch, is_greedy: bool) -> None:
    model, tokenizer = case.model, case.tokenizer
    mixed = model.head.mixed
    for name, run in case.config["runs"].items():
        if is_greedy and run["top_k"] != 1:
            continue
        io = load_parts(case.folder, f"io_gen_{name}.safetensors")
        logits: list[torch.Tensor] = []

        def watch(*args: Any, logits: Any = logits) -> torch.Tensor:
            logits.append(mixed(*args).clone())
            return logits[-1]

        monkeypatch.setattr(model.head, "mixed", watch)
        totals: list[torch.Tensor] = []
        cache = Watched()
        filters = {} if is_greedy else {"top_k": run["top_k"], "top_p": run["top_p"]}
        scales = len(model.grids)
        taus = run["tau"] if isinstance(run["tau"], list) else [run["tau"]] * scales
        tokens = model.generate(
            Prompts(case.prompts, guidance_layers=tuple(run["cfg_insertion_layer"])),
            tokenizer=tokenizer,
            guidance_scale=run["cfg"],
            sampling=[Sampling(greedy=is_greedy, temperature=tau, **filters) for tau in taus],
            generator=torch.Generator().manual_seed(run["g_seed"]),
            kv_cache=cache,
            on_scale_end=lambda event, totals=totals: totals.append(event.total),
        )
        for k, level in enumerate(tokens.levels):
            ours = (logits[k] / taus[k]).unflatten(-1, (-1, 2))
            assert_close(ours, io[f"logits.{k}"], LOGITS)
            assert torch.equal(level.flatten(1, 2), io[f"bits.{k}"].long())
        assert_close(totals[-1], io["summed_codes"].reshape(totals[-1].shape), PICTURES)
        images = tokenizer.features_to_images(totals[-1].clone()).clamp(-1, 1)
        assert_close(images, io["image"], PICTURES)
        pixels = ((images + 1) / 2 * 255).to(torch.uint8).permute(0, 2, 3, 1).flip(-1)
        assert_close(pixels.int(), io["image_uint8_bgr"].int(), 1)
        for (kind, layer), parts in cache.seen.items():
            if f"cache_{kind}.{layer}" in io:
                assert_close(torch.cat(parts, dim=2), io[f"cache_{kind}.{layer}"], LOGITS)
