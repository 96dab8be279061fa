"""Colour of decoded pictures: every mode becomes 8-bit sRGB without transparency."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageCms

from tessella.errors import PictureError

Colour = tuple[int, int, int]

_DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_PROFILE_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}


def to_srgb(image: Image.Image, *, name: str, background: Colour) -> Image.Image:
    """Convert a loaded image of any mode to RGB, compositing transparency on ``background``.

    Raises:
        PictureError: if the values of a deep image have no known range.
    """
    if image.mode == "RGB" and not {"transparency", "icc_profile"} & image.info.keys():
        return image
    profile = image.info.get("icc_profile")
    colours, alpha = _split_alpha(image, name)
    colours = _convert(colours, profile, name)
    if alpha is None:
        return colours
    ground = Image.new("RGB", colours.size, background)
    ground.paste(colours, mask=alpha)
    return ground


def _split_alpha(image: Image.Image, name: str) -> tuple[Image.Image, Image.Image | None]:
    """Return the colours in a mode without alpha, and the alpha channel if there is one."""
    if image.mode in _DEEP_GREY:
        return _eight_bits(image, name)
    if image.mode == "F":
        return _from_floats(image, name), None
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode[0] + "A" if image.mode == "La" else "RGBA")
    if image.mode == "LA":
        return image.getchannel(0), image.getchannel(1)
    if image.mode == "PA" or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode in ("RGBA", "RGBX"):
        alpha = image.getchannel(3) if image.mode == "RGBA" else None
        return image.convert("RGB"), alpha
    return image, None


def _eight_bits(image: Image.Image, name: str) -> tuple[Image.Image, Image.Image | None]:
    """Scale 16-bit grey: 0..65535 to 0..255, rounded; 32-bit images must hold that range too."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise PictureError(
            f"{name} holds 32-bit values from {low} to {high}; expected 0 to 65535: "
            "scale it to 16 bits first"
        )
    key = image.info.get("transparency")
    alpha = None
    if isinstance(key, int):
        alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    scaled = (values.astype(np.uint32) + 128) // 257
    return Image.fromarray(scaled.astype(np.uint8)), alpha


def _from_floats(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise PictureError(
            f"{name} holds floats from {low:g} to {high:g}; expected 0 to 1: scale it first"
        )
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _convert(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    """Convert to sRGB by the embedded profile, or by Pillow's rules without one."""
    if not profile or image.mode not in _PROFILE_SPACES:
        return image if image.mode == "RGB" else image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        described = (source.profile.profile_description or "").strip()
        if image.mode == "L" and space == "RGB":
            image = image.convert("RGB")
        if space != _PROFILE_SPACES[image.mode]:
            raise ImageCms.PyCMSError(f"it is for {space}, the picture is {image.mode}")
        if image.mode == "RGB" and described.startswith("sRGB"):
            return image
        return _to_srgb_profile(image, source)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        warnings.warn(
            f"{name}: the embedded colour profile cannot be used ({error}); taken as sRGB",
            stacklevel=4,
        )
        return image if image.mode == "RGB" else image.convert("RGB")


def _to_srgb_profile(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    target = ImageCms.createProfile("sRGB")
    # precalculated grids of grey profiles are too coarse near black
    flags = ImageCms.Flags.NOOPTIMIZE if image.mode == "L" else ImageCms.Flags.NONE
    transform = ImageCms.buildTransform(source, target, image.mode, "RGB", flags=flags)
    converted = Image.new("RGB", image.size)
    transform.apply(image, converted)
    return converted


__all__ = ["Colour", "to_srgb"]
