"""From a recording's config.json to a configured quantizer, and small helpers to compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tessella.tokenizers.quantizers import (
    BSQ,
    EMAVQ,
    FSQ,
    GQ,
    IBQ,
    LFQ,
    VQ,
    EMAConfig,
    EntropyConfig,
    IBQWeights,
    ProductQuantizer,
    ProjectedQuantizer,
    Quantizer,
    ResidualQuantizer,
    SimVQ,
    residual_fsq,
    residual_lfq,
)

Config = dict[str, Any]
Recording = dict[str, Tensor]


def load_cases(folder: Path) -> dict[str, Config]:
    config = json.loads((folder / "config.json").read_text())
    return {name: {**case, "name": name} for name, case in config.items()}


def load_recording(folder: Path, name: str) -> Recording:
    return load_file(folder / f"{name}.safetensors")


FAMILIES = {
    "WeTok": "gq",
    "taming": "taming",
    "notebook": "fsq_reference",
    "bsq-vit": "bsq",
    "LlamaGen": "llamagen",
    "IBQ": "ibq",
}


def family(config: Config) -> str:
    """Name the kind of a case from the public implementation that it records."""
    if config.get("token_factorization"):
        return "gfq"
    named = (kind for word, kind in FAMILIES.items() if word in config["source"])
    # vector-quantize-pytorch: the class or function, after the repository
    return next(named, config["source"].split()[-1])


def build(config: Config) -> Quantizer:
    return BUILDERS[family(config)](config)


def _bits(codebook_size: int) -> int:
    bits = codebook_size.bit_length() - 1
    assert 2**bits == codebook_size
    return bits


def _projected(inner: Quantizer, config: Config) -> Quantizer:
    dim = config.get("dim", inner.dim)
    return inner if dim == inner.dim else ProjectedQuantizer(inner, dim)


def _gq(config: Config) -> Quantizer:
    entropy = EntropyConfig(
        sample_weight=config["sample_minimization_weight"],
        batch_weight=config["batch_maximization_weight"],
    )
    return GQ(config["num_codebooks"], _bits(config["codebook_size"]), entropy=entropy)


def _lfq(config: Config) -> Quantizer:
    entropy = EntropyConfig(
        weight=config.get("entropy_loss_weight", 0.1),
        batch_weight=config.get("diversity_gamma", 1.0),
        temperature=1 / config.get("inv_temperature", 100.0),
        reduction="per_group_mean",
        log_form="clamp",
        clamp_token_log=True,
    )
    inner = LFQ(
        _bits(config["codebook_size"]),
        config.get("num_codebooks", 1),
        scale=config.get("codebook_scale", 1.0),
        spherical=config.get("spherical", False),
        soft_clamp=config.get("soft_clamp_input_value"),
        entropy=entropy,
        commitment_weight=config.get("commitment_loss_weight", 0.0),
    )
    return _projected(inner, config)


def _bsq(config: Config) -> Quantizer:
    entropy = EntropyConfig(
        weight=config["zeta"] / config["inv_temperature"],
        sample_weight=config["gamma0"],
        batch_weight=config["gamma"],
        temperature=1 / config["inv_temperature"],
        reduction="per_group_sum",
        marginal={"group": "exact", "analytical": "bitwise"}[config["persample_entropy_compute"]],
        log_eps=1e-8,
    )
    return BSQ(
        config["embed_dim"] // config["group_size"],
        config["group_size"],
        normalize=False,
        entropy=entropy,
        commitment_weight=config["beta"],
    )


def _fsq(config: Config) -> Quantizer:
    bound = "symmetric" if config.get("preserve_symmetry") else "vqp"
    parts = [FSQ(config["levels"], bound=bound) for _ in range(config.get("num_codebooks", 1))]
    inner = parts[0] if len(parts) == 1 else ProductQuantizer(parts)
    return _projected(inner, config)


def _fsq_reference(config: Config) -> Quantizer:
    return FSQ(config["levels"], bound="paper", eps=config["eps"])


def _vqp(config: Config) -> Quantizer:
    heads = config.get("heads", 1)
    width = config.get("codebook_dim", config["dim"])
    weight = config.get("commitment_weight", 1.0)
    common = {"cosine": config.get("use_cosine_sim", False), "rotation": config["rotation_trick"]}

    def part() -> Quantizer:
        if config.get("learnable_codebook"):
            return VQ(
                width,
                config["codebook_size"],
                codebook_weight=0,
                commitment_weight=0,
                joint_weight=weight,
                **common,
            )
        ema = EMAConfig(decay=config.get("decay", 0.8), eps=config.get("eps", 1e-5))
        return EMAVQ(width, config["codebook_size"], commitment_weight=weight, ema=ema, **common)

    inner = part() if heads == 1 else ProductQuantizer([part() for _ in range(heads)])
    return _projected(inner, config)


def _residual_vq(config: Config) -> Quantizer:
    depth = config["num_quantizers"]
    shared = config.get("shared_codebook", False)
    width = config.get("codebook_dim", config["dim"])
    level = {**config, "dim": width}
    levels = [_vqp(level) for _ in range(1 if shared else depth)]
    stack = ResidualQuantizer(levels, num_levels=depth if shared else None, ste="per_level")
    return _projected(stack, config)


def _residual_fsq(config: Config) -> Quantizer:
    return residual_fsq(config["levels"], config["num_quantizers"])


def _residual_lfq(config: Config) -> Quantizer:
    return residual_lfq(_bits(config["codebook_size"]), config["num_quantizers"])


def _taming(config: Config) -> Quantizer:
    weights = (config["beta"], 1.0) if config["legacy"] else (1.0, config["beta"])
    return VQ(
        config["e_dim"], config["n_e"], codebook_weight=weights[0], commitment_weight=weights[1]
    )


def _llamagen(config: Config) -> Quantizer:
    return VQ(
        config["e_dim"],
        config["n_e"],
        cosine=config["l2_norm"],
        commitment_weight=config["beta"],
        entropy=EntropyConfig(weight=config["entropy_loss_ratio"]),
    )


def _simvq(config: Config) -> Quantizer:
    weight = config["commitment_weight"]
    return SimVQ(
        config["dim"],
        config["codebook_size"],
        frozen_dim=config["frozen_codebook_dim"],
        codebook_weight=weight,
        commitment_weight=weight * config["input_to_quantize_commit_loss_weight"],
        rotation=config["rotation_trick"],
    )


def _ibq(config: Config) -> Quantizer:
    return IBQ(
        config["e_dim"],
        config["n_e"],
        weights=IBQWeights(codebook=config["beta"]),
        entropy=EntropyConfig(weight=1.0, temperature=config["entropy_temperature"]),
    )


BUILDERS = {
    "gq": _gq,
    "gfq": _gq,
    "LFQ": _lfq,
    "bsq": _bsq,
    "FSQ": _fsq,
    "fsq_reference": _fsq_reference,
    "VectorQuantize": _vqp,
    "ResidualVQ": _residual_vq,
    "ResidualFSQ": _residual_fsq,
    "ResidualLFQ": _residual_lfq,
    "taming": _taming,
    "llamagen": _llamagen,
    "SimVQ": _simvq,
    "ibq": _ibq,
}


def channel_last(x: Tensor) -> Tensor:
    """Move the channels of maps to the end; sequences have them there already."""
    return x.movedim(1, -1) if x.ndim >= 4 else x


def prefixed(recording: Recording, prefix: str) -> Recording:
    return {k.removeprefix(prefix): v for k, v in recording.items() if k.startswith(prefix)}


def load_projections(quantizer: Quantizer, state: Recording) -> None:
    """Copy project_in / project_out weights where the quantizer has them."""
    if isinstance(quantizer, ProjectedQuantizer):
        for side in ("project_in", "project_out"):
            getattr(quantizer, side).load_state_dict(prefixed(state, f"{side}."))


class Comparison:
    """Compares within the tolerances that the recordings state."""

    def value(self, found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=0)

    def loss(self, found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)

    def gradient(self, found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)

    def indices(self, found: Tensor, expected: Tensor) -> None:
        assert found.dtype == torch.int64
        assert torch.equal(found.reshape(expected.shape), expected.to(torch.int64))
