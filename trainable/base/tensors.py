"""Examples as tensors: shared with the arrays they come from, and scaled batch by batch."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor


def view(x: np.ndarray) -> Tensor:
    """The array as a tensor that shares its memory. It must not be written to.

    Arrays in Ray's object store are read-only and shared by all trials of a machine.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(x)


def scaled(x: Tensor) -> Tensor:
    """Examples as floats: bytes of images, 0...255, become [-1, 1]; floats stay as they are."""
    return x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x


def place_of(tensor: Tensor) -> tuple[object, ...]:
    """Where in memory a tensor is: the same for weights that are tied."""
    return tensor.data_ptr() or id(tensor), tensor.shape, tensor.stride()
