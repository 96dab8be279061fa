"""What is special about TiTok and TA-TiTok: slots, heads, stages of training, squares, captions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import tessella
from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.layers.latent_tokens import LatentEncoder, PixelHead, TransformerSize
from tessella.tokenizers.maskgit_vqgan import MaskGITVQGAN, MaskGITVQGANConfig
from tessella.tokenizers.registry import all_presets
from tessella.tokenizers.ta_titok import TATiTok, TATiTokConfig
from tessella.tokenizers.tiling import decode_tiled, encode_tiled
from tessella.tokenizers.titok import TiTok, TiTokConfig

SIZE = TransformerSize(16, 1, 2)
PROXY = MaskGITVQGANConfig(
    channels=8,
    multipliers=(1, 1, 1, 1),
    blocks=1,
    latent_channels=8,
    codebook_size=16,
    norm_groups=4,
)
SMALL = TiTokConfig(
    image_size=32,
    patch=8,
    tokens=6,
    encoder=SIZE,
    decoder=SIZE,
    codebook_size=32,
    code_dim=4,
    proxy=PROXY,
)


def _model(**changes: Any) -> TiTok:
    torch.manual_seed(0)
    return TiTok(replace(SMALL, **changes))


def _pictures(batch: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, height, width, generator=generator) * 2 - 1


def _millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


# ---- sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tokens", "millions", "bits"),
    [
        ("titok-l-32", 32, None, 12),
        ("titok-b-64", 64, None, 12),
        ("titok-s-128", 128, None, 12),
        ("titok-bl-64-vq8k", 64, 390.0, 13),
        ("titok-bl-128-vq8k", 128, None, 13),
        ("titok-sl-256-vq8k", 256, 330.3, 13),
        ("titok-ll-32-vae", 32, 606.9, None),
        ("titok-bl-64-vae", 64, None, None),
        ("titok-bl-128-vae", 128, None, None),
        ("ta-titok-bl-32-vq", 32, None, 13),
        ("ta-titok-bl-64-vq", 64, None, 13),
        ("ta-titok-bl-128-vq", 128, None, 13),
        ("ta-titok-bl-32-vae", 32, None, None),
        ("ta-titok-bl-64-vae", 64, None, None),
        ("ta-titok-sl-128-vae", 128, None, None),
    ],
)
def test_full_sizes(name: str, tokens: int, millions: float | None, bits: int | None) -> None:
    config = all_presets()[name][1].config
    with torch.device("meta"):
        model = (TATiTok if isinstance(config, TATiTokConfig) else TiTok)(config)
    assert config.tokens == tokens
    assert len(model.encoder.latent_tokens) == len(model.decoder.latent_positions) == tokens
    assert millions is None or round(_millions(model), 1) == millions
    assert model.quantizer.bits_per_token == (bits or 32 * 16)


@pytest.mark.parametrize("size", ["l", "b", "s"])
def test_published_models_with_proxies_differ_in_the_number_of_tokens_only(size: str) -> None:
    presets = {name: preset.config for name, (_, preset) in all_presets().items()}
    of_titok = next(c for n, c in presets.items() if n.startswith(f"titok-{size}-"))
    longer = presets[f"one-d-piece-{size}-256"]
    assert of_titok.encoder == longer.encoder
    assert of_titok.head == longer.head == "proxy"
    assert of_titok.tokens < longer.tokens


# ---- slots and heads -----------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "width"), [(4, 16), (5, 16), (7, 12), (20, 16)])
def test_slots_of_the_first_models_read_the_latents_end_to_end(tokens: int, width: int) -> None:
    size = TransformerSize(width, 1, 2)
    encoder = LatentEncoder(size, image_size=16, patch=8, tokens=tokens, outputs=3, is_mixed=True)
    latents = torch.randn(2, tokens, width)
    slots = encoder.slots(latents)
    assert slots.shape == latents.shape
    for slot in range(tokens):
        for channel in range(width):
            token, place = divmod(channel * tokens + slot, width)
            assert torch.equal(slots[:, slot, channel], latents[:, token, place])
    strided = latents.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(encoder.slots(strided), slots)


def test_slots_of_later_models_are_their_own_latents() -> None:
    encoder = _model(head="pixels").encoder
    latents = torch.randn(2, 6, 16)
    assert encoder.slots(latents) is latents


def test_pixel_head_places_channels_by_row_column_and_colour() -> None:
    head = PixelHead(4, 2)
    with torch.no_grad():
        head.smooth.weight.zero_()
        head.smooth.bias.zero_()
        for colour in range(3):
            head.smooth.weight[colour, colour, 1, 1] = 1
        x = torch.randn(1, 4, 3, 2)
        flat, drawn = head.patches(x), head(x)
    assert drawn.shape == (1, 3, 6, 4)
    for row, column, colour in ((0, 0, 0), (3, 2, 1), (5, 3, 2), (2, 1, 0)):
        channel = ((row % 2) * 2 + column % 2) * 3 + colour
        assert torch.equal(drawn[0, colour, row, column], flat[0, channel, row // 2, column // 2])


def test_every_token_counts_and_the_order_of_latents_matters() -> None:
    model = _model(head="pixels", codebook_size=0, is_cosine=False).eval()
    codes = torch.randn(1, 6, 4)
    with torch.inference_mode():
        whole = model.latents_to_images(codes)
        for i in range(6):  # attention has no mask: each token changes each patch
            changed = codes.clone()
            changed[:, i] += 1
            difference = (model.latents_to_images(changed) - whole).abs().amax(dim=1)
            assert float(difference.unfold(1, 8, 8).unfold(2, 8, 8).amax(dim=(-1, -2)).min()) > 0
        turned = model.latents_to_images(codes.flip(1))
        assert float((turned - whole).abs().max()) > 1e-5


def test_log_variances_are_clamped() -> None:
    model = _model(head="pixels", codebook_size=0, is_cosine=False)
    z = torch.tensor([0.0] * 4 + [-1000.0, 1000.0, 3.0, -3.0])
    gaussian = model.quantizer.distribution(z)  # type: ignore[operator]
    assert gaussian.log_variance.tolist() == [-30, 20, 3, -3]


# ---- tokens --------------------------------------------------------------------------------


def test_fewer_tokens_are_refused_where_the_decoder_needs_all() -> None:
    model = _model()
    tokens = model.encode(_pictures(1, 32, 32))
    with pytest.raises(ShapeError, match="not ordered"):
        tokens.truncate(length=3)
    with pytest.raises(ShapeError, match="not ordered"):
        model.encode(_pictures(1, 32, 32), length=3)


def test_lists_of_pictures_are_encoded_one_by_one() -> None:
    model = _model()
    pictures: list[Any] = [_pictures(1, 32, 32), _pictures(1, 17, 9)]
    found = model.encode(pictures)
    assert [tokens.layout.image_size for tokens in found] == [(32, 32), (17, 9)]
    assert found[1] == model.encode(pictures[1])


def test_tiled_pictures_are_their_squares() -> None:
    model = _model(other_sizes="tile")
    images = _pictures(2, 32, 96)
    tokens = model.encode(images, deterministic=True)
    assert tokens.layout.levels[0].grid == (18,)
    squares = [
        model.encode(images[..., i : i + 32].contiguous(), deterministic=True) for i in (0, 32, 64)
    ]
    alone = torch.stack([square.levels[0] for square in squares], dim=2)
    assert torch.equal(tokens.levels[0], alone.flatten(1, 2))
    whole = model.decode(tokens)
    for i, square in enumerate(squares):
        part = whole[..., 32 * i : 32 * i + 32]
        torch.testing.assert_close(part, model.decode(square), atol=1e-5, rtol=0)


def test_resized_pictures_take_as_many_tokens_as_others() -> None:
    model = _model()
    for size in ((5, 300), (32, 32), (64, 64)):
        tokens = model.encode(_pictures(1, *size))
        assert tokens.layout.levels[0].grid == (6,)
        assert model.decode(tokens).shape[-2:] == size
    # an enlargement by whole pixels loses nothing that the network sees
    flat = torch.full((1, 3, 64, 64), 0.25)
    assert torch.equal(model.encode(flat).levels[0], model.encode(flat[..., :32, :32]).levels[0])


@pytest.mark.parametrize("mode", ["resize", "tile"])
def test_large_pictures_are_taken_whole(mode: str) -> None:
    model = _model(other_sizes=mode)
    pixels = (_pictures(1, 80, 130)[0].permute(1, 2, 0) * 127 + 128).to(torch.uint8).numpy()
    tokens = encode_tiled(model, pixels, tile=64)
    assert tokens.layout == model.layout(80, 130)
    assert decode_tiled(model, tokens, tile=64).shape == (80, 130, 3)


# ---- stages of training --------------------------------------------------------------------


def _vqgan(config: MaskGITVQGANConfig = PROXY) -> MaskGITVQGAN:
    torch.manual_seed(1)
    return MaskGITVQGAN(config).eval()


def test_first_stage_predicts_the_indices_of_a_frozen_vqgan() -> None:
    vqgan = _vqgan()
    model = _model(proxy_parts="none").with_vqgan(vqgan, parts="whole").train()
    images = _pictures(2, 32, 32)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert not any(p.requires_grad for p in model.vqgan.parameters())  # type: ignore[union-attr]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    history = []
    for _ in range(30):
        out = model(images)
        assert not out.images.requires_grad
        assert set(out.losses) == {"proxy", "codebook", "commitment"}
        loss = sum(out.losses.values(), start=torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(out.losses["proxy"].detach()))
    assert history[-1] < 0.8 * history[0]
    assert all(p.grad is not None for p in trained)
    for name, tensor in model.vqgan.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(tensor, vqgan.state_dict()[name])


def test_cross_entropy_is_that_of_the_vqgans_tokens() -> None:
    vqgan = _vqgan()
    model = _model().with_vqgan(vqgan, parts="whole").train()
    images = _pictures(2, 32, 32)
    out = model(images)
    model.eval()
    with torch.inference_mode():
        codes = model.quantizer.indices_to_codes(out.tokens.levels[0])  # type: ignore[operator]
        logits = model.decoder(codes).double()
    targets = vqgan.encode(images).levels[0][..., 0]
    chosen = logits.log_softmax(dim=1).gather(1, targets.unsqueeze(1))
    assert float(out.losses["proxy"].detach()) == pytest.approx(-float(chosen.mean()), rel=1e-4)
    assert model(images).losses == {}


def test_first_stage_draws_the_likeliest_codes() -> None:
    vqgan = _vqgan()
    model = _model().with_vqgan(vqgan, parts="whole").eval()
    codes = torch.randn(1, 6, 4)
    with torch.inference_mode():
        likeliest = model.decoder(codes).argmax(dim=1).unsqueeze(-1)
        expected = vqgan.latents_to_images(vqgan.quantizer.indices_to_codes(likeliest))
        assert torch.equal(model.latents_to_images(codes), expected)


def test_second_stage_starts_from_the_vqgans_decoder_and_keeps_the_tokens() -> None:
    vqgan = _vqgan()
    first = _model().with_vqgan(vqgan, parts="whole")
    second = first.with_vqgan(vqgan)
    images = _pictures(1, 32, 32)
    assert second.pixel_decoder is not None and second.vqgan is None
    assert torch.equal(second.encode(images).levels[0], first.encode(images).levels[0])
    assert torch.equal(second.pixel_codebook, vqgan.quantizer.codebook)
    second.pixel_codebook.data.add_(1)
    assert not torch.equal(second.pixel_codebook, vqgan.quantizer.codebook)
    out = second.train()(images)
    out.images.square().mean().backward()
    assert all(p.grad is not None for p in second.pixel_decoder.parameters())


def test_a_model_without_the_vqgan_says_what_it_lacks() -> None:
    model = _model(proxy_parts="none")
    tokens = model.encode(_pictures(1, 32, 32))
    with pytest.raises(ConfigError, match="with_vqgan"):
        model.decode(tokens)
    with pytest.raises(ConfigError, match="with_vqgan"):
        model(_pictures(1, 32, 32))


def test_vqgans_that_do_not_fit_are_refused() -> None:
    other = _vqgan(replace(PROXY, codebook_size=32))
    with pytest.raises(ConfigError, match="predicts 16"):
        _model().with_vqgan(other)
    with pytest.raises(ConfigError, match="pixels and no codes"):
        _model(head="pixels").with_vqgan(_vqgan())
    with pytest.raises(ConfigError, match="one code a patch"):
        _model(patch=16).with_vqgan(_vqgan(), parts="whole")


@pytest.mark.parametrize(
    "changes",
    [
        {"patch": 5},
        {"tokens": 0},
        {"codebook_size": 1},
        {"is_clustering": True},
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="given"):
        replace(SMALL, **changes)


def test_widths_that_heads_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="heads divide"):
        TransformerSize(16, 1, 3)


def test_configs_of_another_family_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected TiTokConfig"):
        convert("titok", {}, "one-d-piece-tiny")


# ---- captions ------------------------------------------------------------------------------


def _captioned() -> TATiTok:
    torch.manual_seed(0)
    return TATiTok(all_presets()["ta-titok-tiny"][1].config)


def test_captions_change_the_picture_and_follow_it_into_its_squares() -> None:
    model = _captioned()
    tokens = model.encode(_pictures(2, 32, 32))
    text = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(2))
    told = model.decode(tokens, text=text)
    assert not torch.allclose(told, model.decode(tokens), atol=1e-5)
    one = model.decode(tokens[1], text=text[1:])
    torch.testing.assert_close(one, told[1:], atol=1e-5, rtol=0)
    tiled = TATiTok(replace(model.config, other_sizes="tile"))
    tiled.load_state_dict(model.state_dict())
    wide = _pictures(2, 32, 64)
    told = tiled.decode(tiled.encode(wide), text=text)
    right = tiled.encode(wide[1:, ..., 32:].contiguous())
    torch.testing.assert_close(
        told[1:, ..., 32:], tiled.decode(right, text=text[1:]), atol=1e-5, rtol=0
    )


def test_no_caption_is_a_learned_one_that_starts_at_zero() -> None:
    model = _captioned()
    tokens = model.encode(_pictures(1, 32, 32))
    assert torch.equal(model.decode(tokens), model.decode(tokens, text=torch.zeros(1, 3, 8)))
    with torch.no_grad():
        model.decoder.null_text.add_(1)
    assert torch.equal(model.decode(tokens), model.decode(tokens, text=torch.ones(1, 3, 8)))


def test_training_takes_captions() -> None:
    model = _captioned().train()
    images, text = _pictures(2, 32, 32), torch.randn(2, 3, 8)
    out = model(images, text=text)
    out.images.square().mean().backward()
    assert model.decoder.null_text.grad is None
    weight = model.decoder.text_embed.weight  # type: ignore[union-attr]
    assert weight.grad is not None and float(weight.grad.abs().max()) > 0


def test_captions_of_another_shape_are_refused() -> None:
    model = _captioned()
    tokens = model.encode(_pictures(2, 32, 32))
    for shape in ((2, 4, 8), (2, 3, 7), (1, 3, 8), (3, 3, 8), (2, 3)):
        with pytest.raises(ShapeError, match="text of shape"):
            model.decode(tokens, text=torch.zeros(shape))
    with pytest.raises(ShapeError, match="takes none"):
        _model().latents_to_images(torch.zeros(1, 6, 4), torch.zeros(1, 3, 8))


def test_a_saved_model_is_found_by_its_family(tmp_path: Any) -> None:
    model = _captioned().eval()
    model.save_pretrained(tmp_path)
    assert isinstance(tessella.load(tmp_path), TATiTok)
