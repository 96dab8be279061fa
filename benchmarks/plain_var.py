"""A plain VAR sampler to measure against: the published algorithm, written the usual way.

Keys and values are appended by concatenation, guidance doubles the batch, attention is a product, a
softmax and a product, AdaLN is computed at every scale, and sampling sorts the whole vocabulary.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.generation.var import VARGenerator
from tessella.tokenizers.next_scale import NextScaleTokenizer


@dataclass
class PlainRun:
    """What a run of the plain sampler gives."""

    levels: list[Tensor] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    kv_bytes: list[int] = field(default_factory=list)  # most during each scale

    @property
    def kv_peak(self) -> int:
        """Most bytes of keys and values at any time."""
        return max(self.kv_bytes)


class PlainVAR:
    """The transformer's weights, used without any of the library's shortcuts."""

    def __init__(self, model: VARGenerator, tokenizer: NextScaleTokenizer) -> None:
        self.w = model.state_dict()
        self.config = model.config
        self.tokenizer = tokenizer
        self.grids = model.grids

    @torch.inference_mode()
    def generate(
        self, labels: Tensor, *, cfg: float, top_k: int, top_p: float, noise: torch.Generator
    ) -> PlainRun:
        """Write a picture a label, scale by scale."""
        w, config, batch = self.w, self.config, len(labels)
        both = torch.cat([labels, torch.full_like(labels, config.classes)])
        condition = w["class_embedding.weight"][both]
        sizes = [height * width for height, width in self.grids]
        scale_of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        places = w["scale_embedding.weight"][scale_of] + w["position_embedding"]
        x = condition[:, None] + w["start_embedding"] + places[:, : sizes[0]]
        self.cache: list[list[Tensor]] = [[] for _ in range(config.depth)]
        run, done = PlainRun(), 0
        total = self.tokenizer.empty_total(batch, self.grids)
        for k, grid in enumerate(self.grids):
            began = time.perf_counter()
            self.most = 0
            for i in range(config.depth):
                x = self.block(i, x, condition)
            scale, shift = self.ada("head.modulation", condition, 2)
            hidden = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
            logits = F.linear(hidden, w["head.out.weight"], w["head.out.bias"])
            t = cfg * k / (len(sizes) - 1)
            logits = (1 + t) * logits[:batch] - t * logits[batch:]
            indices = sample(logits, top_k, top_p, noise)
            run.levels.append(indices.view(batch, *grid, 1))
            total, following = self.tokenizer.next_scale(total, run.levels[-1], k, self.grids)
            done += sizes[k]
            if k + 1 < len(sizes):
                words = F.linear(
                    following.flatten(1, 2), w["word_embedding.weight"], w["word_embedding.bias"]
                )
                x = (words + places[:, done : done + sizes[k + 1]]).repeat(2, 1, 1)
            run.seconds.append(time.perf_counter() - began)
            run.kv_bytes.append(self.most)
        return run

    def ada(self, name: str, condition: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Compute a modulation, anew at every scale."""
        w = self.w
        out = F.linear(F.silu(condition), w[f"{name}.weight"], w[f"{name}.bias"])
        return out[:, None].chunk(parts, dim=-1)

    def block(self, i: int, x: Tensor, condition: Tensor) -> Tensor:
        """Run attention and perceptron."""
        w, name = self.w, f"blocks.{i}"
        g1, g2, s1, s2, b1, b2 = self.ada(f"{name}.modulation", condition, 6)
        y = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + s1) + b1
        x = x + g1 * self.attention(i, y)
        y = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + s2) + b2
        y = F.linear(y, w[f"{name}.perceptron.fc1.weight"], w[f"{name}.perceptron.fc1.bias"])
        y = F.gelu(y, approximate="tanh")
        y = F.linear(y, w[f"{name}.perceptron.fc2.weight"], w[f"{name}.perceptron.fc2.bias"])
        return x + g2 * y

    def attention(self, i: int, x: Tensor) -> Tensor:
        """Attend to all tokens so far."""
        w, name, heads = self.w, f"blocks.{i}.attention", self.config.heads
        q_bias, v_bias = w[f"{name}.q_bias"], w[f"{name}.v_bias"]
        bias = torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])
        qkv = F.linear(x, w[f"{name}.qkv.weight"], bias)
        rows, tokens, _ = x.shape
        q, k, v = qkv.view(rows, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        temperature = w[f"{name}.log_temperature"].clamp(max=math.log(100)).exp().view(-1, 1, 1)
        q, k = F.normalize(q, dim=-1) * temperature, F.normalize(k, dim=-1)
        if self.cache[i]:
            k, v = torch.cat([self.cache[i][0], k], dim=2), torch.cat([self.cache[i][1], v], dim=2)
        # what there is while old and new stand side by side
        held = sum(t.untyped_storage().nbytes() for pair in self.cache for t in pair)
        self.most = max(self.most, held + k.nbytes + v.nbytes)
        self.cache[i] = [k.contiguous(), v.contiguous()]
        out = (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        out = out.transpose(1, 2).reshape(rows, tokens, -1)
        return F.linear(out, w[f"{name}.proj.weight"], w[f"{name}.proj.bias"])


def sample(logits: Tensor, top_k: int, top_p: float, noise: torch.Generator) -> Tensor:
    """Top-k, then top-p over the sorted vocabulary, then one draw."""
    batch, tokens, size = logits.shape
    if top_k:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p:
        ascending, order = logits.sort(dim=-1)
        unlikely = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        unlikely[..., -1] = False
        logits = logits.masked_fill(unlikely.scatter(-1, order, unlikely), -torch.inf)
    chances = logits.softmax(dim=-1).view(-1, size)
    drawn = torch.multinomial(chances, 1, replacement=True, generator=noise)
    return drawn.view(batch, tokens)
