"""Pictures for training and measuring: folders, glob patterns and tar shards."""

from tessella.data.crops import CropDataset, CropSettings, StepSampler, make_loader
from tessella.data.pictures import PictureSet

__all__ = ["CropDataset", "CropSettings", "PictureSet", "StepSampler", "make_loader"]
