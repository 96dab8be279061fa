"""Agreement with recordings of One-D-Piece, TiTok and TA-TiTok."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.one_d_piece import OneDPiece
from tessella.tokenizers.quantizers import ClusteringVQ, GaussianKL
from tessella.tokenizers.ta_titok import TATiTok
from tessella.tokenizers.titok import TiTok
from tessella.tokens import Tokens

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4
_TRAINED = "legacy_trainable_params_stage2"


@pytest.fixture(scope="module")
def folder(parity_dir: Path) -> Path:
    return parity_dir / "titok_one_d_piece"


@pytest.fixture(scope="module")
def config(folder: Path) -> Any:
    return load_config(folder)


@pytest.fixture(scope="module")
def legacy(folder: Path, config: Any) -> tuple[OneDPiece, Recording]:
    """One-D-Piece; without its pixel decoder, a checkpoint of the first stage, where none is."""
    model = convert(
        "one_d_piece",
        load_parts(folder, "legacy_state_dict_*.safetensors"),
        _settings(config, config["legacy_config"]["model"]["vq_model"]),
    )
    assert isinstance(model, OneDPiece)
    return model, load_parts(folder, "legacy_io.safetensors")


@pytest.fixture(scope="module")
def whole(legacy: tuple[OneDPiece, Recording]) -> tuple[OneDPiece, Recording]:
    if legacy[0].pixel_decoder is None:
        pytest.skip("recorded without pixel decoder")
    return legacy


def _settings(config: Any, vq_model: Any) -> Any:
    """Return a config in the project's words; heads of such small models have no name there."""
    return {"model": {"vq_model": {**vq_model, "heads": config["params"]["heads"]}}}


def _direct(folder: Path, config: Any, name: str) -> tuple[TiTok, Recording]:
    """Load one of the recordings with a pixel head."""
    if not (folder / f"{name}.safetensors").is_file():
        pytest.skip(f"no recording {name}")
    recording = load_parts(folder, f"{name}.safetensors")
    model = convert("titok", _state(recording), _settings(config, config["nonlegacy"]))
    assert isinstance(model, TiTok)
    return model, recording


def _state(recording: Recording) -> Recording:
    return {k.removeprefix("sd."): v for k, v in recording.items() if k.startswith("sd.")}


def _channels_last(values: Tensor) -> Tensor:
    """Turn their ``(B, d, 1, N)`` into ``(B, N, d)``."""
    return values.squeeze(2).transpose(1, 2)


def _losses(model: TiTok, latents: Tensor) -> dict[str, Tensor]:
    model.quantizer.train()
    losses = model.quantizer(latents).losses
    model.quantizer.eval()
    return dict(losses)


def _lengths(io: Recording, prefix: str) -> dict[int, Tensor]:
    return {int(k.removeprefix(prefix)): v for k, v in io.items() if k.startswith(prefix)}


# ---- proxy head ----------------------------------------------------------------------------


def test_sizes_are_read_from_the_tensors(legacy: tuple[OneDPiece, Recording], config: Any) -> None:
    ours, sizes = legacy[0].config, config["params"]
    assert (ours.image_size, ours.patch, ours.tokens) == (sizes["img"], sizes["patch"], sizes["N"])
    assert (ours.codebook_size, ours.code_dim) == (sizes["K"], sizes["tok"])
    assert (ours.encoder.width, ours.encoder.depth) == (sizes["width"], sizes["layers"])
    assert ours.proxy.codebook_size == sizes["proxy"]
    if ours.proxy_parts == "decoder":
        assert ours.proxy.channels == sizes["hid"]
        assert list(ours.proxy.multipliers) == sizes["mult"]
        assert (ours.proxy.latent_channels, ours.proxy.blocks) == (sizes["zc"], sizes["nrb"])


def test_what_the_second_stage_trains(whole: tuple[OneDPiece, Recording], config: Any) -> None:
    parts = {name.split(".")[0] for name, _ in whole[0].named_parameters()}
    theirs = {name.replace("quantize", "codebook") for name in config[_TRAINED]}
    assert parts - {"encoder", "quantizer"} == theirs  # those that shipped configurations freeze


@torch.inference_mode()
def test_latents_indices_and_losses(legacy: tuple[OneDPiece, Recording]) -> None:
    model, io = legacy
    described = model.encoder.describe(io["image"])
    assert_close(described, io["s1.encoder_tokens_post_ln"], TOLERANCE)
    read = model.encoder.projection(model.encoder.slots(io["s1.encoder_tokens_post_ln"]))
    assert_close(read, _channels_last(io["s1.latent"]), TOLERANCE)
    latents = model.images_to_latents(io["image"] * 2 - 1)
    assert_close(latents, _channels_last(io["s1.latent"]), TOLERANCE)
    found = model.quantizer(latents)
    assert torch.equal(found.indices, _channels_last(io["s1.indices"]))
    assert_close(found.z_q, _channels_last(io["s1.z_quantized"]), TOLERANCE)
    assert torch.equal(model.encode(io["image"] * 2 - 1).levels[0], found.indices)
    losses = _losses(model, latents)
    assert_close(losses["commitment"], io["s1.commitment_loss"], TOLERANCE)
    assert_close(losses["codebook"], io["s1.codebook_loss"], TOLERANCE)
    assert_close(sum(losses.values(), start=torch.zeros(())), io["s1.quantizer_loss"], TOLERANCE)


@torch.inference_mode()
def test_proxy_logits_of_first_tokens(legacy: tuple[OneDPiece, Recording]) -> None:
    model, io = legacy
    codes = model.quantizer.indices_to_codes(_channels_last(io["s1.indices"]))
    recorded = _lengths(io, "s1.logits_len")
    assert max(recorded) == model.config.tokens
    for length, logits in recorded.items():
        assert_close(model.decoder(codes[:, :length]), logits, TOLERANCE)
    full = model.decoder(codes)
    entropy = F.cross_entropy(full.flatten(2), io["s1.proxy_codes"])
    assert_close(entropy, io["s1.proxy_ce_full"], TOLERANCE)


def test_training_drops_the_recorded_tail(whole: tuple[OneDPiece, Recording], config: Any) -> None:
    model, io = whole
    given: list[Tensor] = []
    handle = model.decoder.register_forward_hook(lambda *call: given.append(call[-1]))
    generator = torch.Generator().manual_seed(config["train_seed"])
    out = model.train()(io["image"] * 2 - 1, generator=generator)
    model.eval()
    handle.remove()
    assert out.tokens.layout.levels[0].grid == (config["train_kept_length"],)
    assert_close(given[0], io["s1.train_logits"], TOLERANCE)


@torch.inference_mode()
def test_pictures_of_first_tokens(whole: tuple[OneDPiece, Recording]) -> None:
    model, io = whole
    codes = model.quantizer.indices_to_codes(_channels_last(io["s1.indices"]))
    mixed = model.mixed_codes(model.decoder(codes))
    assert_close(mixed, io["s2.soft_embedding_full"], TOLERANCE)
    for length, images in _lengths(io, "s2.image_len").items():
        assert_close((model.latents_to_images(codes[:, :length]) + 1) / 2, images, TOLERANCE)
        tokens = model.encode(io["image"] * 2 - 1, length=length)
        assert model.decode(tokens).shape == io["image"].shape


def test_a_checkpoint_of_the_first_stage_encodes_and_says_what_it_lacks(
    folder: Path, config: Any
) -> None:
    state = load_parts(folder, "legacy_state_dict_vit.safetensors")
    settings = _settings(config, config["legacy_config"]["model"]["vq_model"])
    model, io = convert("one_d_piece", state, settings), load_parts(folder, "legacy_io.safetensors")
    tokens = model.encode(io["image"] * 2 - 1)
    assert torch.equal(tokens.levels[0], _channels_last(io["s1.indices"]))
    with pytest.raises(ConfigError, match="with_vqgan"):
        model.decode(tokens)


# ---- pixel head ----------------------------------------------------------------------------


@torch.inference_mode()
def test_pixel_head_with_codes(folder: Path, config: Any) -> None:
    model, io = _direct(folder, config, "nonlegacy_vq")
    images = io["image"] * 2 - 1
    latents = model.images_to_latents(images)
    assert_close(latents, _channels_last(io["latent"]), TOLERANCE)
    tokens = model.encode(images)
    assert torch.equal(tokens.levels[0], _channels_last(io["indices"]))
    codes = model.quantizer.indices_to_codes(tokens.levels[0])
    assert_close(codes, _channels_last(io["z_quantized"]), TOLERANCE)
    losses = _losses(model, latents)
    assert_close(losses["commitment"], io["commitment_loss"], TOLERANCE)
    assert_close(losses["codebook"], io["codebook_loss"], TOLERANCE)
    assert_close(sum(losses.values(), start=torch.zeros(())), io["quantizer_loss"], TOLERANCE)
    assert_close((model.latents_to_images(codes) + 1) / 2, io["reconstruction"], TOLERANCE)
    expected = io["reconstruction"].clamp(0, 1)
    assert_close((model.decode(tokens) + 1) / 2, expected, TOLERANCE)
    with pytest.raises(ShapeError, match="not ordered"):
        tokens.truncate(length=1)


@torch.inference_mode()
def test_pixel_head_with_gaussians(folder: Path, config: Any) -> None:
    model, io = _direct(folder, config, "nonlegacy_vae")
    images = io["image"] * 2 - 1
    assert isinstance(model.quantizer, GaussianKL)
    gaussian = model.quantizer.distribution(model.images_to_latents(images))
    mean = _channels_last(io["mean"])
    assert_close(gaussian.mean, mean, TOLERANCE)
    assert_close(gaussian.log_variance, _channels_last(io["logvar"]), TOLERANCE)
    assert_close(gaussian.kl().sum(dim=-1), io["kl"], TOLERANCE)
    noise = torch.randn(io["mean"].shape, generator=torch.Generator().manual_seed(5))
    sample = gaussian.mean + (0.5 * gaussian.log_variance).exp() * _channels_last(noise)
    assert_close(sample, _channels_last(io["sample_seed5"]), TOLERANCE)
    recorded = io["reconstruction_from_mean"]
    assert_close((model.latents_to_images(mean) + 1) / 2, recorded, TOLERANCE)
    tokens = model.encode(images)
    assert_close(tokens.levels[0], mean, TOLERANCE)
    assert_close((model.decode(tokens) + 1) / 2, recorded.clamp(0, 1), TOLERANCE)


@torch.inference_mode()
def test_decoder_that_reads_a_caption(folder: Path, config: Any) -> None:
    _, other = _direct(folder, config, "nonlegacy_vq")
    if not (folder / "tatitok_decoder.safetensors").is_file():
        pytest.skip("no recording tatitok_decoder")
    io = load_parts(folder, "tatitok_decoder.safetensors")
    # decoder and codes were recorded alone: the encoder is the other recording's
    encoder = {k: v for k, v in _state(other).items() if k.startswith(("encoder.", "latent_"))}
    model = convert("ta_titok", encoder | _state(io), _settings(config, config["nonlegacy"]))
    assert isinstance(model, TATiTok)
    assert isinstance(model.quantizer, ClusteringVQ)
    assert torch.equal(model.quantizer.usage, io["sd.quantize.embed_prob"])
    indices, side = _channels_last(io["indices"]), model.config.image_size
    codes = model.quantizer.indices_to_codes(indices)
    drawn = model.latents_to_images(codes, io["text_guidance"])
    assert_close((drawn + 1) / 2, io["reconstruction"], TOLERANCE)
    tokens = Tokens((indices,), model.layout(side, side))
    decoded = model.decode(tokens, text=io["text_guidance"])
    assert_close((decoded + 1) / 2, io["reconstruction"].clamp(0, 1), TOLERANCE)
    silent = model.decode(tokens, text=torch.zeros_like(io["text_guidance"]))
    assert torch.equal(model.decode(tokens), silent)


def test_a_training_step_moves_unused_codes(folder: Path, config: Any) -> None:
    io = load_parts(folder, "clustering_vq_update.safetensors")
    codes, dim = io["embedding_before"].shape
    quantizer = ClusteringVQ(dim, codes)
    with torch.no_grad():
        quantizer.codebook.copy_(io["embedding_before"])
        quantizer.usage.copy_(io["embed_prob_before"])
    found = quantizer(_channels_last(io["z"]))
    assert torch.equal(found.indices, _channels_last(io["indices"]))
    assert_close(found.z_q, _channels_last(io["z_quantized"]), TOLERANCE)
    assert_close(quantizer.codebook, io["embedding_after"], TOLERANCE)
    assert_close(quantizer.usage, io["embed_prob_after"], TOLERANCE)
