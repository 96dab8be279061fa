"""VAR: sizes, caches against plain attention, known tokens, seeds, training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.generation import Known, Sampling
from tessella.generation.kv_cache import CacheGeometry, FullCache, attend, make_cache
from tessella.generation.layers.packed_linear import PackedLinear, allow_packing
from tessella.generation.next_scale import ScaleEvent
from tessella.generation.pipelines import VARPipeline
from tessella.generation.registry import GENERATORS
from tessella.generation.teacher_forcing import Progress
from tessella.generation.var import VARConfig, VARGenerator
from tessella.tokenizers.registry import all_presets


@pytest.fixture(scope="module")
def pipe() -> VARPipeline:
    pipe = VARPipeline.from_preset("var-tiny")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("var-d16-256", 310_283_520),
        ("var-d20-256", 600_917_136),
        ("var-d24-256", 1_033_399_360),
        ("var-d30-256", 2_010_020_356),
        ("var-d36-512", 2_353_893_904),
    ],
)
def test_published_sizes(name: str, parameters: int) -> None:
    family, preset = GENERATORS.presets()[name]
    with torch.device("meta"):
        model = family.model_class(preset.config)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_full_cache_equals_concatenation() -> None:
    noise = torch.Generator().manual_seed(0)
    geometry = CacheGeometry(3, 2, 4, rows=2, grids=((1, 1), (2, 2), (2, 3), (4, 4)))
    cache = FullCache()
    cache.start(geometry)
    kept: list[list[torch.Tensor]] = [[], [], []]
    for scale, size in enumerate(geometry.sizes):
        cache.begin_scale(scale)
        for layer in range(3):
            q, k, v = (torch.randn(2, 2, size, 4, generator=noise) for _ in range(3))
            kept[layer].append(torch.stack([k, v]))
            keys, values = torch.cat(kept[layer], dim=3)
            out = attend(q, cache.update(layer, k, v, q), 0.7)
            weights = (q @ keys.transpose(-1, -2) * 0.7).softmax(dim=-1)
            torch.testing.assert_close(out, weights @ values)
    # bytes that each scale finds: 2 rows, keys and values, 4 channels of 4 bytes, 2 heads, 3 layers
    assert cache.use.bytes_by_scale == [n * 2 * 2 * 4 * 4 * 2 * 3 for n in (0, 1, 5, 11)]
    # one slab of each, with room for one layer's last scale: never two copies
    assert cache.use.allocated_peak == (3 * 11 + 16) * 2 * 2 * 4 * 4 * 2
    assert cache.use.peak_bytes == geometry.full_bytes
    cache.release()
    assert cache.allocated_bytes() == 0


def test_training_pass_and_generation_give_the_same_logits(
    pipe: VARPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = pipe.generator, []
    head = model.head.mixed
    monkeypatch.setattr(model.head, "mixed", lambda *args: seen.append(head(*args)) or seen[-1])
    tokens = model.generate([1, 5], tokenizer=pipe.tokenizer, sampling=Sampling(greedy=True))
    with torch.no_grad():
        logits = model(tokens, [1, 5], tokenizer=pipe.tokenizer).logits
    torch.testing.assert_close(torch.cat(seen, dim=1), logits, atol=2e-5, rtol=1e-4)


def test_a_scale_does_not_see_finer_ones(pipe: VARPipeline) -> None:
    tokens = pipe([3], seed=0).tokens
    model, tokenizer = pipe.generator, pipe.tokenizer
    changed = list(tokens.levels)
    changed[2] = (changed[2] + 1) % 32
    with torch.no_grad():
        before = model(tokens, [3], tokenizer=tokenizer).logits
        after = model(type(tokens)(changed, tokens.layout), [3], tokenizer=tokenizer).logits
    assert torch.equal(before[:, :21], after[:, :21])  # scales 0 to 2 have 1 + 4 + 16 tokens
    assert not torch.allclose(before[:, 21:], after[:, 21:])


def test_pictures_depend_on_their_own_seed_only(pipe: VARPipeline) -> None:
    together = pipe([1, 2, 3], seed=10).tokens
    assert pipe([2], seed=11).tokens == together[1]
    assert pipe([2], seed=12).tokens != together[1]
    assert pipe([-1], seed=11).tokens != together[1]


def test_first_scales_and_the_rest(pipe: VARPipeline) -> None:
    whole = pipe([4], seed=3).tokens
    first = pipe([4], seed=3, scales=2).tokens
    assert first == whole.truncate(levels=2)
    rest = pipe([4], seed=3, known=Known(first, scales=2)).tokens
    assert rest.truncate(levels=2) == first
    greedy = {"greedy": True, "guidance_scale": 1.5}
    other = pipe([4], **greedy).tokens
    finished = pipe([4], known=Known(other.truncate(levels=3), scales=3), **greedy).tokens
    assert finished == other


def test_places_that_are_kept(pipe: VARPipeline) -> None:
    original = pipe([4], seed=3).tokens
    keep = torch.zeros(1, 32, 32, dtype=torch.bool)
    keep[:, :, :20] = True
    for smooth in (False, True):
        edited = pipe([6], seed=8, known=Known(original, keep=keep), smooth=smooth).tokens
        for level, theirs in zip(edited.levels, original.levels, strict=True):
            columns = level.shape[2]
            stays = [2 * min(20, 32 * (c + 1) / columns) - 2 * 32 * c / columns >= 32 / columns
                     for c in range(columns)]  # fmt: skip
            assert torch.equal(level[:, :, stays], theirs[:, :, stays])
        assert edited != original


def test_events(pipe: VARPipeline) -> None:
    seen: list[tuple[int, ScaleEvent]] = []
    output = pipe([1], seed=0, callback_on_scale_end=lambda p, k, e: seen.append((k, e)))
    assert [k for k, _ in seen] == [0, 1, 2, 3]
    assert torch.equal(seen[2][1].level, output.tokens.levels[2])
    decoded = pipe.tokenizer.decode(output.tokens)
    last = pipe.tokenizer.features_to_images(seen[3][1].total.clone()).clamp(-1, 1)
    torch.testing.assert_close(decoded, last.detach())


def test_without_guidance_there_is_one_row_a_picture(pipe: VARPipeline) -> None:
    cache = make_cache("full")
    pipe([1, 2], guidance_scale=0.0, seed=0, kv_cache=cache)
    assert cache.geometry.rows == 2
    pipe([1, 2], guidance_scale=1.0, seed=0, kv_cache=cache)
    assert (cache.geometry.rows, cache.geometry.is_guided) == (4, True)


def test_saving_and_loading(pipe: VARPipeline, tmp_path: object) -> None:
    pipe.save_pretrained(f"{tmp_path}/a")
    assert VARPipeline.from_pretrained(f"{tmp_path}/a")([5], seed=1).tokens == (
        pipe([5], seed=1).tokens
    )


def test_half_precision(pipe: VARPipeline) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        half = copy.deepcopy(pipe.generator).to(dtype)
        tokens = half.generate(
            [1, 2], tokenizer=pipe.tokenizer, generator=torch.Generator().manual_seed(0)
        )
        tokens.check_range()


def test_packed_weights_give_the_same_and_follow_changes() -> None:
    layer = PackedLinear(128, 256)
    x = torch.randn(3, 7, 128)
    with torch.inference_mode():
        plain = layer(x)
        active = F.gelu(plain, approximate="tanh")
        allow_packing(layer, allowed=True)
        torch.testing.assert_close(layer(x), plain)
        torch.testing.assert_close(layer(x, "gelu_tanh"), active, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        layer.weight.mul_(2)
        layer.bias.mul_(2)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), 2 * plain)
        assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    layer.train()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_seeds_of_the_cpu_serve_a_gpu(pipe: VARPipeline) -> None:
    expected = pipe([1, 2], seed=0, smooth=True).tokens
    moved = VARPipeline(copy.deepcopy(pipe.generator), copy.deepcopy(pipe.tokenizer)).to("cuda")
    found = moved([1, 2], seed=0, smooth=True).tokens.to("cpu")
    assert torch.equal(found.levels[0], expected.levels[0])


def test_training(pipe: VARPipeline) -> None:
    torch.manual_seed(0)
    family, preset = GENERATORS.presets()["var-tiny"]
    model = family.model_class(preset.config).train()
    tokens = pipe([1, 2, 3, 4], seed=0).tokens
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(30):
        noise = torch.Generator().manual_seed(step)
        out = model(tokens, [1, 2, 3, 4], tokenizer=pipe.tokenizer, generator=noise)
        loss = out.losses["cross_entropy"]
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_progressive_loss_weighs_first_scales_only(pipe: VARPipeline) -> None:
    tokens = pipe([1, 2], seed=0).tokens
    with torch.no_grad():
        full = pipe.generator(tokens, [1, 2], tokenizer=pipe.tokenizer)
        part = pipe.generator(
            tokens, [1, 2], tokenizer=pipe.tokenizer, progress=Progress(3, newest_weight=0.25)
        )
    torch.testing.assert_close(part.logits, full.logits[:, :21])
    targets = tokens.flatten()[:, :21]
    each = F.cross_entropy(full.logits[:, :21].transpose(1, 2), targets, reduction="none")
    expected = (each[:, :5].sum(dim=1) + 0.25 * each[:, 5:].sum(dim=1)).mean() / 85
    torch.testing.assert_close(part.losses["cross_entropy"], expected)


def test_errors(pipe: VARPipeline) -> None:
    tokenizer = pipe.tokenizer
    with pytest.raises(ShapeError, match="class 10 given; this model knows 0 to 9"):
        pipe([3, 10])
    with pytest.raises(ShapeError, match="expected integers"):
        pipe([1.5])
    with pytest.raises(ConfigError, match="did you mean 'streaming'"):
        pipe([1], kv_cache="streming:0.5")
    with pytest.raises(ConfigError, match="expected a budget"):
        pipe([1], kv_cache="streaming:none")
    with pytest.raises(ShapeError, match="2 generators given for 1"):
        pipe([1], generator=[torch.Generator(), torch.Generator()])
    family, preset = all_presets()["progressive-gq-tiny"]
    with pytest.raises(ShapeError, match="expected one whose tokens are pyramids"):
        pipe.generator.generate([1], tokenizer=family.model_class(preset.config))
    other = VARGenerator(VARConfig(depth=1, width=8, heads=1, sides=(1, 2), codebook_size=8))
    with pytest.raises(ShapeError, match="tokenizer with alphabets"):
        VARPipeline(other, tokenizer)
    with pytest.raises(ConfigError, match="rising sides"):
        VARConfig(sides=(2, 1))
    foreign = pipe([1], seed=0).tokens
    damaged = type(foreign)(
        foreign.levels, type(foreign.layout)(foreign.layout.levels, (32, 32), "ab" * 32)
    )
    with pytest.raises(ShapeError, match="token space"):
        pipe([1], known=Known(damaged, scales=1))
