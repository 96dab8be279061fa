"""Agreement with recordings of kvpress' scores and choices."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from recordings import Recording, assert_close, load_config, load_parts
from torch import Tensor

from tessella.generation.kv_cache.h2o import observed_attention_scores
from tessella.generation.kv_cache.key_norm import KeyNorm
from tessella.generation.kv_cache.policy import best
from tessella.generation.kv_cache.pyramidkv import pyramid_budget
from tessella.generation.kv_cache.snapkv import snapkv_scores
from tessella.generation.kv_cache.streaming import sinks_and_window
from tessella.generation.kv_cache.windows import last_window

pytestmark = pytest.mark.parity
TOLERANCE = 1e-6


class Case(NamedTuple):
    config: dict[str, Any]
    io: Recording

    def kept(self, layer: int, press: str) -> int:
        """How many tokens stay by our own arithmetic."""
        config, options = self.config, self.config["presses"][press][1]
        mean = config["tokens"] * (1 - config["compression_ratio"])
        if "beta" not in options:
            return int(mean)
        return pyramid_budget(
            layer, config["layers"], mean=mean, total=config["tokens"],
            window=options["window_size"], beta=options["beta"],
        )  # fmt: skip

    def scores(self, press: str) -> Tensor:
        """Scores ``(R, H, T)`` by our functions."""
        kind, options = self.config["presses"][press]
        total, attention = self.config["tokens"], self.io["input.attentions"]
        if kind in ("SnapKVPress", "PyramidKVPress"):
            window = last_window(total, total, options["window_size"])
            observed = attention[:, :, window].mean(dim=2)
            return snapkv_scores(observed, window, options["kernel_size"])
        if kind == "ObservedAttentionPress":
            return observed_attention_scores(attention, torch.arange(total, 0, -1))
        keys, values = self.io["input.keys"], self.io["input.values"]
        if kind == "KnormPress":
            return KeyNorm(1.0).as_scorer()(keys, values, keys[:, :, -1:])
        assert kind == "StreamingLLMPress"
        tokens = int(total * (1 - self.config["compression_ratio"]))
        scores = torch.zeros(total)
        scores[sinks_and_window(total, options["n_sink"], tokens)] = 1
        return scores.expand(keys.shape[:3])


@pytest.fixture
def case(parity_dir: Path) -> Case:
    folder = parity_dir / "kv_baselines"
    config = load_config(folder)
    return Case(config, load_parts(folder, "io*.safetensors"))


def test_scores_and_kept_tokens(case: Case) -> None:
    for name, recorded in case.config["results"].items():
        press, layer = name.rsplit(".layer", 1)
        scores = case.scores(press)
        assert_close(scores, case.io[f"{name}.scores"], TOLERANCE)
        tokens = case.kept(int(layer), press)
        assert tokens == recorded["n_kept"]
        if not recorded["cutoff_tied"]:
            assert torch.equal(best(scores, tokens).int(), case.io[f"{name}.kept_sorted"])
