"""Agreement with recordings of the published implementations, gradients included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from parity_cases import (
    Comparison,
    Config,
    Recording,
    build,
    channel_last,
    family,
    load_cases,
    load_projections,
    load_recording,
    prefixed,
)
from safetensors.torch import load_file
from torch import Tensor

from tessella.tokenizers.quantizers import (
    EMAVQ,
    FSQ,
    GQ,
    ProductQuantizer,
    ProjectedQuantizer,
    Quantizer,
    ResidualQuantizer,
    SimVQ,
    kmeans,
    rotate_to,
)
from tessella.tokenizers.quantizers.entropy import bit_marginals

pytestmark = pytest.mark.parity
same = Comparison()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        folder = Path(metafunc.config.getoption("--parity")) / "quantizers"
        cases = load_cases(folder) if folder.is_dir() else {}
        metafunc.parametrize("case", list(cases.values()), ids=list(cases))


@pytest.fixture
def recording(parity_dir: Path, case: Config) -> Recording:
    return load_recording(parity_dir / "quantizers", case["name"])


def test_case(case: Config, recording: Recording) -> None:
    CHECKS[family(case)](case, recording)


def gradient(output: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(output, x, retain_graph=True)[0]


def check_output(quantizer: Quantizer, r: Recording, key: str = "output") -> tuple[Tensor, ...]:
    """Compare values, indices, decoded indices and the estimator's gradient."""
    x = channel_last(r["x"]).requires_grad_()
    out = quantizer(x)
    same.value(out.z_q, channel_last(r[key]))
    same.indices(out.indices, r["indices"])
    if "codes_from_indices" in r:
        same.value(quantizer.indices_to_codes(out.indices), channel_last(r["codes_from_indices"]))
    if "grad_x_from_output" in r:
        dot = (channel_last(r["cotangent"]) * out.z_q).sum()
        same.gradient(gradient(dot, x), channel_last(r["grad_x_from_output"]))
    return x, out


def check_gq(config: Config, r: Recording) -> None:
    quantizer = build(config)
    x, out = check_output(quantizer, r, key="quant")
    same.loss(out.stats["token_entropy"], r["per_sample_entropy"])
    same.loss(out.stats["codebook_entropy"], r["codebook_entropy"])
    same.loss(out.stats["commitment"], r["commitment"])
    entropy = out.losses["entropy"] / quantizer.entropy.weight
    commitment = out.losses["commitment"] / quantizer.commitment_weight
    same.loss(entropy, r["entropy_aux_loss"])
    same.gradient(gradient(entropy, x), channel_last(r["grad_x_from_loss"]))
    same.gradient(gradient(commitment, x), channel_last(r["grad_x_from_commitment"]))
    (weighted,) = (k for k in r if k.startswith("weighted_quant_loss_"))
    weights = [float(w) for w in weighted.removeprefix("weighted_quant_loss_").split("_")]
    same.loss(weights[0] * entropy + weights[1] * commitment, r[weighted])
    same.value(quantizer.eval()(x).z_q, channel_last(r["eval.quant"]))
    same.value(quantizer.indices_to_codes(r["indices"]), channel_last(r["decode_from_indices"]))
    rows = torch.arange(len(r["codebook"])).unsqueeze(1).expand(-1, quantizer.groups)
    codes = quantizer.indices_to_codes(rows)[:, : quantizer.group_bits]
    same.value(codes, r["codebook"])


def check_gfq(config: Config, r: Recording) -> None:
    quantizer = build(config).eval()
    bits = config["factorized_bits"]
    indices = quantizer(channel_last(r["x"])).indices
    parts = quantizer.factorize(indices, bits)
    planes = []
    for k, part in enumerate(parts):
        same.indices(part, r[f"indices.{k}"])
        planes.append(r[f"entry.{k}"])
    joined = quantizer.unfactorize(parts, bits)
    same.indices(joined, indices)
    same.value(quantizer.indices_to_codes(joined), channel_last(torch.cat(planes, dim=1)))


def check_lfq(config: Config, r: Recording) -> None:
    quantizer = build(config)
    load_projections(quantizer, prefixed(r, "param."))
    x, out = check_output(quantizer, r)
    same.loss(out.stats["token_entropy"], r["per_sample_entropy"])
    same.loss(out.stats["codebook_entropy"], r["batch_entropy"])
    if config.get("commitment_loss_weight"):
        same.loss(out.stats["commitment"], r["commitment"])
    same.loss(out.loss, r["aux_loss"])
    same.gradient(gradient(out.loss, x), channel_last(r["grad_x_from_loss"]))
    evaluated = quantizer.eval()(x)
    same.value(evaluated.z_q, channel_last(r["eval.output"]))
    same.indices(evaluated.indices, r["eval.indices"])


def check_bsq(config: Config, r: Recording) -> None:
    quantizer = build(config)
    flat = {**r, "indices": r["group_indices"]}
    x, out = check_output(quantizer, flat)
    same.indices(quantizer.flatten_indices(out.indices), r["indices"])
    same.loss(out.stats["token_entropy"], r["per_sample_entropy"])
    same.loss(out.stats["codebook_entropy"], r["codebook_entropy"])
    same.loss(out.loss, r["loss"])
    same.gradient(gradient(out.loss, x), r["grad_x_from_loss"])
    # their histograms start at the most significant bit, the bitwise ones at P(+1)
    logits = 4 * config["inv_temperature"] * r["x"] / quantizer.dim**0.5
    logits = logits.reshape(-1, quantizer.groups, quantizer.group_bits)
    if config["persample_entropy_compute"] == "group":
        (found,) = bit_marginals(logits.flip(-1), marginal="exact")
    else:
        (found,) = bit_marginals(logits, marginal="bitwise")
    same.value(found.reshape(r["avg_prob"].shape), r["avg_prob"])


def check_fsq(config: Config, r: Recording) -> None:
    quantizer = build(config)
    load_projections(quantizer, prefixed(r, "param."))
    check_output(quantizer, r)
    core = quantizer.inner if isinstance(quantizer, ProjectedQuantizer) else quantizer
    part = core.parts[0] if isinstance(core, ProductQuantizer) else core
    every = torch.arange(len(r["implicit_codebook"])).unsqueeze(1)
    same.value(part.indices_to_codes(every), r["implicit_codebook"])
    digits = FSQ(part.levels, bound=part.bound, factorized=True)
    codes = part.indices_to_codes(r["indices"].reshape(-1, 1))
    same.indices(digits.codes_to_indices(codes), r["level_indices"].reshape(-1, digits.groups))


def check_fsq_reference(config: Config, r: Recording) -> None:
    quantizer = build(config)
    same.value(quantizer.bounded(r["x"]), r["bounded"])
    check_output(quantizer, r)


def check_vqp(config: Config, r: Recording) -> None:
    quantizer = build(config)
    load_projections(quantizer, prefixed(r, "init."))
    load_codebooks(quantizer, prefixed(r, "init._codebook."))
    steps = sorted({key.split(".")[0] for key in r if key.startswith("step")})
    for step in steps:
        s = prefixed(r, f"{step}.")
        x = s["x"].requires_grad_()
        out = quantizer(x)
        same.value(out.z_q, s["output"])
        same.indices(out.indices, s["indices"])
        same.loss(out.loss, s["loss"])
        if "grad_x_from_output" in s:
            dot = (s["cotangent"] * out.z_q).sum()
            same.gradient(gradient(dot, x), s["grad_x_from_output"])
            same.gradient(gradient(out.loss, x), s["grad_x_from_loss"])
        for name, expected in prefixed(s, "grad_param_from_loss._codebook.").items():
            assert name == "embed"
            same.gradient(gradient(out.loss, quantizer.codebook), expected[0])
        check_codebooks(quantizer, prefixed(s, "after."))
    quantizer.eval()
    out = quantizer(x)
    same.value(out.z_q, r["eval.output"])
    same.indices(out.indices, r["eval.indices"])
    same.value(quantizer.indices_to_codes(out.indices), r["eval.output_from_indices"])
    assert out.losses == {}


def codebook_parts(quantizer: Quantizer) -> list[Quantizer]:
    core = quantizer.inner if isinstance(quantizer, ProjectedQuantizer) else quantizer
    return list(core.parts) if isinstance(core, ProductQuantizer) else [core]


def load_codebooks(quantizer: Quantizer, state: Recording) -> None:
    for head, part in enumerate(codebook_parts(quantizer)):
        with torch.no_grad():
            part.codebook.copy_(state["embed"][head])
            if isinstance(part, EMAVQ):
                part.counts.copy_(state["cluster_size"][head])
                part.sums.copy_(state["embed_avg"][head])


def check_codebooks(quantizer: Quantizer, state: Recording) -> None:
    for head, part in enumerate(codebook_parts(quantizer)):
        same.value(part.codebook.detach(), state["embed"][head])
        if isinstance(part, EMAVQ):
            same.value(part.counts, state["cluster_size"][head])
            same.value(part.sums, state["embed_avg"][head])


def check_residual_vq(config: Config, r: Recording) -> None:
    quantizer = build(config)
    load_projections(quantizer, prefixed(r, "init."))
    stack = quantizer.inner if isinstance(quantizer, ProjectedQuantizer) else quantizer
    assert isinstance(stack, ResidualQuantizer)
    for q, level in enumerate(stack.levels):
        load_codebooks(level, prefixed(r, f"init.layers.{q}._codebook."))
    quantizer.eval()
    out = quantizer(r["x"])
    same.value(out.z_q, r["eval.output"])
    same.indices(out.indices, r["eval.indices"])
    same.value(quantizer.indices_to_codes(out.indices), r["eval.output_from_indices"])
    same.value(stack.level_codes(out.indices), r["eval.all_codes"])
    quantizer.train()
    t = prefixed(r, "train.")
    x = r["x"].requires_grad_()
    out = quantizer(x)
    same.value(out.z_q, t["output"])
    same.indices(out.indices, t["indices"])
    same.loss(out.stats["level_losses"], t["losses"])
    same.loss(out.loss, t["losses"].sum())
    same.gradient(gradient((t["cotangent"] * out.z_q).sum(), x), t["grad_x_from_output"])
    same.gradient(gradient(out.loss, x), t["grad_x_from_loss"])
    for q, level in enumerate(stack.levels):
        check_codebooks(level, prefixed(t, f"after.layers.{q}._codebook."))


def check_residual_scalar(config: Config, r: Recording) -> None:
    quantizer = build(config).eval()
    check_output(quantizer, r)
    same.value(quantizer.indices_to_codes(r["indices"]), r["output_from_indices"])
    same.indices(quantizer.codes_to_indices(r["output"]), r["indices"])
    if "soft_clamp" in r:
        same.value(torch.tensor(quantizer.soft_clamp), r["soft_clamp"])
        same.value(torch.tensor([level.scale for level in quantizer.levels]), r["scales"])


def check_learned(config: Config, r: Recording) -> None:
    """Gradient codebooks: taming, LlamaGen."""
    quantizer = build(config)
    with torch.no_grad():
        quantizer.codebook.copy_(r["embedding"])
    x, out = check_output(quantizer, r)
    if "loss" in r:
        same.loss(out.loss, r["loss"])
    else:
        same.loss(out.losses["codebook"], r["vq_loss"])
        same.loss(out.losses["commitment"], r["commit_loss_times_beta"])
        same.loss(out.losses["entropy"], r["entropy_loss_times_ratio"])
        same.loss(out.stats["usage"], r["codebook_usage"])
        codes = quantizer.indices_to_codes(out.indices)
        same.value(codes, channel_last(r["entry_from_indices"]))
    same.gradient(gradient(out.loss, x), channel_last(r["grad_x_from_loss"]))
    expected = r["grad_param_from_loss.embedding.weight"]
    same.gradient(gradient(out.loss, quantizer.codebook), expected)


def check_simvq(config: Config, r: Recording) -> None:
    quantizer = build(config)
    assert isinstance(quantizer, SimVQ)
    quantizer.load_state_dict(prefixed(r, "param."))
    same.value(quantizer.table(), r["codebook"])
    x, out = check_output(quantizer, r)
    same.loss(out.loss, r["loss"])
    same.gradient(gradient(out.loss, x), r["grad_x_from_loss"])
    (name,) = prefixed(r, "grad_param_from_loss.")
    weight = quantizer.get_parameter(name)
    same.gradient(gradient(out.loss, weight), r[f"grad_param_from_loss.{name}"])


def check_ibq(config: Config, r: Recording) -> None:
    quantizer = build(config)
    with torch.no_grad():
        quantizer.codebook.copy_(r["embedding"])
    x, out = check_output(quantizer, r)
    same.loss(out.stats["token_entropy"], r["sample_entropy"])
    same.loss(out.stats["codebook_entropy"], r["avg_entropy"])
    quant = out.losses["soft"] + out.losses["commitment"] + out.losses["codebook"]
    dot = (channel_last(r["cotangent"]) * out.z_q).sum()
    table = quantizer.codebook
    same.gradient(gradient(dot, table), r["grad_embedding_from_output"])
    for loss, name in ((quant, "quant_loss"), (out.losses["entropy"], "entropy_loss")):
        same.loss(loss, r[name])
        same.gradient(gradient(loss, x), channel_last(r[f"grad_x_from_{name}"]))
        same.gradient(gradient(loss, table), r[f"grad_embedding_from_{name}"])


def check_kmeans(config: Config, r: Recording) -> None:
    for prefix, cosine in (("", False), ("cos_", True)):
        for head, data in enumerate(r[f"{prefix}data"]):
            found = kmeans(
                data,
                config["clusters"],
                iterations=config["iters"],
                cosine=cosine,
                initial=data[: config["clusters"]],
            )
            same.value(found.means, r[f"{prefix}means"][head])
            same.indices(found.counts.long(), r[f"{prefix}bins"][head])


def check_rotation(config: Config, r: Recording) -> None:
    src = r["src"].requires_grad_()
    out = rotate_to(src, r["tgt"])
    same.value(out, r["output"])
    same.gradient(gradient((r["cotangent"] * out).sum(), src), r["grad_src"])


CHECKS = {
    "gq": check_gq,
    "gfq": check_gfq,
    "LFQ": check_lfq,
    "bsq": check_bsq,
    "FSQ": check_fsq,
    "fsq_reference": check_fsq_reference,
    "VectorQuantize": check_vqp,
    "ResidualVQ": check_residual_vq,
    "ResidualFSQ": check_residual_scalar,
    "ResidualLFQ": check_residual_scalar,
    "taming": check_learned,
    "llamagen": check_learned,
    "SimVQ": check_simvq,
    "ibq": check_ibq,
    "kmeans": check_kmeans,
    "rotate_to": check_rotation,
}


def test_fsq_of_token_transformers(parity_dir: Path) -> None:
    folder = parity_dir / "fsq"
    config = json.loads((folder / "config.json").read_text())
    r = load_file(folder / "fsq.safetensors")
    quantizer = FSQ(config["levels"], bound="vqp", eps=config["bound_eps"])
    assert quantizer.vocab_sizes == (config["codebook_size"],)
    z = r["z"].requires_grad_()
    out = quantizer(z)
    torch.testing.assert_close(quantizer.bounded(z), r["bounded"], atol=1e-5, rtol=0)
    same.value(out.z_q, r["quantized"])
    same.indices(out.indices.squeeze(-1), r["indices"])
    same.gradient(gradient(out.z_q.sum(), z), r["grad_of_sum"])
    codes = quantizer.indices_to_codes(r["random_indices"].unsqueeze(-1))
    same.value(codes, r["embedding_of_random_indices"])
    same.indices(quantizer.codes_to_indices(codes).squeeze(-1), r["random_indices"])
    basis = torch.tensor(config["basis"]).unsqueeze(1)
    digits = FSQ(config["levels"], bound="vqp", factorized=True)
    same.indices(
        digits.codes_to_indices(quantizer.indices_to_codes(basis)),
        torch.eye(len(basis), dtype=torch.int64),
    )


def test_gq_on_latents_of_the_published_network(parity_dir: Path) -> None:
    folder = parity_dir / "wetok" / "plain"
    config = json.loads((folder / "config.json").read_text())
    r = load_file(folder / "io.safetensors")
    quantizer = GQ(config["groups"], config["dim_per_group"]).eval()
    for weights in ("raw", "ema"):
        out = quantizer(channel_last(r[f"{weights}.latent"]))
        same.indices(out.indices, r[f"{weights}.indices"])
        assert torch.equal(out.z_q, channel_last(r[f"{weights}.codes"]))
        assert torch.equal(quantizer.indices_to_codes(out.indices), out.z_q)
