"""The data shelf: what a trial can train on, and how it is split."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Tag

from trainable.shelf import OWN, Entry, Own, tag


class Digits(Entry):
    """scikit-learn's 1797 handwritten digits, 1 x 8 x 8, ten classes (UCI, Alpaydin & Kaynak)."""

    target: ClassVar[str] = "trainable.datasets:digits"
    type: Literal["digits"] = "digits"
    labels: bool = False  # condition the model on the class


DatasetConfig = Annotated[
    Annotated[Digits, Tag("digits")] | Annotated[Own, Tag(OWN)], Discriminator(tag)
]
