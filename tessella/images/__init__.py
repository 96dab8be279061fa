"""Pictures in and out: files and PIL images to tensors and pixels, padding, tile geometry."""

from tessella.images.reading import (
    DEFAULT_MAX_PIXELS,
    WHITE,
    Picture,
    Pixels,
    decode_rgb,
    open_image,
)
from tessella.images.tensors import from_pixels, load_image, pad_to_multiple, to_pixels
from tessella.images.tiles import Box, Tile, tiles
from tessella.images.writing import (
    PICTURE_SUFFIXES,
    atomic_file,
    format_of,
    save_image,
    write_image,
)

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "WHITE",
    "Box",
    "Picture",
    "Pixels",
    "Tile",
    "atomic_file",
    "decode_rgb",
    "format_of",
    "from_pixels",
    "load_image",
    "open_image",
    "pad_to_multiple",
    "save_image",
    "tiles",
    "to_pixels",
    "write_image",
]
