"""What is special about TokenFlow: one index in two codebooks, any prefix of scales, a teacher."""

from __future__ import annotations

import re

import pytest
import torch

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers import families
from tessella.tokenizers.checkpoints.tokenflow import translated_teacher
from tessella.tokenizers.quantizers.multiscale_dual import DualCodebook
from tessella.tokenizers.registry import all_presets
from tessella.tokenizers.tokenflow import TokenFlow, TokenFlowConfig


def _model(preset: str) -> TokenFlow:
    model = families()["tokenflow"].model_class(all_presets()[preset][1].config)
    assert isinstance(model, TokenFlow)
    return model


@pytest.mark.parametrize(
    ("preset", "size", "tokens"),
    [
        ("tokenflow-b-224", 224, 561),
        ("tokenflow-b-224", 256, 817),
        ("tokenflow-l-256", 256, 817),
        ("tokenflow-xl-384", 384, 2227),
    ],
)
def test_token_counts_are_the_published_ones(preset: str, size: int, tokens: int) -> None:
    with torch.device("meta"):
        model = _model(preset)
    model.quantizer.codebook = torch.nn.Parameter(torch.zeros(2, model.quantizer.dim))
    layout = model.layout(size, size)
    assert layout.num_values == tokens


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 3.0])
def test_indices_are_the_nearest_by_plain_loops(weight: float) -> None:
    torch.manual_seed(0)
    quantizer = DualCodebook(3, 2, 11, pixel_weight=weight).eval()
    torch.nn.init.normal_(quantizer.codebook)
    features = torch.randn(2, 5, 2, 3)
    found = quantizer(features, [(2, 3)]).indices[0]
    table = quantizer.codebook.detach()
    for b in range(2):
        for y in range(2):
            for x in range(3):
                vector = features[b, :, y, x]
                distances = []
                for code in table:
                    total = 0.0
                    for part, factor in ((slice(0, 3), 1.0), (slice(3, 5), weight)):
                        a, e = vector[part], code[part]
                        gap = a / a.norm() - e / e.norm()
                        total += factor * float(gap.square().sum())
                    distances.append(total)
                assert int(found[b, y, x, 0]) == min(range(11), key=distances.__getitem__)


def test_codes_have_unit_halves_and_bad_indices_are_refused() -> None:
    quantizer = DualCodebook(3, 2, 7)
    codes = quantizer.indices_to_codes(torch.arange(7).view(1, 7, 1, 1))
    assert torch.allclose(codes[..., :3].norm(dim=-1), torch.ones(1, 7, 1))
    assert torch.allclose(codes[..., 3:].norm(dim=-1), torch.ones(1, 7, 1))
    with pytest.raises(ShapeError, match="from 0 to 6"):
        quantizer.indices_to_codes(torch.full((1, 1, 1, 1), 7))


def test_a_dropped_scale_adds_nothing() -> None:
    torch.manual_seed(0)
    quantizer = DualCodebook(4, 4, 16).train()
    features = torch.randn(1, 8, 4, 4)
    grids = [(1, 1), (2, 2), (4, 4)]
    found = quantizer(features, grids, dropped=2)
    assert torch.equal(found.sums[1], found.sums[2])
    assert len(found.indices) == 3


def test_features_come_back_for_any_prefix_and_size() -> None:
    model = _model("tokenflow-tiny").eval()
    tokens = model.encode(torch.zeros(1, 3, 40, 64))
    for levels in range(1, len(tokens.levels) + 1):
        features = model.decode_features(tokens.truncate(levels=levels))
        assert features.shape == (1, 5, 8, model.config.feature_width)


def test_features_of_another_grid_are_refused() -> None:
    model = _model("tokenflow-tiny")
    with pytest.raises(ShapeError, match="multiples of 8"):
        model.encode_features(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 4, 24))


def test_alignment_needs_features_of_the_teachers_width() -> None:
    with pytest.raises(ConfigError, match="alignment_weight=0"):
        TokenFlowConfig(feature_width=512)


@pytest.mark.parametrize("preset", ["tokenflow-b-224", "tokenflow-xl-384"])
def test_teachers_under_the_names_of_transformers_fit(preset: str) -> None:
    with torch.device("meta"):
        model = _model(preset)
    assert model.teacher is not None
    config = model.config.teacher
    named = translated_teacher(_tower(model.teacher.state_dict(), config.dropped_blocks), config)
    assert {k: v.shape for k, v in named.items()} == {
        f"teacher.{k}": v.shape for k, v in model.teacher.state_dict().items()
    }


def _tower(state: dict[str, torch.Tensor], dropped: int) -> dict[str, torch.Tensor]:
    """Spell timm's tensors as transformers does, with the blocks that were dropped."""
    blocks = len({name.split(".")[2] for name in state if ".blocks." in name})
    spelling = {
        "patch_embed.proj": "embeddings.patch_embedding",
        "norm_pre": "pre_layrnorm",
        "norm": "post_layernorm",
        "blocks": "encoder.layers",
        "attn.proj": "self_attn.out_proj",
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
    }
    result = {}
    for name, tensor in state.items():
        name = name.removeprefix("model.")
        if name == "pos_embed":
            result["embeddings.position_embedding.weight"] = tensor[0]
            continue
        if name == "cls_token":
            result["embeddings.class_embedding"] = tensor.flatten()
            continue
        for ours, theirs in spelling.items():
            name = re.sub(rf"(^|\.){re.escape(ours)}\.", rf"\1{theirs}.", name)
        copies = [name]
        if f".{blocks - 1}." in name:
            copies += [name.replace(f".{blocks - 1}.", f".{blocks + i}.") for i in range(dropped)]
        for copy in copies:
            if ".attn.qkv." not in copy:
                result[copy] = tensor
                continue
            for part, x in zip(tensor.chunk(3), "qkv", strict=True):
                result[copy.replace("attn.qkv", f"self_attn.{x}_proj")] = part
    if dropped:
        result["post_layernorm.weight"] = result["post_layernorm.bias"] = torch.zeros(1)
        result["head.probe"] = torch.zeros(1)
    return {f"encoder_vqkd.vision_model.{name}": tensor for name, tensor in result.items()}


@pytest.mark.parametrize("preset", ["tokenflow-b-224", "tokenflow-l-256", "tokenflow-xl-384"])
def test_teachers_fit_the_grid_at_the_published_and_at_other_sizes(preset: str) -> None:
    with torch.device("meta"):
        model = _model(preset)
        size = model.config.image_size
        for height, width in ((size, size), (2 * size, size)):
            images = torch.zeros(1, 3, height, width)
            features = model.images_to_features(images)
            assert features.shape[2:] == model.grids(height, width)[-1]
            assert model.features_to_images(features).shape == images.shape
