"""What a spec says of the noise process. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from trainable.base.shelf import Frozen


class Diffusion(Frozen):
    """The noise process: what the network predicts, and how noise levels are spread.

    Nothing here is searched: validation losses of two processes are not comparable.
    """

    prediction: Literal["eps", "v", "x0", "edm", "flow"] = "eps"
    noise_schedule: Literal["cosine", "linear"] = "cosine"  # of eps, v and x0
    # of sample(); null: ddim for eps, v and x0, heun for edm, euler for flow
    solver: Literal["ddim", "heun", "euler"] | None = None
    min_snr_gamma: float | None = Field(None, gt=0)  # weights training (not validation); not edm
    sigma_data: float = Field(0.5, gt=0)  # edm: standard deviation of the examples
    P_mean: float = -1.2  # edm: ln(sigma) of training is normal with this mean ...
    P_std: float = Field(1.2, gt=0)  # ... and standard deviation
    logit_mean: float = 0.0  # flow: logit(t) of training is normal with this mean ...
    logit_std: float = Field(1.0, gt=0)  # ... and standard deviation

    @model_validator(mode="after")
    def check_fit(self) -> Self:
        """Refuse what the prediction has no use for, rather than ignore it."""
        fields = Diffusion.model_fields
        kind = self.prediction if self.prediction in ("edm", "flow") else "discrete"
        if self.solver is not None and self.solver not in SOLVERS[kind]:
            raise ValueError(
                f"solver {self.solver} is not for prediction {self.prediction}, which has "
                + " and ".join(SOLVERS[kind])
            )
        for other in ONLY_FOR.keys() - {kind}:
            for key in ONLY_FOR[other]:
                if getattr(self, key) != fields[key].default:
                    raise ValueError(f"{key} is not for prediction {self.prediction}")
        if kind == "edm" and self.min_snr_gamma is not None:
            raise ValueError("min_snr_gamma is not for prediction edm, which weights by itself")
        return self


SOLVERS = {"discrete": ("ddim",), "edm": ("heun", "euler"), "flow": ("euler", "heun")}
ONLY_FOR = {
    "discrete": ("noise_schedule",),
    "edm": ("sigma_data", "P_mean", "P_std"),
    "flow": ("logit_mean", "logit_std"),
}
