"""Where an image's channels are: first or last, as its shape tells, or as it was said."""

from __future__ import annotations

import numpy as np

from trainable.data.shelf import Layout

USUAL = (1, 2, 3, 4)  # channels: grey, grey and opacity, colour, colour and opacity


def channels_last(
    dtype: np.dtype, shape: tuple[int, ...], given: Layout | None, name: str
) -> tuple[bool, str | None]:
    """Whether the last axis of an example of this shape are its channels, and what to say of it.

    Bytes are images, of which a usual number of channels and equal sides tell the order; floats
    have their channels first.

    Raises:
        ValueError: the shape does not tell, or tells of floats that they are the other way round.
    """
    if len(shape) != 3:
        if given is not None:
            raise ValueError(
                f"dataset {name}: layout is for images of three axes, got shape {shape}"
            )
        return False, None
    if given is not None:
        return given == "channels_last", None
    first = 2 * (shape[0] in USUAL) + (shape[1] == shape[2])
    last = 2 * (shape[2] in USUAL) + (shape[0] == shape[1])
    images = dtype == np.uint8
    if (images and first == last) or (not images and last >= first + 2):
        raise ValueError(
            f"dataset {name}: examples of shape {shape} are either {_said(shape, False)}, or "
            f"{_said(shape, True)}; set layout: channels_first or channels_last in dataset"
        )
    if images and first > last:
        note = f"images of shape {shape} are taken as {_said(shape, False)}"
        return False, f"{note}; if they are not, set layout: channels_last in dataset"
    return images, None


def _said(shape: tuple[int, ...], last: bool) -> str:
    channels, height, width = (shape[2], *shape[:2]) if last else shape
    return f"{channels} channel{'s' * (channels != 1)} of {height} x {width}"
