"""How a finished training is measured: on more than at other reports."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.specs import make_config

from trainable.config import TrialConfig, TrialSettings
from trainable.data.loading import load_data
from trainable.data.parts import Data
from trainable.diffusion.objective import OwnValidation
from trainable.diffusion.validation import Validation
from trainable.report import network, report, validate
from trainable.train import HeldOut, TrainState, final_turns, held_out, train_until

TURNS = 5


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(make_config().dataset)


def config(**keys: object) -> TrialConfig:
    made = make_config(final_examples=16 * TURNS, **keys)
    assert made.validation_examples == 16 and final_turns(made) == TURNS
    return made


def finished(
    given: TrialConfig, data: Data, test: bool = True
) -> tuple[TrainState, dict[str, float]]:
    state = TrainState(given, data, test=test)
    train_until(state, given.samples)
    return state, report(state)


def test_its_losses_are_means_over_turns_the_first_of_which_is_that_of_each_report(
    data: Data,
) -> None:
    state, last = finished(config(), data)
    weights = str(last["weights"])
    assert last["val_loss_few"] == validate(state, weights)[0]
    for name, test in (("val_loss", False), ("test_loss", True)):
        net = network(state, weights)
        found = [held_out(state, test, turn).losses(net)[0] for turn in range(TURNS)]
        assert last[name] == pytest.approx(np.mean(found))
        assert last[f"{name}_se"] == pytest.approx(np.std(found, ddof=1) / TURNS**0.5)
        assert last[f"{name}_few"] == pytest.approx(found[0])
    quartiles = [last[f"test_loss_q{q}"] for q in range(1, 5)]
    assert sum(quartiles) / 4 == pytest.approx(last["test_loss"])


def test_before_its_end_it_is_measured_on_few(data: Data) -> None:
    state = TrainState(config(), data, test=True)
    train_until(state, state.config.samples // 2)
    assert not {"val_loss_se", "test_loss_se"} & set(report(state))


def noise_of(part: HeldOut) -> torch.Tensor:
    assert isinstance(part, Validation)
    return part.noise


def test_the_test_noise_is_another_for_each_seed_and_the_same_for_all_optimizers(
    data: Data,
) -> None:
    def noise(turn: int, **keys: object) -> torch.Tensor:
        return noise_of(held_out(TrainState(config(**keys), data), True, turn))

    sgd = {"optimizer": {"type": "sgd", "lr": 0.1}}
    for turn in (0, 3):
        assert torch.equal(noise(turn, seed=1), noise(turn, seed=1, **sgd))
        assert not torch.equal(noise(turn, seed=1), noise(turn, seed=2))
    assert not torch.equal(noise(0, seed=1), noise(1, seed=1))


def test_the_validation_noise_of_every_turn_is_the_same_for_every_seed(data: Data) -> None:
    states = [TrainState(config(seed=seed), data) for seed in (1, 2)]
    for turn in range(TURNS):
        one, two = (noise_of(held_out(state, False, turn)) for state in states)
        assert torch.equal(one, two)


def test_turns_go_through_all_examples_of_the_part(data: Data) -> None:
    state, count = TrainState(config(), data, test=True), len(data.test.x)
    shown = set()
    for turn in range(-(-count // 16)):
        part = held_out(state, True, turn)
        assert isinstance(part, Validation)
        shown |= {x.numpy().tobytes() for x in part.x0}
    assert len(shown) == len({x.tobytes() for x in data.test.x})


def test_a_config_of_earlier_is_measured_as_it_was(data: Data) -> None:
    given = make_config().model_dump(exclude={"final_examples"})
    earlier = TrialConfig.model_validate(given)
    assert earlier.final_examples == 0 and final_turns(earlier) == 1
    state, last = finished(earlier, data)
    assert last["val_loss"] == validate(state, str(last["weights"]))[0]
    assert "val_loss_se" not in last


@pytest.mark.parametrize(
    ("steps", "report_every", "asked", "final"),
    [
        (400, 50, None, 96 * 40),  # 5 % of 400 * 64 * 3 forward passes
        (4000, 50, None, 96 * 43),  # 4096, and the rest of a turn
        (400, 50, 1000, 96 * 11),
        (400, 50, 0, 0),  # asked for no more than a validation
    ],
)
def test_as_many_pairs_as_cost_5_percent_of_the_training_but_no_more_than_it_takes(
    steps: int, report_every: int, asked: int | None, final: int
) -> None:
    settings = TrialSettings(steps=steps, report_every=report_every, final_examples=asked)
    resolved = settings.resolve(optimizer={"type": "adam", "lr": 1e-3})
    assert (resolved.validation_examples, resolved.final_examples) == (96, final)


def squares(model, batch, generator):  # type: ignore[no-untyped-def]
    """A loss of one's own."""
    x = torch.randn(batch.shape, generator=generator)
    return (model(x, torch.zeros(len(x))) - x).square().mean()


def test_a_loss_of_ones_own_is_measured_in_turns_too(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainable.models.mlp.squares", squares, raising=False)
    state, last = finished(config(loss="trainable.models.mlp:squares"), data)
    parts = [held_out(state, True, turn) for turn in range(2)]
    assert all(isinstance(part, OwnValidation) for part in parts)
    assert last["test_loss_se"] > 0
