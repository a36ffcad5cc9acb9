"""What `check` tells of a search before it is run: its cost, and whether it fits."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from support.paths import BENCH

from cluster import cli
from cluster.remote.places import places
from search.execution.dashboard import Node
from search.forecast.curves import read_csv
from search.forecast.plan import plan
from search.forecast.replay import replay
from search.spec.spec import SearchSpec

CSV = BENCH / "digits8.csv"


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median"])
def test_the_expected_cost_is_near_that_on_recorded_curves(scheduler: str) -> None:
    curves = read_csv(CSV)
    spec = curves.spec(budget={"trials": 60}, scheduler={"type": scheduler})
    random = spec.model_copy(
        update={"sampler": spec.sampler.model_copy(update={"type": "random"})}
    )
    real = sum(outcome.compute for outcome in replay(random, curves, 1, 2)) / 2
    assert plan(spec)["full_trainings"] == pytest.approx(real, rel=0.3)


def test_what_runs_in_full_is_counted() -> None:
    def cost(**keys: object) -> float:
        spec = SearchSpec.model_validate({"name": "a", "budget": {"trials": 4}, **keys})
        found: float = plan(spec)["full_trainings"]
        return found

    assert cost(scheduler={"type": "none"}) == 4.0
    assert cost() > 2.0  # the first baseline, and the best of each optimizer, go to the end


def test_confirm_by_auto_costs_from_its_first_look_to_its_last() -> None:
    given = {"name": "a", "space": {"optimizer": {"adam": {}, "sgd": {}}}, "confirm": {}}
    planned = plan(SearchSpec.model_validate(given))["confirm"]
    assert (planned["full_trainings"], planned["at_most"]) == (2 * (4 + 3), 2 * (4 + 12))
    fixed = plan(SearchSpec.model_validate(given | {"confirm": {"seeds": 5}}))["confirm"]
    assert fixed["full_trainings"] == fixed["at_most"] == 10
    assert 0.01 < planned["smallest_difference"] < fixed["smallest_difference"] < 0.1


def test_a_plan_of_thousands_is_scaled_from_fewer() -> None:
    spec = SearchSpec.model_validate({"name": "a", "budget": {"trials": 4000}})
    began = time.process_time()
    planned = plan(spec)
    assert time.process_time() - began < 5
    assert planned["rungs"][0]["trials"] == 4000 and planned["simulation"]["trials"] < 200
    assert 400 < planned["full_trainings"] < 2000


def test_a_grid_has_no_more_trials_than_points() -> None:
    space = {
        "optimizer": {"adam": {"lr": [1e-4, 1e-3], "beta1": 0.9, "beta2": 0.999}},
        "warmup": 0.0,
        "lr_schedule": "constant",
        "clip_norm": [None, 1.0],
    }
    given = {"name": "a", "space": space, "sampler": {"type": "grid"}, "baselines": "none"}
    assert plan(SearchSpec.model_validate(given))["rungs"][-1]["trials"] <= 4


def test_a_trial_that_this_machine_cannot_hold_is_a_fault_beside_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nspace: {optimizer: {adam: {}, sgd: {}}}\n")
    command = ["diffsweep", "check", str(tmp_path / "a.yaml"), "-o", "json"]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(sys, "argv", [*command, "--set", "resources.cpu=4000"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert "a trial needs 4000 CPUs, this machine has" in told.err
    planned = json.loads(told.out)
    assert planned["place"] == {"where": "this machine", "at_once": 0}
    assert planned["space"]["optimizer"]["adam"]["lr"]["log"] is True
    assert planned["space"]["lr_schedule"] == ["constant", "linear", "cosine", "wsd"]


class Cluster:
    """A cluster of one node, as far as its dashboard is asked."""

    url = "http://there:8265"

    def nodes(self) -> list[Node]:
        return [Node("a", "10.0.0.1", True, 8, 2)]


@pytest.mark.parametrize(
    ("resources", "held", "fault"),
    [
        ({"gpu": 1}, 2, None),
        ({"gpu": 4}, None, "a trial needs 1 CPU and 4 GPUs; the largest node"),
        ({"gpu": 1, "workers": 3}, None, "for each of its 3 workers"),
    ],
)
def test_a_cluster_is_asked_what_it_holds(
    resources: dict[str, int], held: int | None, fault: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.remote.places.the_cluster", lambda *_: Cluster())
    spec = SearchSpec.model_validate({"name": "a", "resources": resources})
    where, at_once, told = places(spec, "http://there:8265")
    assert (where, at_once) == (Cluster.url, held)
    assert (told is None) if fault is None else (fault in str(told))
