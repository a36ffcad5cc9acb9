"""Networks of the diffusers library, called as ours are. Imported only when a spec names one."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn


class DiffusersModel(nn.Module):
    """A class that is called as UNet2DModel is: net(x, t, class_labels=...).sample.

    Sizes, channels and classes that the class takes and the spec does not give are filled in
    from the data.

    Args:
        name: of the class in diffusers.
        shape: of one example, (C, H, W).
        labels: number of classes, 0 for none.
        time_scale: brings the given t to about 0...1000.
        knobs: arguments of the class.

    Raises:
        ValueError: diffusers is not installed, or has no such class.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        labels: int,
        time_scale: float,
        knobs: dict[str, Any],
    ) -> None:
        super().__init__()
        if find_spec("diffusers") is None:
            raise ValueError(
                f"model diffusers:{name}: needs the package diffusers; "
                "pip install 'diffsweep[diffusers]'"
            )
        import diffusers

        kind = getattr(diffusers, name, None)
        if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
            raise ValueError(f"model diffusers:{name}: diffusers has no model of this name")
        known: dict[str, Any] = {"in_channels": shape[0], "out_channels": shape[0]}
        if len(shape) == 3:
            known["sample_size"] = shape[1:] if shape[1] != shape[2] else shape[1]
        if labels:
            known["num_class_embeds"] = labels
        takes = inspect.signature(kind.__init__).parameters
        if labels and "num_class_embeds" not in takes:
            raise ValueError(f"model diffusers:{name}: takes no classes, set labels: false")
        self.net = kind(**{key: value for key, value in known.items() if key in takes} | knobs)
        self.time_scale = time_scale

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        classes = {} if labels is None else {"class_labels": labels}
        answer: Tensor = self.net(x, t * self.time_scale, **classes).sample
        return answer
