"""A vision transformer of timm as the semantic branch of a tokenizer, and the way back.

::

    images in [-1, 1] --normalise, resize--> timm model --patches only--> features (B, h, w, D)
    codes (B, h, w, C) --linear, positions, blocks--> features (B, h, w, D)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.errors import ConfigError
from tessella.tokenizers.layers.resampling import Grid, interpolated


@dataclass(frozen=True, slots=True)
class TeacherConfig:
    """A vision transformer that names what a picture shows.

    Args:
        architecture: name of a timm model; empty for none, where features come from elsewhere.
        width: channels ``D`` of its features; for small models also of the network.
        depth: blocks; 0 for those of the architecture.
        dropped_blocks: last blocks that are left out, with the normalisation after them.
        patch: side of its patches in pixels.
        mean: subtracted from pictures in [0, 1]; empty to feed pictures in [-1, 1] as they are.
        std: what they are divided by then.
    """

    architecture: str = "vitamin_xlarge_256"
    width: int = 1152
    depth: int = 0
    dropped_blocks: int = 0
    patch: int = 16
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.mean) not in (0, 3) or len(self.std) != len(self.mean):
            raise ConfigError(f"mean={self.mean}, std={self.std} given; expected 3 numbers or none")
        if self.width < 1 or self.patch < 1 or min(self.depth, self.dropped_blocks) < 0:
            raise ConfigError(
                f"width={self.width}, patch={self.patch}, depth={self.depth}, dropped_blocks="
                f"{self.dropped_blocks} given; expected at least 1 the first two, 0 the others"
            )


class Teacher(nn.Module):
    """A timm model that returns patch features of pictures.

    Args:
        config: which model.
        image_size: side in pixels of the pictures that it was trained on.
    """

    def __init__(self, config: TeacherConfig, image_size: int) -> None:
        super().__init__()
        self.config = config
        self.image_size = image_size
        self.model = _timm_model(config, image_size)

    def forward(self, images: Tensor, grid: Grid) -> Tensor:
        """Map images ``(B, 3, H, W)`` in [-1, 1] to features ``(B, h, w, D)``."""
        height, width = grid[0] * self.config.patch, grid[1] * self.config.patch
        if tuple(images.shape[-2:]) == (self.image_size,) * 2:
            images = images[..., :height, :width]  # pixels that fill no patch are not seen
        else:
            images = interpolated(images, (height, width), "bicubic")
        features = self.model.forward_features(self.normalised(images))
        positions = grid[0] * grid[1]
        return cast(Tensor, features[:, -positions:].unflatten(1, grid))

    def normalised(self, images: Tensor) -> Tensor:
        """Return what the model sees of images in [-1, 1]."""
        return normalised_pixels(images, self.config.mean, self.config.std)


def normalised_pixels(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Bring images ``(B, 3, H, W)`` from [-1, 1] to [0, 1] and standardise channels.

    Args:
        images: floats; values beyond the range are clamped.
        mean: of the channels; empty to return the images as they are.
        std: of the channels.
    """
    if not mean:
        return images
    unit = ((images + 1) * 127.5).clamp(0, 255) / 255
    shift, scale = images.new_tensor(mean), images.new_tensor(std)
    return (unit - shift.view(3, 1, 1)) / scale.view(3, 1, 1)


def _timm_model(config: TeacherConfig, image_size: int) -> Any:
    import timm

    options: dict[str, Any] = {"num_classes": 0, "global_pool": "", "pretrained": False}
    if config.architecture.startswith("vit_"):
        options |= {"img_size": image_size, "dynamic_img_size": True}
        if config.depth:
            options |= {
                "depth": config.depth,
                "embed_dim": config.width,
                "patch_size": config.patch,
            }
    try:
        model: Any = timm.create_model(config.architecture, **options)
    except RuntimeError as error:
        raise ConfigError(f"architecture={config.architecture!r} given: {error}") from error
    if model.num_features != config.width:
        raise ConfigError(
            f"width={config.width} given; {config.architecture} has {model.num_features} channels"
        )
    if config.dropped_blocks:
        model.blocks = model.blocks[: -config.dropped_blocks]
        model.norm = nn.Identity()
    return model


class SemanticDecoder(nn.Module):
    """A small vision transformer from codes to features.

    Args:
        code_dim: width ``C`` of the codes.
        width: channels ``D``.
        depth: blocks.
        heads: of attention.
        side: of the grid that positions are learned for; they are interpolated for others.
        mlp_ratio: hidden width of a block's perceptron over ``D``.
    """

    def __init__(
        self,
        code_dim: int,
        width: int,
        *,
        depth: int,
        heads: int,
        side: int,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.proj = nn.Linear(code_dim, width)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + side**2, width))
        self.side = side
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio=mlp_ratio, qkv_bias=True, norm_layer=norm)
            for _ in range(depth)
        )
        self.norm = norm(width)

    def forward(self, codes: Tensor) -> Tensor:
        """Map ``(B, h, w, C)`` to ``(B, h, w, D)``."""
        grid = (codes.shape[1], codes.shape[2])
        x = torch.cat(
            [self.cls_token.expand(len(codes), -1, -1), self.proj(codes).flatten(1, 2)], 1
        )
        x = x + self._positions(grid)
        for block in self.blocks:
            x = block(x)
        return torch.unflatten(cast(Tensor, self.norm(x[:, 1:])), 1, grid)

    def _positions(self, grid: Grid) -> Tensor:
        first, patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if grid == (self.side, self.side):
            return self.pos_embed
        table = torch.unflatten(patches, 1, (self.side, self.side)).permute(0, 3, 1, 2).float()
        resized = F.interpolate(table, grid, mode="bicubic", align_corners=False)
        return torch.cat([first, resized.flatten(2).transpose(1, 2).to(first.dtype)], dim=1)


__all__ = ["SemanticDecoder", "Teacher", "TeacherConfig", "normalised_pixels"]
