"""What every model should keep to: gradients, noise levels, labels, independence, float32."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from trainable.base.tensors import scaled, view
from trainable.config import TrialSettings
from trainable.data.parts import Data
from trainable.diffusion.process import Process, build_process, loss
from trainable.models.build import build_model

EXAMPLES = 6  # that the model is called with
SHAKE = 0.05  # deviation of what is added to weights that begin at zero
TOLERANCE = 1e-4  # largest relative difference that rounding makes


def broken(settings: TrialSettings, data: Data, device: torch.device) -> list[str]:
    """What the model of these settings does not keep to, a line each; it was tried before.

    It is called as in training and as in validation, with a few of the examples. Random streams
    are left as they were.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        process = build_process(settings.diffusion, device)
        net = build_model(settings.model, data, process.time_scale).to(device)
        x, labels = data.train.take(slice(EXAMPLES))
        x0 = scaled(view(x).clone()).to(device)
        told = None if labels is None else view(labels).clone().to(device)
        shake(net)
        found = list(_gradients(net, process, x0, told))
        net.eval()
        with torch.no_grad():
            return found + list(_answers(net, process, x0, told, data.classes))


@torch.no_grad()
def shake(net: nn.Module) -> None:
    """Move weights that begin at zero: they would hide what lies before them."""
    for weight in net.parameters():
        if not weight.any():
            weight.add_(SHAKE * torch.randn_like(weight))


def _gradients(
    net: nn.Module, process: Process, x0: Tensor, labels: Tensor | None
) -> Iterator[str]:
    noise, u = torch.randn_like(x0), levels(x0)
    loss(process, net, x0, noise, u, labels).mean().backward()  # type: ignore[no-untyped-call]
    without = [
        name
        for name, weight in net.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.any())
    ]
    if without:
        more = f" and {len(without) - 3} others" if len(without) > 3 else ""
        yield f"no gradient reaches the weights {', '.join(without[:3])}{more}"


def _answers(
    net: nn.Module, process: Process, x0: Tensor, labels: Tensor | None, classes: int
) -> Iterator[str]:
    x, t, _ = process.corrupt(x0, torch.randn_like(x0), levels(x0))
    told = () if labels is None else (labels,)
    answer = net(x, t, *told)
    if answer.dtype != torch.float32:
        yield f"the model answers {answer.dtype}, not torch.float32"
    alone = net(x[:2], t[:2], *(part[:2] for part in told))
    if (alone - answer[:2]).abs().max() > TOLERANCE * answer.abs().max():
        yield "the model's answer to an example depends on the others in its batch"
    if torch.equal(net(x, t.flip(0), *told), answer):
        yield "the model's answer does not depend on the noise level t"
    if labels is None:
        return
    others = (labels + 1) % classes if classes else labels.roll(1, 0)
    if not torch.equal(others, labels) and torch.equal(net(x, t, others), answer):
        yield f"the model's answer does not depend on the {'labels' if classes else 'conditions'}"


def levels(x0: Tensor) -> Tensor:
    """Quantiles of the noise level, from little noise to much."""
    return torch.linspace(0.05, 0.95, len(x0), device=x0.device)
