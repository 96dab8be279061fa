"""Names and configs of Infinity's published checkpoints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tessella.errors import CheckpointError
from tessella.generation import GENERATORS, Sampling
from tessella.generation.checkpoints import convert_generator
from tessella.generation.infinity import InfinityConfig, InfinityGenerator
from tessella.generation.saved import enliven
from tessella.tokenizers.infinity_schedules import TEMPLATES
from tessella.tokenizers.multiscale_bsq import MultiScaleBSQConfig, MultiScaleBSQTokenizer

SIDES = (1, 2, 4)
BLOCK = {
    "sa.mat_qkv.weight": "attention.qkv.weight",
    "sa.q_bias": "attention.q_bias",
    "sa.v_bias": "attention.v_bias",
    "sa.proj.weight": "attention.proj.weight",
    "sa.proj.bias": "attention.proj.bias",
    "ca.mat_q.weight": "cross_attention.query.weight",
    "ca.mat_q.bias": "cross_attention.query.bias",
    "ca.mat_kv.weight": "cross_attention.text.key_value.weight",
    "ca.v_bias": "cross_attention.text.v_bias",
    "ca.proj.weight": "cross_attention.proj.weight",
    "ca.proj.bias": "cross_attention.proj.bias",
    "ca_norm.weight": "text_norm.weight",
    "ca_norm.bias": "text_norm.bias",
    "ca_gamma": "text_gamma",
    "ffn.fc1.weight": "perceptron.fc1.weight",
    "ffn.fc1.bias": "perceptron.fc1.bias",
    "ffn.fc2.weight": "perceptron.fc2.weight",
    "ffn.fc2.bias": "perceptron.fc2.bias",
}


def _model(**changes: Any) -> InfinityGenerator:
    tiny = GENERATORS.presets()["infinity-tiny"][1].config
    schedule = tuple((side, side) for side in SIDES)
    torch.manual_seed(0)
    model = InfinityGenerator(replace(tiny, schedule=schedule, text_gamma=0.3, **changes))
    enliven(model)
    return model.eval()


def _published(model: InfinityGenerator, chunks: int) -> dict[str, Tensor]:
    """Return the tensors of a model under the names of the published files."""
    ours, width = model.state_dict(), model.config.width
    theirs = {
        "cfg_uncond": ours["text.null"],
        "text_norm.weight": ours["text.norm.weight"],
        "text_proj_for_sos.ca.mat_q": ours["text.pool.query"][None],
        "text_proj_for_sos.ca.mat_kv.weight": ours["text.pool.text.key_value.weight"],
        "text_proj_for_sos.ca.v_bias": ours["text.pool.text.v_bias"],
        "text_proj_for_sos.ca.zero_k_bias": torch.zeros(width),
        "pos_start": ours["start_embedding"],
        "lvl_embed.weight": ours["scale_embedding.weight"],
    }
    for part in ("weight", "bias"):
        theirs |= {
            f"text_proj_for_sos.ca.proj.{part}": ours[f"text.pool.proj.{part}"],
            f"text_proj_for_ca.0.{part}": ours[f"text.inner.{part}"],
            f"text_proj_for_ca.2.{part}": ours[f"text.outer.{part}"],
            f"word_embed.{part}": ours[f"word_embedding.{part}"],
            f"head_nm.ada_lin.1.{part}": ours[f"head.modulation.{part}"],
            f"head.{part}": ours[f"head.out.{part}"],
        }
        if model.config.is_modulation_shared:
            theirs[f"shared_ada_lin.1.{part}"] = ours[f"shared_modulation.{part}"]
    each = model.config.depth // chunks
    for i in range(model.config.depth):
        start = f"block_chunks.{i // each}.module.{i % each}." if chunks > 1 else f"blocks.{i}."
        block = {name: ours[f"blocks.{i}.{own}"] for name, own in BLOCK.items()}
        temperature = ours[f"blocks.{i}.attention.log_temperature"]
        block["sa.scale_mul_1H11"] = temperature.view(1, -1, 1, 1)
        block["sa.zero_k_bias"] = block["ca.zero_k_bias"] = torch.zeros(width)
        if model.config.is_modulation_shared:
            block["ada_gss"] = ours[f"blocks.{i}.modulation_offset"]
        else:
            for part in ("weight", "bias"):
                block[f"ada_lin.1.{part}"] = ours[f"blocks.{i}.modulation.{part}"]
        theirs |= {start + name: tensor for name, tensor in block.items()}
    return theirs


def _project_config(**more: Any) -> dict[str, Any]:
    return {"scale_schedule": [[1, side, side] for side in SIDES], **more}


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize(
    ("chunks", "is_once", "level_blocks"),
    [(1, 1, (0,)), (2, 1, (0,)), (2, 0, (0, 2)), (1, 0, (0, 1, 2, 3))],
)
def test_blocks_in_chunks_and_in_a_row(
    chunks: int, is_once: int, level_blocks: tuple[int, ...], is_shared: bool
) -> None:
    model = _model(level_blocks=level_blocks, is_modulation_shared=is_shared)
    config = _project_config(add_lvl_embeding_only_first_block=is_once)
    again = convert_generator("infinity", _published(model, chunks), config)
    assert again.config.level_blocks == level_blocks
    state = again.state_dict()
    assert all(torch.equal(tensor, state[k]) for k, tensor in model.state_dict().items())
    tokenizer = MultiScaleBSQTokenizer(
        MultiScaleBSQConfig(
            channels=8, multipliers=(1, 2), blocks=1, norm_groups=4, code_dim=8,
            schedule=model.config.schedule,
        )
    )  # fmt: skip
    options = {"tokenizer": tokenizer, "sampling": Sampling(greedy=True)}
    prompts = [torch.randn(3, 8)]
    assert again.generate(prompts, **options) == model.generate(prompts, **options)


def test_what_a_config_may_hold() -> None:
    theirs = _published(_model(), 2)
    config = convert_generator("infinity", theirs, _project_config(h_div_w=0.67)).config
    assert config.finest == TEMPLATES[0.666][-1]
    wrapped = {"trainer": {"gpt_fsdp": theirs}, "epoch": 3}
    without = convert_generator("infinity", wrapped).config
    assert without == replace(config, finest=None, schedule=())
    assert isinstance(without, InfinityConfig)
    named = convert_generator("infinity", theirs, replace(config, resolution="0.06M"))
    assert named.config.resolution == "0.06M"


def test_other_files_are_refused() -> None:
    theirs = _published(_model(), 2)
    with pytest.raises(CheckpointError, match="rope2d_normalized_by_hw=1"):
        convert_generator("infinity", theirs, {"rope2d_normalized_by_hw": 1})
    with pytest.raises(CheckpointError, match="is missing"):
        convert_generator("infinity", {k: v for k, v in theirs.items() if k != "cfg_uncond"})
    with pytest.raises(CheckpointError, match="unexpected"):
        convert_generator("infinity", {**theirs, "other.weight": torch.zeros(2)})
