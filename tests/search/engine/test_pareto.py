"""Several objectives: fronts by hand, rungs and samplers that know them, and what is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as some
from support.books import Writer, curve
from support.engines import run, start
from support.specs import make_spec
from support.trials import made

from cluster.cli import cli
from search.answer.content import report_of
from search.answer.report import write_report
from search.engine.analysis import front, pareto, ranked
from search.engine.asha import Asha, Results
from search.engine.pareto import Fronts, Point, dominates, layers, order
from search.errors import BadInput
from search.history.book import ENDED, Book, Trial
from search.history.home import Home
from search.spec.loading import load_spec
from search.watch.status import list_trials, status_of

TWO = [{"metric": "val_loss"}, {"metric": "optimizer_bytes"}]
VALUES = some.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, float("inf")])
AIMS = [("val_loss", "min"), ("optimizer_bytes", "min")]


def small(optimizer: str, loss: float, size: int, writer: Writer) -> int:
    """A complete trial with this loss and this state."""
    reports = [report | {"optimizer_bytes": size} for report in curve(loss)]
    return writer.trial(optimizer, 1e-2, reports)


def two_objectives(writer: Writer | None = None) -> tuple[Book, dict[str, int]]:
    writer = writer or Writer(objective=TWO)
    numbers = {
        "best loss": small("adam", 0.20, 800, writer),
        "beaten by it": small("adam", 0.25, 800, writer),
        "smaller": small("sgd", 0.22, 400, writer),
        "smallest": small("sgd", 0.30, 0, writer),
        "beaten by smaller": small("rmsprop", 0.24, 400, writer),
    }
    return writer.finish(), numbers


def test_layers_are_fronts_one_behind_the_other() -> None:
    points = [(1.0, 3.0), (2.0, 2.0), (3.0, 3.0), (3.0, 1.0), (4.0, 4.0)]
    assert layers(points) == [0, 0, 1, 0, 2]
    assert layers([(1.0, 1.0), (1.0, 1.0)]) == [0, 0]  # equal ones don't beat each other


@given(some.integers(1, 4).flatmap(lambda n: some.lists(some.tuples(*[VALUES] * n), max_size=40)))
def test_layers_are_what_remains_undominated_once_those_before_are_away(
    points: list[tuple[float, ...]],
) -> None:
    found, left, depth = layers(points), set(range(len(points))), 0
    while left:
        front = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        assert front == {i for i in range(len(points)) if found[i] == depth}
        left, depth = left - front, depth + 1


@given(
    some.integers(1, 3).flatmap(
        lambda n: some.tuples(*[some.lists(some.tuples(*[VALUES] * n), max_size=30)] * 2)
    )
)
def test_a_later_point_lies_in_the_first_front_that_does_not_dominate_it(
    points: tuple[list[Point], list[Point]],
) -> None:
    first, later = points
    fronts, depth = Fronts(first), layers(first)
    for point in later:
        behind = {d for one, d in zip(first, depth, strict=True) if dominates(one, point)}
        assert fronts.place(point) == (max(behind) + 1 if behind else 0)
    few = Fronts(first, most=2)
    assert few.fronts == fronts.fronts[:2]


def test_a_missing_objective_is_as_bad_as_can_be_and_max_turns_the_order() -> None:
    reports: list[dict[str, Any]] = [{"a": 1.0}, {"a": 1.0, "b": 5.0}, {"a": 1.0, "b": 7.0}]
    assert order(reports, [("a", "min"), ("b", "max")]) == [2, 1, 0]


def test_the_front_leads_the_ranking_and_the_best_by_the_first_objective_leads_the_front() -> None:
    book, numbers = two_objectives()
    expected = [numbers[key] for key in ("best loss", "smaller", "smallest")]
    assert [trial.number for trial in front(book)] == expected
    assert [trial.number for trial in ranked(book)][:3] == expected
    assert [trial.number for trial in front(book, "rmsprop")] == [numbers["beaten by smaller"]]
    found = pareto(book)
    assert found is not None and [row["trial"] for row in found["front"]] == expected
    assert found["front"][2]["values"] == {"val_loss": 0.30, "optimizer_bytes": 0}


def test_one_objective_has_no_front() -> None:
    writer = Writer()
    writer.search({"adam": 0.2, "sgd": 0.3})
    book = writer.finish()
    assert pareto(book) is None and [t.number for t in front(book)] == [ranked(book)[0].number]


def test_a_rung_keeps_what_nothing_beats_in_all_objectives() -> None:
    rule = Asha((10, 20), 2, Results("val_loss", "min", others=(("optimizer_bytes", "min"),)))

    def at_rung(number: int, loss: float, size: int) -> Trial:
        report = {"samples": 10, "step": 1, "val_loss": loss, "optimizer_bytes": size}
        return made(number, [report])

    heavy = [at_rung(n, 0.1 + 0.1 * n, 800) for n in range(3)]
    light = at_rung(3, 0.9, 0)
    assert rule.ranking(0, [*heavy, light]) == [0, 3, 1, 2]
    assert rule.best(0, [*heavy, light], 0) == [0, 3]
    by_loss_alone = Asha((10, 20), 2, Results("val_loss", "min"))
    assert by_loss_alone.best(0, [*heavy, light], 0) == [0, 1]


@pytest.mark.parametrize("kind", ["tpe", "random", "qmc"])
@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median", "none"])
def test_a_search_for_a_front_ends_and_is_reproducible(kind: str, scheduler: str) -> None:
    keys: dict[str, Any] = {"sampler": {"type": kind}, "scheduler": {"type": scheduler}}
    spec = make_spec(
        objective=TWO, space={"optimizer": ["adam", "sgd"]}, budget={"trials": 16}, **keys
    )
    one, two = start(spec), start(spec)
    for engine in (one, two):
        run(engine, workers=1)
        engine.finish()
    chosen = [[t.chosen for t in e.book.trials.values()] for e in (one, two)]
    assert chosen[0] == chosen[1] and len(chosen[0]) == 16
    assert all(trial.state in ENDED for trial in one.book.trials.values())
    study = one.arms.all[0].sampler.study(list(one.book.trials.values()))
    assert len(study.directions) == 2


def test_tpe_learns_both_objectives() -> None:
    """Optuna is told the last values of stopped trials, and a penalty for what is missing."""
    writer = Writer(objective=[*TWO, {"metric": "quality_mmd"}])
    kept = writer.trial("adam", 1e-2, [r | {"quality_mmd": 0.5} for r in curve(0.2)])
    stopped = writer.trial("sgd", 0.1, curve(0.3)[:2], "pruned")
    engine = start(writer.spec)
    trials = list(writer.book.trials.values())
    told = engine.arms.all[0].sampler.study(trials).get_trials()
    assert told[kept].values == [0.2, 800, 0.5]
    assert told[stopped].values[0] == trials[stopped].last("val_loss")
    assert told[stopped].values[2] > 0.5


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("objective: {metric: val_los}", "val_loss"),
        ("objective: {metric: optimizer_bytes}", "optimizer_bytes can't lead"),
        ("objective: [{metric: val_loss}, {metric: val_loss}]", "in the list twice"),
        ("objective: []", "objective"),
        (
            "objective: [{metric: val_loss}, {metric: optimizer_bytes}]\nsampler: {type: cmaes}",
            "cmaes looks for one best, not for a Pareto front; use tpe, random, qmc or grid",
        ),
        (
            "objective: [{metric: val_loss}, {metric: quality_mmd}]\ntrial: {quality: null}",
            "quality_mmd needs trial.quality",
        ),
    ],
)
def test_objectives_that_cant_be_are_refused(lines: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(f"name: a\n{lines}\n")
    with pytest.raises(BadInput) as caught:
        load_spec(tmp_path / "spec.yaml")
    assert any(message in fault for fault in caught.value.faults), caught.value.faults


def test_modes_are_the_natural_ones_unless_given() -> None:
    spec = make_spec(objective=[{"metric": "val_loss"}, {"metric": "steps_per_second"}])
    assert spec.aims == [("val_loss", "min"), ("steps_per_second", "max")]
    assert make_spec().aims == [("val_loss", "min")]


def test_status_trials_and_report_show_the_front(home: Path) -> None:
    writer = Writer(objective=TWO)
    book, numbers = two_objectives(writer)
    folder = Home(home).new("tiny")
    folder.history.write_text("".join(json.dumps(event) + "\n" for event in writer.events))
    assert len(status_of(folder)["pareto"]["front"]) == 3
    marked = [row["trial"] for row in list_trials(folder) if row["pareto"]]
    assert sorted(marked) == sorted(numbers[k] for k in ("best loss", "smaller", "smallest"))
    shown = CliRunner().invoke(cli, ["status", folder.id])
    assert shown.exit_code == 0 and "optimizer_bytes (min)" in shown.stdout
    shown = CliRunner().invoke(cli, ["trials", folder.id])
    assert shown.exit_code == 0 and shown.stdout.count("*") == 3
    content = write_report(folder, book)
    assert content["pareto"] == report_of(book)["pareto"]
    assert (folder.report / "pareto.png").exists()
    assert "The Pareto front" in (folder.report / "report.html").read_text()
