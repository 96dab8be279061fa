"""PARSeq, a recogniser of words (arXiv 2207.06966), as docTR has it: TokBench's reader.

::

    word (3, 32, 128) --patches 4 x 8, ViT--> memory --one decoder layer--> characters
    left to right:    query P_i sees SOS and the characters before it
    refined once:     each query sees all characters but its own, up to the end of the word

The three layer norms of the encoder serve all its layers, and the norm of the queries serves both
attentions of the decoder. Keys of the state dict are docTR's.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import CheckpointError, ShapeError

# docTR's French vocabulary, in the order of the network's classes
VOCABULARY = (
    string.digits + string.ascii_letters + string.punctuation + "°£€¥¢฿àâéèêëîïôùûüçÀÂÉÈÊËÎÏÔÙÛÜÇ"
)
# in docTR's older files, never used
_UNUSED = ("decoder.attention_norm.", "decoder.cross_attention_norm.")
_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class PARSeqConfig:
    """Sizes; the defaults are those of docTR's published weights.

    Args:
        vocabulary: the characters, in the order of their classes.
        width: channels ``D``.
        encoder_layers: of the ViT.
        encoder_heads: of each.
        encoder_hidden: width of its feed-forward layers.
        decoder_heads: of the decoder's layer.
        decoder_hidden: width of its feed-forward layer.
        max_length: longest word.
        image_size: height and width of the input.
        patch_size: of its patches.
    """

    vocabulary: str = VOCABULARY
    width: int = 384
    encoder_layers: int = 12
    encoder_heads: int = 6
    encoder_hidden: int = 1536
    decoder_heads: int = 12
    decoder_hidden: int = 1536
    max_length: int = 32
    image_size: tuple[int, int] = (32, 128)
    patch_size: tuple[int, int] = (4, 8)


class _Attention(nn.Module):
    """Attention with projections of their own for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_layers = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.output_linear = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from ``(B, N, D)`` to ``(B, M, D)``; True in the mask is visible."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in zip(self.linear_layers, (queries, keys, keys), strict=True)
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        result: Tensor = self.output_linear(out.transpose(1, 2).flatten(2))
        return result


def _feed_forward(width: int, hidden: int) -> nn.Sequential:
    # the published keys count a dropout between the two layers
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width)
    )


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=_EPSILON)


class _Patches(nn.Module):
    def __init__(self, config: PARSeqConfig) -> None:
        super().__init__()
        (height, width), (rows, columns) = config.image_size, config.patch_size
        count = (height // rows) * (width // columns)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, count + 1, config.width))
        self.projection = nn.Conv2d(3, config.width, config.patch_size, config.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.projection(images).flatten(2).transpose(1, 2)
        token = self.cls_token.expand(len(images), -1, -1)
        return torch.cat([token, patches], dim=1) + self.positions


class _Encoder(nn.Module):
    def __init__(self, config: PARSeqConfig) -> None:
        super().__init__()
        width, layers = config.width, range(config.encoder_layers)
        self.layer_norm_input = _norm(width)
        self.layer_norm_attention = _norm(width)
        self.layer_norm_output = _norm(width)
        self.attention = nn.ModuleList(_Attention(width, config.encoder_heads) for _ in layers)
        self.position_feed_forward = nn.ModuleList(
            _feed_forward(width, config.encoder_hidden) for _ in layers
        )

    def forward(self, x: Tensor) -> Tensor:
        for attention, feed_forward in zip(self.attention, self.position_feed_forward, strict=True):
            normed = self.layer_norm_input(x)
            x = x + attention(normed, normed)
            x = x + feed_forward(self.layer_norm_attention(x))
        result: Tensor = self.layer_norm_output(x)
        return result


class _Decoder(nn.Module):
    def __init__(self, config: PARSeqConfig) -> None:
        super().__init__()
        width = config.width
        self.query_norm, self.content_norm = _norm(width), _norm(width)
        self.feed_forward_norm, self.output_norm = _norm(width), _norm(width)
        self.attention = _Attention(width, config.decoder_heads)
        self.cross_attention = _Attention(width, config.decoder_heads)
        self.position_feed_forward = _feed_forward(width, config.decoder_hidden)

    def forward(self, queries: Tensor, content: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        x = queries
        x = x + self.attention(self.query_norm(x), self.content_norm(content), mask)
        x = x + self.cross_attention(self.query_norm(x), memory)
        x = x + self.position_feed_forward(self.feed_forward_norm(x))
        result: Tensor = self.output_norm(x)
        return result


class _Embedding(nn.Module):
    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(count, width)
        self.scale = width**0.5

    def forward(self, indices: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(indices)
        return embedded.mul(self.scale)


class PARSeq(nn.Module):
    """See the module.

    Args:
        config: its sizes.
    """

    def __init__(self, config: PARSeqConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PARSeqConfig()
        classes = len(config.vocabulary)
        self.end, self.start = classes, classes + 1  # the class after that pads, in training
        self.pos_queries = nn.Parameter(torch.zeros(1, config.max_length + 1, config.width))
        self.feat_extractor = nn.Sequential(_Patches(config), _Encoder(config))
        self.decoder = _Decoder(config)
        self.head = nn.Linear(config.width, classes + 1)
        self.embed = _Embedding(classes + 3, config.width)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], config: PARSeqConfig | None = None) -> PARSeq:
        """Return a network with weights under docTR's keys.

        Raises:
            CheckpointError: if they are of another network.
        """
        used = {key: value for key, value in state.items() if not key.startswith(_UNUSED)}
        with torch.device("meta"):
            network = cls(config)
        try:
            network.load_state_dict(used, assign=True)
        except RuntimeError as error:
            raise CheckpointError(
                f"weights given that are not those of docTR's PARSeq: {error}"
            ) from error
        return network.float().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.pos_queries.device

    def forward(self, words: Tensor, *, max_length: int | None = None) -> Tensor:
        """Read words.

        Args:
            words: ``(B, 3, H, W)``, normalised.
            max_length: decode exactly so many characters and one more; None stops when every word
                has ended.

        Returns:
            Logits ``(B, T, V + 1)`` of the refined reading; the last class ends a word.

        Raises:
            ShapeError: if the words have another size.
        """
        if tuple(words.shape[1:]) != (3, *self.config.image_size):
            raise ShapeError(
                f"words {tuple(words.shape)} given; expected (B, 3, {self.config.image_size[0]}, "
                f"{self.config.image_size[1]})"
            )
        memory = self.feat_extractor(words)[:, 1:]
        longest = self.config.max_length
        steps = min(longest if max_length is None else max_length, longest) + 1
        read = self._left_to_right(memory, steps, stops=max_length is None)
        return self._refined(memory, read, steps)

    def texts(self, logits: Tensor) -> list[tuple[str, float]]:
        """Return each word and its confidence, the mean probability of its characters."""
        highest, best = logits.softmax(-1).max(-1)
        found = []
        for row, sure in zip(best.tolist(), highest.tolist(), strict=True):
            length = row.index(self.end) if self.end in row else len(row)
            text = "".join(self.config.vocabulary[i] for i in row[:length])
            found.append((text, sum(sure[:length]) / length if length else 0.0))
        return found

    def _left_to_right(self, memory: Tensor, steps: int, *, stops: bool) -> Tensor:
        """Return ``(B, T)``: the start, and all characters read but the last step's."""
        read = torch.full((len(memory), 1), self.start, device=memory.device)
        for step in range(steps - 1):
            visible = torch.ones(1, step + 1, dtype=torch.bool, device=memory.device)
            logits = self._decoded(memory, read, visible, slice(step, step + 1))
            following = torch.cat([read, logits.argmax(-1)], dim=1)
            if stops and bool((following == self.end).any(dim=1).all()):
                break
            read = following
        return read

    def _refined(self, memory: Tensor, read: Tensor, steps: int) -> Tensor:
        length = read.shape[1]
        seen = torch.ones(steps, length, dtype=torch.bool, device=memory.device)
        others = seen.tril() | seen.triu(2)
        is_before_end = (read == self.end).cumsum(dim=1) == 0
        mask = others & is_before_end[:, None, None, :]
        return self._decoded(memory, read, mask, slice(0, steps))

    def _decoded(self, memory: Tensor, read: Tensor, mask: Tensor, rows: slice) -> Tensor:
        content = self.embed(read)
        positions = self.pos_queries[:, : read.shape[1] - 1]
        content = torch.cat([content[:, :1], content[:, 1:] + positions], dim=1)
        queries = self.pos_queries[:, rows].expand(len(memory), -1, -1)
        logits: Tensor = self.head(self.decoder(queries, content, memory, mask))
        return logits


__all__ = ["VOCABULARY", "PARSeq", "PARSeqConfig"]
