"""Agreement with recordings of Selftok's encoder and of its schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts
from torch.nn import functional as F

from tessella.errors import ConfigError
from tessella.tokenizers.checkpoints import convert
from tessella.tokenizers.selftok import Selftok
from tessella.tokenizers.time_stages import last_visible
from tessella.tokens import Tokens

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4

Case = tuple[Selftok, Recording, Any]


@pytest.fixture
def case(parity_dir: Path) -> Case:
    folder = parity_dir / "selftok_encoder"
    config = load_config(folder)
    model = convert(
        "selftok_encoder", load_parts(folder, "encoder_state_dict*.safetensors"), config
    )
    assert isinstance(model, Selftok)
    return model, load_parts(folder, "io*.safetensors"), config


def test_sizes_are_read_from_the_tensors(case: Case) -> None:
    model, _, config = case
    ours = model.config
    assert (ours.tokens, ours.depth) == (config["K"], config["depth"])
    assert (ours.width, ours.query_width) == (config["hidden_size"], config["query_dim"])
    assert (ours.latent_channels, ours.patch) == (config["in_channels"], config["patch_size"])
    assert (ours.code_dim, ours.codebook_size) == (config["code_dim"], config["codebook_size"])
    assert ours.embedding_width == config["encoder_hidden_size"]


@torch.inference_mode()
def test_queries_indices_and_embeddings(case: Case) -> None:
    model, io, _ = case
    assert_close(model.patch_tokens(io["latent"]), io["patch_tokens"], TOLERANCE)
    queries = model.latents_to_queries(io["latent"])
    assert_close(queries, io["query_tokens_out"], TOLERANCE)
    unit = F.normalize(model.project_in(queries), dim=-1)
    assert_close(unit, io["projected_normalised"], TOLERANCE)
    tokens = model.encode_latents(io["latent"])
    assert torch.equal(tokens.levels[0][..., 0], io["indices"])
    codes = model.quantizer.indices_to_codes(tokens.levels[0])
    assert_close(model.embeddings(codes), io["token_embeddings"], TOLERANCE)


def test_which_tokens_count_at_a_time(case: Case) -> None:
    model, io, _ = case
    stages, counts = model.config.stages, model.config.tokens_per_stage
    last = last_visible(io["diti.t"], stages, counts)
    assert torch.equal(last, io["diti.k"])
    # the recorded times count in thousandths
    assert torch.equal(torch.arange(sum(counts)) <= last[:, None], io["diti.mask"])


def test_what_a_checkpoint_lacks_is_named(case: Case) -> None:
    model, io, _ = case
    with pytest.raises(ConfigError, match="with_autoencoder"):
        model.encode(torch.zeros(1, 3, 32, 32))
    tokens = Tokens((io["indices"].unsqueeze(-1),), model.layout(64, 64))
    with pytest.raises(ConfigError, match="no decoder"):
        model.decode(tokens)
