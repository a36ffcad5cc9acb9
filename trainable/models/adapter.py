"""Networks of the diffusers library, called as ours are. Imported only when a spec names one."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

CONDITIONS = "encoder_hidden_states"  # as diffusers calls them


class DiffusersModel(nn.Module):
    """A class that is called as UNet2DModel is: net(x, timestep=t, class_labels=...).sample.

    One whose forward takes `encoder_hidden_states` is given the conditions there, [B, n, width].
    Sizes, channels and classes that the class takes and the spec does not give are filled in
    from the data.

    Args:
        kind: the class.
        shape: of one example, (C, H, W).
        labels: number of classes, 0 for none.
        width: numbers of a condition's last axis, 0 for data without conditions.
        time_scale: brings the given t to about 0...1000.
        knobs: arguments of the class.

    Raises:
        ValueError: it is no model, or not one for such data.
    """

    def __init__(
        self,
        kind: Any,
        shape: tuple[int, ...],
        *,
        labels: int,
        width: int,
        time_scale: float,
        knobs: dict[str, Any],
    ) -> None:
        super().__init__()
        name = f"diffusers:{getattr(kind, '__name__', kind)}"
        if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
            raise ValueError(f"{name} is no model")
        takes = inspect.signature(kind.__init__).parameters
        called = inspect.signature(kind.forward).parameters
        if labels and "num_class_embeds" not in takes:
            raise ValueError(f"{name} takes no classes, set labels: false")
        if width and CONDITIONS not in called:
            raise ValueError(f"{name} takes no conditions (it has no {CONDITIONS})")
        if not width and CONDITIONS in called and called[CONDITIONS].default is inspect._empty:
            raise ValueError(f"{name} needs conditions ({CONDITIONS}), the dataset gives none")
        known: dict[str, Any] = {"in_channels": shape[0], "out_channels": shape[0]}
        if len(shape) == 3:
            known["sample_size"] = shape[1:] if shape[1] != shape[2] else shape[1]
        if labels:
            known["num_class_embeds"] = labels
        self.net = kind(**{key: value for key, value in known.items() if key in takes} | knobs)
        self.time_scale, self.width = time_scale, width

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        told: dict[str, Tensor] = {}
        if labels is not None and self.width:
            parts = labels.shape[1:].numel() // self.width
            told[CONDITIONS] = labels.reshape(labels.shape[0], parts, self.width)
        elif labels is not None:
            told["class_labels"] = labels
        answer: Tensor = self.net(x, timestep=t * self.time_scale, **told).sample
        return answer
