"""Selftok: a sequence of tokens ordered by the diffusion time that needs them (arXiv 2505.07538).

::

    image --autoencoder--> latents --patches--> image tokens --+
                                    learned queries ------------+--> K vectors --codebook--> indices
    noise, tokens 0..k(t) --flow transformer, t from 1 to 0--> latents --autoencoder--> image

A picture of any size becomes ``K`` indices, a sequence and not a map. A decoder at time t may read
the tokens 0..k(t) only: the first ones are needed until the end, the last ones near pure noise.
Leading tokens alone decode; what is missing is simply not read.

Encoding needs the autoencoder (Stable Diffusion 3's for the published weights, joined with
:meth:`Selftok.with_autoencoder`) and decoding a flow transformer as well. Published checkpoints
convert to the encoder and its codebook. The flow transformer here is this library's, to be trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from tessella.tokenizers.base import Tokenizer, TokenizerOutput
from tessella.tokenizers.layers.dual_stream import (
    EPS,
    DualStreamBlock,
    sinusoids_2d,
    time_sinusoids,
)
from tessella.tokenizers.layers.flow_decoder import FlowDecoder, shifted_times
from tessella.tokenizers.quantizers import EMAVQ, EMAConfig, Quantized
from tessella.tokenizers.registry import Preset, register
from tessella.tokenizers.time_stages import TIMES, check_stages, last_visible
from tessella.tokens import LevelLayout, TokenLayout, Tokens

_FIRST_TIME, _TIME_STEP = 1000, 8  # the time that the encoder tells query k: 1000 + 8 k


@dataclass(frozen=True, slots=True)
class SelftokConfig:
    """Sizes of a Selftok tokenizer.

    Args:
        tokens_per_stage: number of tokens that each stage of diffusion time adds, cleanest first.
        stages: end of each stage in thousandths of diffusion time.
        latent_channels: channels of the autoencoder's latents.
        patch: side of a patch of latents.
        width: channels of the image tokens.
        heads: their attention heads.
        query_width: channels of the queries.
        query_heads: their attention heads.
        depth: blocks of the encoder.
        position_side: largest number of patches along a side.
        code_dim: width of the codes.
        codebook_size: alphabet of a token.
        embedding_width: width of a token in front of the decoder.
        autoencoder: between pictures and latents; None for none.
        decoder_width: channels of the flow transformer.
        decoder_depth: its blocks; 0 for none.
        decoder_head_dim: channels of one of its attention heads.
        sampling_steps: of decoding.
        time_shift: how far sampling times lie towards noise; 1 for even steps.
        condition_dropout: probability that a training picture's tokens are all hidden.
        kmeans_iterations: that start the codebook from the first training batch.
        dead_code_threshold: see :class:`~tessella.tokenizers.quantizers.EMAConfig`.
    """

    tokens_per_stage: tuple[int, ...] = (192, 184, 72, 48, 16)
    stages: tuple[int, ...] = (200, 400, 600, 800, 1000)
    latent_channels: int = 16
    patch: int = 2
    width: int = 64
    heads: int = 4
    query_width: int = 512
    query_heads: int = 8
    depth: int = 16
    position_side: int = 64
    code_dim: int = 16
    codebook_size: int = 32768
    embedding_width: int = 16
    autoencoder: AutoencoderKLConfig | None = None
    decoder_width: int = 1536
    decoder_depth: int = 0
    decoder_head_dim: int = 64
    sampling_steps: int = 50
    time_shift: float = 1.0
    condition_dropout: float = 0.1
    kmeans_iterations: int = 10
    dead_code_threshold: float = 0.2

    def __post_init__(self) -> None:
        check_stages(self.stages, self.tokens_per_stage)
        if self.width % (4 * self.heads) or self.query_width % self.query_heads:
            raise ConfigError(
                f"width={self.width}, heads={self.heads}, query_width={self.query_width}, "
                f"query_heads={self.query_heads} given; expected multiples of the heads, and the "
                "first of four times"
            )
        if self.autoencoder and self.autoencoder.latent_channels != self.latent_channels:
            raise ConfigError(
                f"latent_channels={self.latent_channels} given; the autoencoder has "
                f"{self.autoencoder.latent_channels}"
            )
        if self.decoder_depth and (not self.autoencoder or self.decoder_width % 2):
            raise ConfigError(
                "decoder_depth given without an autoencoder, or an odd decoder_width; expected "
                "both parts of a decoder"
            )

    @property
    def tokens(self) -> int:
        """Number ``K`` of tokens of a picture."""
        return sum(self.tokens_per_stage)


class _Codebook(EMAVQ):
    """A codebook that stays float32 when the model is cast: it is what tokens mean."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Codebook:
        def moved(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            return tensor.to(new.device) if new.dtype != tensor.dtype else new

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


_SOURCE = "https://huggingface.co/selftok-team/SelftokTokenizer"
_SD3 = AutoencoderKLConfig(
    latent_channels=16, has_quant_conv=False, has_post_quant_conv=False, scale=1.5305, shift=0.0609
)


@register(
    "selftok",
    config=SelftokConfig,
    presets=(
        Preset(
            "selftok-512-encoder",
            SelftokConfig(),
            "MIT",
            "2505.07538",
            _SOURCE,
            "without autoencoder and decoder, as converted checkpoints are",
        ),
        Preset(
            "selftok-512",
            SelftokConfig(autoencoder=_SD3, decoder_depth=24),
            "MIT",
            "2505.07538",
            note="whole, to be trained; the autoencoder is Stable Diffusion 3's",
        ),
        Preset(
            "selftok-tiny",
            SelftokConfig(
                tokens_per_stage=(5, 3),
                stages=(500, 1000),
                latent_channels=4,
                patch=2,
                width=16,
                heads=2,
                query_width=16,
                query_heads=2,
                depth=2,
                position_side=128,
                code_dim=4,
                codebook_size=16,
                embedding_width=4,
                autoencoder=AutoencoderKLConfig(widths=(8, 8, 16), blocks=1, norm_groups=4),
                decoder_width=16,
                decoder_depth=2,
                decoder_head_dim=8,
                sampling_steps=3,
                kmeans_iterations=0,
                dead_code_threshold=0.0,
            ),
            note="for tests",
        ),
    ),
)
class Selftok(Tokenizer):
    """Queries that describe a picture in the order in which diffusion needs them.

    Example:
        >>> model = Selftok(SelftokConfig(depth=1, query_width=64))
        >>> model.layout(256, 256).levels[0].grid, model.layout(256, 256).bits
        ((512,), 7680.0)
    """

    config: SelftokConfig

    def __init__(self, config: SelftokConfig) -> None:
        super().__init__(config)
        c = config
        self.x_embedder = nn.Conv2d(c.latent_channels, c.width, c.patch, stride=c.patch)
        self.query_tokens = nn.Parameter(0.02 * torch.randn(1, c.tokens, c.query_width))
        self.blocks = nn.ModuleList(
            DualStreamBlock(
                c.width,
                c.heads,
                query_width=c.query_width,
                query_heads=c.query_heads,
                is_last=i == c.depth - 1,
            )
            for i in range(c.depth)
        )
        self.project_in = nn.Linear(c.query_width, c.code_dim)
        ema = EMAConfig(
            kmeans_iterations=c.kmeans_iterations, dead_code_threshold=c.dead_code_threshold
        )
        self.quantizer = _Codebook(
            c.code_dim, c.codebook_size, cosine=True, commitment_weight=1.0, ema=ema
        )
        self.project_out = nn.Linear(c.code_dim, c.embedding_width)
        self.norm_out = nn.LayerNorm(c.embedding_width, eps=EPS)
        self.autoencoder = AutoencoderKL(c.autoencoder) if c.autoencoder else None
        self.decoder: FlowDecoder | None = None
        if c.decoder_depth:
            self.decoder = FlowDecoder(
                channels=c.latent_channels,
                patch=c.patch,
                token_width=c.embedding_width,
                width=c.decoder_width,
                depth=c.decoder_depth,
                head_dim=c.decoder_head_dim,
                side=c.position_side,
            )

    @property
    def stride(self) -> int:
        """Pixels of a patch of latents; 8 pixels a latent where there is no autoencoder."""
        return self.config.patch * (self.autoencoder.stride if self.autoencoder else 8)

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the layout: one sequence, most important first.

        Raises:
            ShapeError: if the picture is larger than the table of positions.
        """
        most = self.stride * self.config.position_side
        if max(height, width) > most:
            raise ShapeError(f"a picture of {height} x {width} given; expected at most {most}")
        level = LevelLayout((self.config.tokens,), self.quantizer.vocab_sizes, ordered="length")
        return TokenLayout((level,), (height, width), self.space_id)

    def space_tensors(self) -> dict[str, Tensor]:
        """The codebook: what an index stands for."""
        return {"codebook": self.quantizer.codebook}

    def with_autoencoder(self, autoencoder: AutoencoderKL) -> Selftok:
        """Return the same tokenizer, with weights shared, behind another autoencoder."""
        with torch.device("meta"):
            model = Selftok(replace(self.config, autoencoder=autoencoder.config))
        state = {k: v for k, v in self.state_dict().items() if not k.startswith("autoencoder.")}
        state |= {f"autoencoder.{k}": v for k, v in autoencoder.state_dict().items()}
        model.load_state_dict(state, strict=True, assign=True)
        return model.train(self.training)

    # ---- encoder ---------------------------------------------------------------------------

    def images_to_latents(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to standardised latents ``(B, C, h, w)``.

        Raises:
            ConfigError: if there is no autoencoder.
        """
        if self.autoencoder is None:
            raise ConfigError(
                "this model has no autoencoder, which published Selftok checkpoints do not hold; "
                "join one with with_autoencoder(), or encode its latents with encode_latents()"
            )
        latents = self.autoencoder.standardised(self.autoencoder.images_to_latents(images))
        return latents.permute(0, 3, 1, 2).to(self.dtype)

    def encode_latents(self, latents: Tensor) -> Tokens:
        """Turn an autoencoder's standardised latents ``(B, C, h, w)`` into tokens."""
        patch, step = self.config.patch, self.stride // self.config.patch
        height, width = latents.shape[-2:]
        if latents.ndim != 4 or latents.shape[1] != self.config.latent_channels:
            raise ShapeError(
                f"latents {tuple(latents.shape)} given; expected (B, "
                f"{self.config.latent_channels}, h, w)"
            )
        if height % patch or width % patch:
            raise ShapeError(f"latents of {height} x {width} given; expected multiples of {patch}")
        layout = self.layout(height * step, width * step)
        with self._inference():
            found = self._quantized(latents.to(self.device, self.dtype), None)
        return Tokens((found.indices,), layout)

    def patch_tokens(self, latents: Tensor) -> Tensor:
        """Map latents ``(B, C, h, w)`` to image tokens with their positions, ``(B, N, D)``."""
        x = self.x_embedder(latents)
        positions = sinusoids_2d(
            (x.shape[2], x.shape[3]), x.shape[1], self.config.position_side, x.device
        )
        return cast(Tensor, x.flatten(2).transpose(1, 2) + positions.to(x.dtype))

    def latents_to_queries(self, latents: Tensor) -> Tensor:
        """Map latents ``(B, C, h, w)`` to what the queries read, ``(B, K, Q)``."""
        x = self.patch_tokens(latents)
        queries = self.query_tokens.expand(len(x), -1, -1)
        places = torch.arange(self.config.tokens, device=x.device)
        times = time_sinusoids(_FIRST_TIME + _TIME_STEP * places).to(x.dtype)
        for block in self.blocks:
            x, queries = block(x, queries, times)
        return queries

    def embeddings(self, codes: Tensor) -> Tensor:
        """Map codes ``(B, K, d)`` to what a decoder reads, ``(B, K, E)``."""
        return cast(Tensor, self.norm_out(self.project_out(codes.to(self.dtype))))

    def _quantized(self, latents: Tensor, generator: torch.Generator | None) -> Quantized:
        vectors = self.project_in(self.latents_to_queries(latents))
        return cast(Quantized, self.quantizer(vectors, generator=generator))

    # ---- decoder ---------------------------------------------------------------------------

    def forward(
        self, images: Tensor, *, generator: torch.Generator | None = None
    ) -> TokenizerOutput:
        """Estimate a batch from a random diffusion time, with the flow's and codebook's losses."""
        decoder = self._whole_decoder()
        latents = self.images_to_latents(images)
        found = self._quantized(latents, generator)
        tokens = Tokens((found.indices,), self.layout(*images.shape[-2:]))
        clean = latents.float()
        device = generator.device if generator is not None else clean.device
        t = torch.rand(len(clean), generator=generator, device=device).to(clean.device)
        dropped = torch.rand(len(clean), generator=generator, device=device).to(clean.device)
        noise = torch.randn(clean.shape, generator=generator, device=device).to(clean.device)
        t = shifted_times(t, self.config.time_shift)
        visible = self._visible(t, found.indices.shape[1])
        if self.training:
            visible = visible & (dropped >= self.config.condition_dropout)[:, None]
        where = t.view(-1, 1, 1, 1)
        noisy = torch.lerp(clean, noise, where)
        embedded = self.embeddings(found.z_q)
        velocity = decoder(noisy.to(self.dtype), t, embedded, visible).float()
        losses = dict(found.losses)
        if self.training:
            losses["flow"] = F.mse_loss(velocity, noise - clean.detach())
        return TokenizerOutput(self._images(noisy - where * velocity), tokens, losses, found.stats)

    def _whole_decoder(self) -> FlowDecoder:
        if self.decoder is None or self.autoencoder is None:
            raise ConfigError(
                "this Selftok has no decoder: published checkpoints convert to the encoder alone, "
                "as their diffusion transformer is of Stable Diffusion 3's size and not read; it "
                "encodes, and a model with decoder_depth above 0 can be trained"
            )
        return self.decoder

    def _visible(self, t: Tensor, count: int) -> Tensor:
        """Return which of ``count`` tokens count at times ``(B,)`` from 0 to 1, ``(B, count)``."""
        last = last_visible(t * TIMES, self.config.stages, self.config.tokens_per_stage)
        return torch.arange(count, device=t.device) <= last[:, None]

    def _images(self, latents: Tensor) -> Tensor:
        autoencoder = cast(AutoencoderKL, self.autoencoder)
        values = autoencoder.unstandardised(latents.permute(0, 2, 3, 1))
        return autoencoder.latents_to_images(values)

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self._quantized(self.images_to_latents(images), None).indices,)

    def _decode(self, tokens: Tokens, generator: torch.Generator | None) -> Tensor:
        decoder = self._whole_decoder()
        indices = tokens.levels[0]
        embedded = self.embeddings(self.quantizer.indices_to_codes(indices))
        height, width = tokens.layout.image_size
        patch, steps = self.config.patch, self.config.sampling_steps
        grid = (patch * -(-height // self.stride), patch * -(-width // self.stride))
        # the same picture at every call, unless noise is asked for
        source = generator or torch.Generator().manual_seed(0)
        shape = (len(indices), self.config.latent_channels, *grid)
        x = torch.randn(shape, generator=source, device=source.device).to(self.device)
        even = torch.linspace(1, 0, steps + 1, device=self.device)
        times = shifted_times(even, self.config.time_shift)
        for now, following in pairwise(times.unbind()):
            t = now.expand(len(x))
            visible = self._visible(t, indices.shape[1])
            velocity = decoder(x.to(self.dtype), t, embedded, visible)
            x = x + (following - now) * velocity.float()
        return self._images(x)


__all__ = ["Selftok", "SelftokConfig"]
