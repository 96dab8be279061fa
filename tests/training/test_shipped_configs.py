"""Every configuration that ships, and every published size that should have one."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import tessella.tokenizers
from tessella.configs import config_names, find_config
from tessella.errors import ConfigError
from tessella.tokenizers.registry import all_presets, families, family
from tessella.training import load_config
from tessella.training.config_file import parse_yaml, read_config, tokenizer_config
from tessella.training.latent.config import SECTION, load_latent_config
from tessella.training.latent.model import RatedTokenizer
from tessella.training.losses import ReconstructionLoss

assert tessella.tokenizers  # importing it fills the registry

# sizes that training refuses: there is nothing behind the encoder
ENCODERS = {"selftok-512-encoder"}


def _of_tokenizers() -> list[str]:
    """Names of the configurations that train a tokenizer: their model has a registered family."""
    names = []
    for name in config_names():
        data = parse_yaml(find_config(name).read_text(encoding="utf-8"), where=name)
        if data.get("model", {}).get("family") in families():
            names.append(name)
    return names


def _of_latents() -> list[str]:
    """Names of the configurations that train scalar latents."""
    return [name for name in config_names() if SECTION in read_config(name)]


@pytest.mark.parametrize("name", _of_tokenizers())
def test_a_shipped_configuration_builds_its_model_at_full_size(name: str) -> None:
    settings = load_config(name)
    assert settings.model.preset.replace("-", "_").replace(".", "_") == name
    assert settings.trainer.output == f"runs/{name}"
    with torch.device("meta"):
        model = family(settings.model.family).model_class(tokenizer_config(settings))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert settings.data.crop % model.stride == 0
    without_weights = dataclasses.replace(settings.loss, lpips=0.0)
    assert ReconstructionLoss(without_weights, crop=settings.data.crop).weights
    prefixes = settings.optimizer.lr_multipliers
    names = [parameter for parameter, _ in model.named_parameters()]
    assert all(any(n.startswith(prefix) for n in names) for prefix in prefixes)


def test_every_published_size_has_a_configuration() -> None:
    published = {name for name in all_presets() if not name.endswith("-tiny")}
    configured = {load_config(name).model.preset for name in _of_tokenizers()}
    configured |= {name.replace("_", "-") for name in _of_latents()}
    assert published - configured == ENCODERS


@pytest.mark.parametrize("name", _of_latents())
def test_a_configuration_of_scalar_latents_builds_its_model(name: str) -> None:
    settings = load_latent_config(read_config(name))
    _, preset = all_presets()[name.replace("_", "-")]
    assert settings.model.tokenizer == preset.config
    assert settings.trainer.output == f"runs/{name}"
    with torch.device("meta"):
        model = RatedTokenizer(settings.model.tokenizer, settings.model.prior)
    names = [parameter for parameter, _ in model.named_parameters()]
    prefixes = settings.optimizer.lr_multipliers
    assert all(any(n.startswith(prefix) for n in names) for prefix in prefixes)


@pytest.mark.parametrize("preset", sorted(ENCODERS))
def test_an_encoder_without_a_decoder_says_that_it_cannot_be_trained(preset: str) -> None:
    of_family, found = all_presets()[preset]
    with torch.device("meta"):
        model = of_family.model_class(found.config)
        with pytest.raises(ConfigError, match="has no decoder"):
            model(torch.zeros(1, 3, 32, 32))
