"""A transformer that moves noise to latents, told by tokens: rectified flow (arXiv 2209.03003).

::

    x_t = (1 - t) x_0 + t noise,    v = noise - x_0,    loss = mse(v(x_t, t, tokens), v)
    sampling: x <- x + (t' - t) v(x, t, tokens), from t = 1 down to 0

The network is Stable Diffusion 3's (arXiv 2403.03206), diffusers' module, with tokens in the place
of text. Tokens that do not count at a time are hidden from attention.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.tokenizers.layers.dual_stream import sinusoids_1d

_TIMES = 1000  # the network is told t in thousandths


class _TokenEmbedder(nn.Module):
    """Linear map of tokens with sinusoids of their places."""

    def __init__(self, token_width: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(token_width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(B, K, E)`` to ``(B, K, D)``."""
        x: Tensor = self.proj(tokens)
        return x + sinusoids_1d(x.shape[1], x.shape[2], x.device).to(x.dtype)


class _MaskedJointAttention:
    """Attention over image and tokens, of which only the visible ones are read."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend; the names of arguments are diffusers'.

        Args:
            attn: the module with the projections.
            hidden_states: image ``(B, N, D)``.
            encoder_hidden_states: tokens ``(B, K, D)``.
            attention_mask: not used.
            visible: ``(B, K)`` booleans.
        """
        image, tokens = hidden_states, encoder_hidden_states

        def heads(x: Tensor) -> Tensor:
            return torch.unflatten(x, -1, (attn.heads, -1)).transpose(1, 2)

        keys = torch.cat([heads(attn.to_k(image)), heads(attn.add_k_proj(tokens))], dim=2)
        values = torch.cat([heads(attn.to_v(image)), heads(attn.add_v_proj(tokens))], dim=2)
        queries = heads(attn.to_q(image))
        if attn.add_q_proj is not None:
            queries = torch.cat([queries, heads(attn.add_q_proj(tokens))], dim=2)
        mask = None
        if visible is not None:
            mask = F.pad(visible, (image.shape[1], 0), value=True)[:, None, None]
        out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        out = out.transpose(1, 2).flatten(2)
        of_image, of_tokens = out[:, : image.shape[1]], out[:, image.shape[1] :]
        if attn.add_q_proj is not None:
            of_tokens = attn.to_add_out(of_tokens)
        return attn.to_out[0](of_image), of_tokens


class FlowDecoder(nn.Module):
    """Velocity of noisy latents given tokens.

    Args:
        channels: of the latents.
        patch: side of a patch of latents.
        token_width: width ``E`` of the tokens.
        width: channels of the network.
        depth: its blocks.
        head_dim: channels of an attention head.
        side: of the table of positions, in patches: the largest grid.
    """

    def __init__(
        self,
        *,
        channels: int,
        patch: int,
        token_width: int,
        width: int,
        depth: int,
        head_dim: int,
        side: int,
    ) -> None:
        super().__init__()
        from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

        self.transformer = SD3Transformer2DModel(
            sample_size=side * patch,
            patch_size=patch,
            in_channels=channels,
            out_channels=channels,
            num_layers=depth,
            attention_head_dim=head_dim,
            num_attention_heads=width // head_dim,
            joint_attention_dim=token_width,
            caption_projection_dim=width,
            pooled_projection_dim=token_width,
            pos_embed_max_size=side,
        )
        self.transformer.context_embedder = _TokenEmbedder(token_width, width)
        for block in self.transformer.transformer_blocks:
            block.attn.set_processor(_MaskedJointAttention())
        # nothing reads what the last block would make of the tokens
        self.transformer.transformer_blocks[-1].attn.add_q_proj = None

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor, visible: Tensor) -> Tensor:
        """Return the velocity ``(B, C, h, w)``.

        Args:
            x: noisy latents ``(B, C, h, w)``.
            t: times ``(B,)`` from 0 (clean) to 1 (noise).
            tokens: ``(B, K, E)``.
            visible: ``(B, K)`` booleans, which tokens count.
        """
        weights = visible.to(tokens.dtype).unsqueeze(-1)
        pooled = (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)
        (velocity,) = self.transformer(
            x,
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            timestep=t * _TIMES,
            joint_attention_kwargs={"visible": visible},
            return_dict=False,
        )
        return cast(Tensor, velocity)


def shifted_times(t: Tensor, shift: float) -> Tensor:
    """Move times from 0 to 1 towards noise, ``s t / (1 + (s - 1) t)``; 1 leaves them."""
    return shift * t / (1 + (shift - 1) * t)


__all__ = ["FlowDecoder", "shifted_times"]
