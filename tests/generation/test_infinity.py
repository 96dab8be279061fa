"""Infinity's transformer: sizes, positions, texts, bits and training."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tessella.errors import ConfigError, ShapeError
from tessella.generation import GENERATORS, Known, Prompts, Sampling
from tessella.generation.bitwise import Flips, example
from tessella.generation.infinity import InfinityConfig, InfinityGenerator
from tessella.generation.layers.blocks import BlockContext
from tessella.generation.layers.rope2d import coordinates, rotation_of
from tessella.generation.saved import enliven
from tessella.generation.text import TextBatch
from tessella.tokenizers.multiscale_bsq import MultiScaleBSQConfig, MultiScaleBSQTokenizer
from tessella.tokenizers.registry import all_presets
from tessella.tokens import Tokens

GREEDY = Sampling(greedy=True)


def _config(**changes: object) -> InfinityConfig:
    config = GENERATORS.presets()["infinity-tiny"][1].config
    return replace(config, schedule=((1, 1), (2, 2), (4, 4)), **changes)


def _models(
    is_patchified: bool = False, **changes: object
) -> tuple[InfinityGenerator, MultiScaleBSQTokenizer]:
    config = _config(**changes)
    torch.manual_seed(0)
    tokenizer = MultiScaleBSQTokenizer(
        MultiScaleBSQConfig(
            channels=8, multipliers=(1, 2), blocks=1, norm_groups=4, schedule=config.schedule,
            code_dim=config.bits // (4 if is_patchified else 1), is_patchified=is_patchified,
        )
    )  # fmt: skip
    model = InfinityGenerator(config)
    enliven(model)
    return model.eval(), tokenizer.eval()


def _prompts(*lengths: int, seed: int = 0) -> list[Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 8, generator=noise) for n in lengths]


def _seeds(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _tokens(tokenizer: MultiScaleBSQTokenizer, batch: int, sides: tuple[int, ...] = ()) -> Tokens:
    height, width = sides or (4 * tokenizer.stride,) * 2
    images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(3))
    return tokenizer.encode(images * 2 - 1)


# ---- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"), [("infinity-2b", 2_204_564_032), ("infinity-8b", 8_375_791_824)]
)
def test_published_sizes(name: str, parameters: int) -> None:
    preset = GENERATORS.presets()[name][1]
    with torch.device("meta"):
        model = InfinityGenerator(preset.config)
        tokenizer_family, tokenizer_preset = all_presets()[preset.tokenizer]
        tokenizer = tokenizer_family.model_class(tokenizer_preset.config)
    assert sum(p.numel() for p in model.parameters()) == parameters
    model.check_tokenizer(tokenizer)


@pytest.mark.parametrize("width", [768, 1152, 1536, 2048, 2080, 2688, 3360, 3584])
def test_hidden_width_rounds_halves_to_even(width: int) -> None:
    hidden = InfinityConfig(width=width, heads=4, text_heads=2).hidden
    assert hidden == {2080: 8192, 3360: 13312}.get(width, 4 * width)


def test_every_published_size_has_a_schedule() -> None:
    with torch.device("meta"):
        tokenizer = MultiScaleBSQTokenizer(MultiScaleBSQConfig(channels=32))
        model = InfinityGenerator(replace(_config(), schedule=(), bits=32))
    assert len(model.config.schedules) == 60
    for grids in model.config.schedules:
        size = (grids[-1][0] * 16, grids[-1][1] * 16)
        assert model.grids_for(size, tokenizer) == grids == tokenizer.schedule(grids[-1])
    assert model.grids_for(None, tokenizer)[-1] == (64, 64)
    with pytest.raises(ShapeError, match=r"\(1024, 1024\) is the nearest"):
        model.grids_for((1000, 1024), tokenizer)


def test_pictures_of_another_size_and_shape() -> None:
    model, tokenizer = _models(max_scales=13)
    model.config = replace(model.config, schedule=())
    tokenizer.config = replace(tokenizer.config, schedule=())
    tokens = model.generate(
        _prompts(3), tokenizer=tokenizer, image_size=(32, 32), sampling=GREEDY, scales=3
    )
    assert tokens.layout.image_size == (32, 32)
    wide = model.generate(_prompts(3), tokenizer=tokenizer, image_size=(18, 54), sampling=GREEDY)
    assert wide.layout == tokenizer.layout(18, 54)
    assert tokenizer.decode(wide).shape == (1, 3, 18, 54)


def test_a_model_of_one_size_writes_no_other() -> None:
    model, tokenizer = _models()
    assert model.grids_for((8, 8), tokenizer) == model.grids
    with pytest.raises(ShapeError, match="alone"):
        model.generate(_prompts(3), tokenizer=tokenizer, image_size=(16, 16))


# ---- positions ---------------------------------------------------------------------------------


def test_coordinates_are_rounded_exactly() -> None:
    assert coordinates(54, 111)[27] == 56
    assert round(27 * (111 / 54)) == 55  # what floats would give
    assert coordinates(64, 64) == list(range(64))


def test_rotations_by_a_loop() -> None:
    grids, finest, dim = [(1, 1), (2, 3), (4, 5)], (9, 11), 12
    found = rotation_of(grids, finest, dim, torch.device("cpu"))
    row = 0
    for height, width in grids:
        for r in range(height):
            for c in range(width):
                place = (round(r * finest[0] / height), round(c * finest[1] / width))
                angles = [p * 10000 ** (-4 * i / dim) for p in place for i in range(dim // 4)]
                assert found.cos[row].tolist() == pytest.approx(np.cos(angles), abs=1e-6)
                assert found.sin[row].tolist() == pytest.approx(np.sin(angles), abs=1e-6)
                row += 1
    assert row == len(found.cos)


# ---- generation --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_patchified", [False, True])
@pytest.mark.parametrize("changes", [{}, {"level_blocks": (0, 1, 3), "text_gamma": 0.5}])
def test_generation_predicts_as_teacher_forcing_does(
    is_patchified: bool, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = _models(is_patchified, **changes)
    logits: list[Tensor] = []
    mixed = model.head.mixed

    def watch(*args: object) -> Tensor:
        logits.append(mixed(*args).clone())
        return logits[-1]

    monkeypatch.setattr(model.head, "mixed", watch)
    prompts = _prompts(5, 2)
    tokens = model.generate(prompts, tokenizer=tokenizer, generator=torch.Generator())
    with torch.no_grad():
        forced = model(tokens, prompts, tokenizer=tokenizer).logits
    torch.testing.assert_close(torch.cat(logits, dim=1).view(forced.shape), forced)


def test_guidance_at_outputs_of_blocks_by_a_loop() -> None:
    model, tokenizer = _models()
    weight, prompts = 3.0, _prompts(4)
    condition = Prompts(prompts, guidance_layers=(-1, -3))
    seen: list[Tensor] = []
    model.head.out.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    tokens = model.generate(condition, tokenizer=tokenizer, guidance_scale=weight, sampling=GREEDY)
    with torch.no_grad():
        inputs = tokenizer.scale_inputs(tokens.levels, model.grids)
        text = TextBatch.padded(prompts)
        memory = model.text(text.joined(model.text.without_prompt(text)))
        words = model.word_embedding(inputs).repeat(2, 1, 1)
        x = torch.cat([memory.pooled.unsqueeze(1) + model.start_embedding, words], dim=1)
        x = x + model.scale_embedding.weight[[0] + [1] * 4 + [2] * 16]
        active = torch.nn.functional.silu(memory.pooled)
        rotation = rotation_of(model.grids, (64, 64), 8, x.device)
        for i, block in enumerate(model.blocks):
            keys = block.cross_attention.text(memory.tokens, memory.mask)
            modulation = model.modulations(active)[i]
            x = block(x, modulation, (1, 5, 21), None, BlockContext(rotation, keys))
            if i in (1, 3):
                x = (weight * x[:1] + (1 - weight) * x[1:]).repeat(2, 1, 1)
        expected = model.head.normed(x[:1], [m[:1] for m in model.head.modulation_of(active)])
    torch.testing.assert_close(torch.cat(seen, dim=1), expected, atol=1e-4, rtol=1e-4)


def test_a_picture_does_not_depend_on_the_others_of_its_batch() -> None:
    model, tokenizer = _models()
    prompts = _prompts(5, 12, 1)
    options = {"tokenizer": tokenizer, "guidance_scale": 2.0}
    whole = model.generate(prompts, generator=_seeds(4, 5, 6), **options)
    for i, prompt in enumerate(prompts):
        alone = model.generate([prompt], generator=_seeds(4 + i), **options)
        assert alone == whole[i]
    assert not torch.equal(whole.levels[-1][0], whole.levels[-1][1])


def test_padding_is_removed_wherever_it_is() -> None:
    model, tokenizer = _models()
    prompts = _prompts(5, 2)
    padded, mask = torch.full((2, 9, 8), 7.0), torch.zeros(2, 9, dtype=torch.bool)
    for row, start in enumerate((0, 4)):
        place = slice(start, start + len(prompts[row]))
        padded[row, place], mask[row, place] = prompts[row], True
    options = {"tokenizer": tokenizer, "guidance_scale": 2.0, "sampling": GREEDY}
    expected = model.generate(prompts, **options)
    assert model.generate(Prompts(padded, mask), **options) == expected
    same = torch.stack(_prompts(3, 3))
    assert model.generate(same, **options) == model.generate(list(same), **options)


def test_the_text_and_the_negative_text_matter() -> None:
    model, tokenizer = _models()
    prompts, other = _prompts(4), _prompts(7, seed=1)
    options = {"tokenizer": tokenizer, "sampling": GREEDY}
    plain = model.generate(prompts, **options)
    assert model.generate(other, **options) != plain
    guided = model.generate(prompts, guidance_scale=4.0, **options)
    negative = model.generate(Prompts(prompts, negative=other), guidance_scale=4.0, **options)
    assert plain != guided != negative != plain
    null = Prompts(prompts, negative=[model.text.null[:4].detach()])
    assert model.generate(null, guidance_scale=4.0, **options) == guided
    twice = model.generate(
        Prompts(_prompts(4, 6), negative=other), guidance_scale=[1.0, 4.0, 4.0], **options
    )
    assert len(twice) == 2


def test_keys_of_the_text_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = _models()
    calls: list[int] = []
    for i, block in enumerate(model.blocks):
        block.cross_attention.text.register_forward_hook(lambda *_, i=i: calls.append(i))
    model.generate(_prompts(4), tokenizer=tokenizer)
    assert calls == [0, 1, 2, 3]


def test_scales_may_be_drawn_in_unlike_ways() -> None:
    model, tokenizer = _models()
    options = {"tokenizer": tokenizer, "generator": torch.Generator().manual_seed(1)}
    greedy = model.generate(_prompts(4), tokenizer=tokenizer, sampling=GREEDY)
    almost = model.generate(
        _prompts(4), sampling=[GREEDY, Sampling(temperature=1e-5), Sampling(top_k=1)], **options
    )
    assert almost == greedy
    with pytest.raises(ConfigError, match="expected 3"):
        model.generate(_prompts(4), sampling=[GREEDY], **options)


def test_known_tokens_stay() -> None:
    model, tokenizer = _models(is_patchified=True)
    tokens = _tokens(tokenizer, 1)
    written = model.generate(
        _prompts(4), tokenizer=tokenizer, known=Known(tokens, scales=2), sampling=GREEDY
    )
    assert all(torch.equal(written.levels[k], tokens.levels[k]) for k in range(2))
    assert not torch.equal(written.levels[2], tokens.levels[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    model, tokenizer = _models()
    tokens = model.to(dtype).generate(
        _prompts(4, 2), tokenizer=tokenizer, guidance_scale=3.0, generator=torch.Generator()
    )
    tokens.check_range()


def test_a_smaller_cache() -> None:
    model, tokenizer = _models()
    options = {"tokenizer": tokenizer, "sampling": GREEDY, "guidance_scale": 2.0}
    full = model.generate(_prompts(4, 2), **options)
    small = model.generate(_prompts(4, 2), kv_cache="sliding:3", **options)
    assert small.layout == full.layout
    assert all(torch.equal(small.levels[k], full.levels[k]) for k in range(2))


def test_saved_models_come_back(tmp_path: Path) -> None:
    model, tokenizer = _models(text_gamma=0.1, finest=(9, 9))
    model.save_pretrained(tmp_path)
    again = InfinityGenerator.from_pretrained(str(tmp_path))
    assert again.config == model.config
    options = {"tokenizer": tokenizer, "sampling": GREEDY}
    assert again.generate(_prompts(4), **options) == model.generate(_prompts(4), **options)


# ---- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("has_features", [False, True])
def test_the_loss_falls_on_one_batch(has_features: bool) -> None:
    model, tokenizer = _models(drop_path=0.1)
    torch.manual_seed(0)
    model = InfinityGenerator(model.config).train()
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    tokens, features = tokenizer.encode(images), None
    if has_features:
        features = tokenizer.images_to_features(images).detach()
    prompts = _prompts(3, 4, 5, 6)
    noise = torch.Generator().manual_seed(2)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        out = model(tokens, prompts, tokenizer=tokenizer, generator=noise, features=features)
        loss = out.losses["cross_entropy"]
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(math.log(2), abs=0.05)
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]
    assert out.logits.shape == (4, 21, 8, 2)
    assert all(p.grad is not None for p in model.parameters())


def test_the_loss_by_a_loop() -> None:
    model, tokenizer = _models()
    tokens, prompts = _tokens(tokenizer, 2), _prompts(3, 4)
    with torch.no_grad():
        out = model(tokens, prompts, tokenizer=tokenizer)
    chances = out.logits.double().softmax(dim=-1).numpy()
    bits = torch.cat([level.flatten(1, 2) for level in tokens.levels], dim=1).numpy()
    sizes = [1, 4, 16]
    raw = [math.sqrt(sizes[-1]) / math.sqrt(n) for n in sizes for _ in range(n)]
    expected = 0.0
    for picture in range(2):
        for token in range(21):
            for bit in range(8):
                nats = -math.log(chances[picture, token, bit, bits[picture, token, bit]])
                expected += nats / 8 * raw[token] / sum(raw) / 2
    assert float(out.losses["cross_entropy"]) == pytest.approx(expected, rel=1e-5)
    model.config = replace(model.config, is_balanced=False)
    with torch.no_grad():
        plain = model(tokens, prompts, tokenizer=tokenizer)
    mean = float(plain.stats["loss_mean"])
    assert float(plain.losses["cross_entropy"]) == pytest.approx(mean, rel=1e-5)


def _area(x: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Average (D, H, W) over the areas of a grid."""
    out = np.zeros((len(x), *grid))
    for i in range(grid[0]):
        for j in range(grid[1]):
            rows = slice(i * x.shape[1] // grid[0], -(-(i + 1) * x.shape[1] // grid[0]))
            columns = slice(j * x.shape[2] // grid[1], -(-(j + 1) * x.shape[2] // grid[1]))
            out[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    return out


def _bilinear(x: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Sample (D, h, w) at the centres of a grid."""
    out = np.zeros((len(x), *grid))
    for i in range(grid[0]):
        for j in range(grid[1]):
            y = max((i + 0.5) * x.shape[1] / grid[0] - 0.5, 0)
            z = max((j + 0.5) * x.shape[2] / grid[1] - 0.5, 0)
            y0, z0 = int(y), int(z)
            y1, z1 = min(y0 + 1, x.shape[1] - 1), min(z0 + 1, x.shape[2] - 1)
            top = x[:, y0, z0] * (1 - z + z0) + x[:, y0, z1] * (z - z0)
            low = x[:, y1, z0] * (1 - z + z0) + x[:, y1, z1] * (z - z0)
            out[:, i, j] = top * (1 - y + y0) + low * (y - y0)
    return out


def test_self_correction_by_a_loop() -> None:
    model, tokenizer = _models()
    tokens = _tokens(tokenizer, 2)
    features = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(5))
    grids = model.grids
    noise = torch.Generator().manual_seed(7)
    made = example(tokenizer, tokens, features, Flips(0.3, 2), noise)
    flips = tokenizer.draw_flips(
        2, grids, strength=0.3, scales=2, generator=torch.Generator().manual_seed(7)
    )
    assert any(bool(flip.any()) for flip in flips)
    for picture in range(2):
        truth, total = features[picture].double().numpy(), np.zeros((8, 4, 4))
        read = []
        for k, grid in enumerate(grids):
            bits = (_area(truth - total, grid) > 0).astype(int)
            assert np.array_equal(made.levels[k][picture].permute(2, 0, 1).numpy(), bits)
            if k < len(flips):
                bits = bits ^ flips[k][picture].permute(2, 0, 1).numpy()
            total += _bilinear((2 * bits - 1) / math.sqrt(8), grids[-1])
            if k + 1 < len(grids):
                read.append(_bilinear(total, grids[k + 1]).reshape(8, -1).T)
        np.testing.assert_allclose(made.inputs[picture].numpy(), np.concatenate(read), atol=1e-6)
    # without flips the bits are those of the tokenizer
    plain = example(tokenizer, tokens, features, None, None)
    assert all(map(torch.equal, plain.levels, tokenizer.features_to_levels(features, grids)))


def test_texts_are_dropped_in_training() -> None:
    model, tokenizer = _models(text_drop=0.999)
    tokens = _tokens(tokenizer, 2)
    with torch.no_grad():
        null = [model.text.null[:n].detach() for n in (3, 4)]
        expected = model(tokens, null, tokenizer=tokenizer).logits
        options = {"tokenizer": tokenizer, "generator": torch.Generator().manual_seed(0)}
        dropped = model.train()(tokens, _prompts(3, 4), **options).logits
        kept = model.eval()(tokens, _prompts(3, 4), **options).logits
    torch.testing.assert_close(dropped, expected)
    assert not torch.allclose(kept, expected)


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ([torch.zeros(3, 7)], r"expected floats \(T, 8\)"),
        ([torch.zeros(3, 8, dtype=torch.int64)], "expected floats"),
        ([torch.zeros(0, 8)], "end token"),
        ([torch.zeros(13, 8)], "expected 1 to 12: shorten"),
        ([], "no prompts"),
        (torch.zeros(3, 8), "expected text features"),
        ("a cat", "expected text features"),
        (Prompts(torch.zeros(1, 3, 8), torch.zeros(1, 3, dtype=torch.bool)), "end token"),
        (Prompts(torch.zeros(1, 3, 8), torch.ones(1, 3)), "expected bool"),
        (Prompts([torch.zeros(3, 8)], torch.ones(1, 3, dtype=torch.bool)), "not one"),
        (Prompts(torch.zeros(3, 3, 8), negative=torch.zeros(2, 3, 8)), "expected 1 or 3"),
    ],
)
def test_wrong_texts_are_refused(condition: object, message: str) -> None:
    model, tokenizer = _models()
    with pytest.raises(ShapeError, match=message):
        model.generate(condition, tokenizer=tokenizer, guidance_scale=2.0)


def test_other_impossible_wishes_are_refused() -> None:
    model, tokenizer = _models()
    with pytest.raises(ConfigError, match="smooth"):
        model.generate(_prompts(3), tokenizer=tokenizer, sampling=Sampling(smooth=True))
    with pytest.raises(ConfigError, match="there are 4 blocks"):
        condition = Prompts(_prompts(3), guidance_layers=(-4,))
        model.generate(condition, tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="expected 0"):
        Prompts(_prompts(3), guidance_layers=(1,))
    with pytest.raises(ShapeError, match="without negative"):
        Prompts(_prompts(3), negative_mask=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ShapeError, match="alphabets"):
        model.generate(_prompts(3), tokenizer=_models(bits=4)[1])
    other = all_presets()["multiscale-vq-tiny"]
    with pytest.raises(ShapeError, match="tokens are bits"):
        model.check_tokenizer(other[0].model_class(other[1].config))
    with pytest.raises(ShapeError, match="2 prompts given for 1"):
        model(_tokens(tokenizer, 1), _prompts(3, 3), tokenizer=tokenizer)
    with pytest.raises(ShapeError, match="guide generation alone"):
        negative = Prompts(_prompts(3), negative=_prompts(3))
        model(_tokens(tokenizer, 1), negative, tokenizer=tokenizer)
    with pytest.raises(ShapeError, match="whole pyramid"):
        model(_tokens(tokenizer, 1).truncate(levels=2), _prompts(3), tokenizer=tokenizer)
    with pytest.raises(ShapeError, match="of the same pictures"):
        features = torch.zeros(1, 8, 5, 4)
        model(_tokens(tokenizer, 1), _prompts(3), tokenizer=tokenizer, features=features)
    for changes in ({"heads": 3}, {"level_blocks": (4,)}, {"max_scales": 2}, {"text_drop": 1.0}):
        with pytest.raises(ConfigError):
            _config(**changes)
    with pytest.raises(ConfigError, match="first grid"):
        replace(_config(), schedule=((2, 2), (4, 4)))
