"""The answer: what it claims, what it refuses to claim, and that a reader gets all of it."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.books import CONFIRMED, LRS, Writer, curve, whole, with_test

from search.answer import insight
from search.answer.content import reached, report_of
from search.answer.insight import best_of, counts_to, edge, importance, rungs
from search.answer.plots import draw_all
from search.answer.report import write_report
from search.answer.standing import standing
from search.answer.tables import quality_table
from search.answer.wording import data_name, told
from search.history.folder import Folder

SECTIONS = (
    "setting",
    "next",
    "verdicts",
    "pairs",
    "optimizers",
    "curves",
    "learning_rate",
    "stability",
)


def test_the_answer_says_what_to_take_then_the_others_then_for_what() -> None:
    content = report_of(whole())
    answer = content["answer"]
    assert answer.startswith("Take adam: at most ")
    assert "worse than the best of these three configs. " in answer
    assert "rmsprop is behind (test loss 23." in answer
    assert "This is for 16 steps of 8 examples for a unet on digits, over 4 fresh seeds." in answer
    take = content["take"]
    assert (take["optimizer"], take["behind"]) == ("adam", ["rmsprop"])
    assert take["as_good"] + take["undecided"] == ["sgd"]
    row = next(v for v in content["verdicts"] if (v["a"], v["b"]) == ("adam", "sgd"))
    assert row["verdict"] == ("as good" if take["as_good"] else "undecided")
    assert 0 < take["within"] < 0.05
    assert take["trials"] == [1]
    assert any(step["run"].endswith("--to DIR --trial 1") for step in content["next"])


def test_all_tied_is_an_answer_too_with_the_command_that_decides_and_its_price() -> None:
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.20, "rmsprop": 0.20})
    same = CONFIRMED["adam"]
    rolled = {"adam": same, "sgd": [*same[1:], same[0]], "rmsprop": [*same[2:], *same[:2]]}
    writer.confirm(winners, rolled)
    content = report_of(writer.finish())
    take = content["take"]
    assert take["behind"] == [] and len(take["undecided"]) == 2
    most = max(needed for needed in take["seeds_needed"].values() if needed)
    assert (
        f"are undecided: about {take['seeds_needed'][take['undecided'][0]]}" in content["answer"]
    )
    (step,) = (step for step in content["next"] if "--seeds" in step["run"])
    assert step["run"].endswith(f"--seeds {4 + most}")
    assert f"about {3 * most} more trainings" in step["why"]


def tables() -> list[dict[str, list[float]]]:
    """Confirmations of which the losses, their noise and their seeds are drawn at random."""
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(60):
        seeds, loud = int(rng.integers(2, 7)), rng.choice([1, 1, 4], size=3)
        means = 0.2 * (1 + rng.choice([0, 0.004, 0.02, 0.1], size=3))
        table = means[:, None] + 0.001 * loud[:, None] * rng.normal(size=(3, seeds))
        drawn.append({name: list(row) for name, row in zip(LRS, table, strict=True)})
    return drawn


@pytest.mark.parametrize("losses", tables())
def test_the_sentence_says_what_the_table_says(losses: dict[str, list[float]]) -> None:
    """Each optimizer is in one zone, and no pair is called alike that the table tells apart."""
    writer = Writer(confirm={"seeds": len(losses["adam"])})
    writer.confirm(writer.search(dict.fromkeys(LRS, 0.2)), losses)
    content = report_of(writer.finish())
    take, said = content["take"], content["answer"]
    others = [*take["as_good"], *take["behind"], *take["undecided"]]
    assert sorted([take["optimizer"], *others]) == sorted(LRS)
    assert said.startswith(f"Take {take['optimizer']}")
    claimed = {(v["a"], v["b"]) for v in content["verdicts"] if v["verdict"] == "better"}
    claimed |= {(v["b"], v["a"]) for v in content["verdicts"] if v["verdict"] == "worse"}
    assert {worse for _, worse in claimed} == set(take["behind"])
    for name in take["behind"]:
        assert re.search(rf"\b{name}\b[^;.]* (is|are) behind", said)
    for name in take["undecided"]:
        assert re.search(rf"\b{name}\b[^;.]* (is|are) undecided", said)
    for first, second in combinations(take["as_good"], 2):
        assert (first, second) not in claimed or {first, second} & set(take["behind"])


@pytest.mark.parametrize("allocation", ["adaptive", "equal"])
def test_before_confirm_there_is_no_verdict_between_optimizers(allocation: str) -> None:
    writer = Writer(allocation=allocation)
    writer.search({"adam": 0.20, "sgd": 0.40, "rmsprop": 0.60})
    content = report_of(writer.finish())
    assert content["verdicts"] == [] and content["confirm"] == []
    assert "no verdict between optimizers" in content["answer"]
    assert content["next"][0]["run"] == "diffsweep confirm tiny-000000"


def test_an_unfinished_search_is_reported_and_marked(tmp_path: Path) -> None:
    writer = Writer()
    writer.trial("adam", 1e-3, curve(0.2)[:2], "running")
    content = report_of(writer.book)
    assert not content["finished"] and content["answer"].startswith("No trial is complete yet")
    assert content["next"][0]["run"] == "diffsweep resume tiny-000000"
    folder = Folder(tmp_path / "tiny-000000")
    folder.path.mkdir()
    write_report(folder, writer.book)
    assert "Unfinished: this search is running" in (folder.report / "report.html").read_text()


def test_every_pair_is_judged_with_interval_and_margin() -> None:
    content = report_of(whole())
    pairs = {frozenset((v["a"], v["b"])) for v in content["verdicts"]}
    assert pairs == {frozenset(pair) for pair in combinations(LRS, 2)}
    for verdict in content["verdicts"]:
        low, high = verdict["interval"]
        assert low <= verdict["difference"] <= high
        assert verdict["margin"] == pytest.approx(0.01 * np.mean(CONFIRMED["adam"]) + 0.0001)
        claimed = high < -verdict["margin"] or low > verdict["margin"]
        assert (verdict["verdict"] in ("better", "worse")) == claimed


def test_a_cut_off_confirmation_is_judged_on_the_seeds_that_all_have() -> None:
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    writer.confirm(winners, CONFIRMED | {"sgd": CONFIRMED["sgd"][:3]})
    writer.trial("sgd", 0.1, with_test(curve(9.0))[:1], "paused", seed=4, source=winners["sgd"])
    stood = standing(writer.book, 0.01)
    assert stood.seeds == [1, 2, 3] and len(stood.verdicts) == 3
    assert stood.values("test_loss")["sgd"] == pytest.approx([0.211, 0.212, 0.210])


def diverging(*names: str) -> dict[str, Any]:
    """The report of a confirmation in which some diverged on seed 4."""
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    writer.confirm(winners, CONFIRMED | {name: CONFIRMED[name][:3] for name in names})
    for name in names:
        reports = with_test(curve(9.0))[:1]
        writer.trial(name, LRS[name][1], reports, "diverged", seed=4, source=winners[name])
    return report_of(writer.finish())


def test_a_winner_that_diverges_on_a_fresh_seed_is_behind() -> None:
    content = diverging("sgd")
    assert content["diverged"] == {"sgd": {"seeds": 1, "of": 4}} and content["unstable"] == []
    assert content["seeds"]["judged"] == [1, 2, 3, 4]
    assert [(v["a"], v["b"]) for v in content["verdicts"]] == [("adam", "rmsprop")]
    assert content["take"]["behind"] == ["rmsprop", "sgd"]
    assert "sgd is behind, since it diverged on 1 of 4 seeds" in content["answer"]


def test_where_all_others_diverge_the_one_that_does_not_is_taken() -> None:
    content = diverging("sgd", "rmsprop")
    assert content["verdicts"] == [] and content["take"]["optimizer"] == "adam"
    assert "the only one of these configs that did not diverge" in content["answer"]
    content = diverging("sgd", "rmsprop", "adam")
    assert content["take"] is None and content["answer"].startswith("Nothing to take")


def test_a_winner_whose_training_fails_otherwise_is_not_judged_but_named() -> None:
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    writer.confirm(winners, CONFIRMED | {"sgd": CONFIRMED["sgd"][:3]})
    writer.trial("sgd", 0.1, with_test(curve(9.0))[:1], "failed", seed=4, source=winners["sgd"])
    content = report_of(writer.finish())
    assert content["unstable"] == ["sgd"] and content["diverged"] == {}
    assert any("sgd did not complete" in warning for warning in content["warnings"])


def test_of_those_as_good_the_one_that_costs_less_is_named() -> None:
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    close = CONFIRMED["adam"]
    losses = {"adam": close, "sgd": [v + 1e-5 for v in close], "rmsprop": CONFIRMED["rmsprop"]}
    writer.confirm(winners, losses, speeds={"adam": 8.0})
    for trial in writer.book.stage("search"):
        if trial.optimizer == "sgd":
            trial.reports[-1]["optimizer_bytes"] = 400
    content = report_of(writer.finish())
    assert content["take"]["as_good"] == ["sgd"]
    assert "sgd does as well, within 1 %" in content["answer"]
    assert "sgd keeps 4.0 bytes a weight, not 8.0" in content["answer"]
    assert "sgd takes 20 % less time" in content["answer"]


def test_a_margin_of_nothing_still_has_shares() -> None:
    content = report_of(whole(), margin=0.0)
    assert "rmsprop is behind (test loss 23." in content["answer"]


def test_quality_near_zero_has_a_margin_of_the_way_to_noise() -> None:
    writer = Writer(confirm={"seeds": 3})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    ends = {"quality_mmd_real": 0.0, "quality_mmd_noise": 1.0}
    for place, optimizer in enumerate(LRS):
        for seed in (1, 2, 3):
            reports = with_test(curve(0.2, quality_mmd=0.001 * place + seed / 1e6, **ends))
            writer.trial(optimizer, 0.1, reports, seed=seed, source=winners[optimizer])
    pairs = report_of(writer.finish())["quality"]["quality_mmd"]
    assert {pair["verdict"] for pair in pairs if pair["a"] == "adam"} == {"as good"}
    assert {pair["margin"] for pair in pairs} == {0.01}


def test_at_equal_time_the_slow_one_is_judged_where_it_stood() -> None:
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    writer.confirm(winners, CONFIRMED, speeds={"adam": 5.0})  # half as fast as the others
    stood = standing(writer.book, 0.01)
    timed = stood.equal_time
    assert timed is not None and timed.seconds == pytest.approx(1.6)  # 16 steps at 10 a second
    assert stood.verdicts[0].a == "adam" and timed.verdicts[0].a == "sgd" and timed.cut == []
    adam = next(v for v in timed.verdicts if {v.a, v.b} == {"sgd", "adam"})
    # after 8 of its 16 steps adam's loss was 0.2 higher than at the end
    assert adam.difference == pytest.approx(0.201 - (0.2005 + 0.2), abs=1e-9)


def test_a_machine_that_is_busy_during_one_seed_does_not_decide_at_equal_time() -> None:
    stood = []
    for slow in (1.0, 0.25):
        writer = Writer(confirm={"seeds": 4})
        winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
        for seed in (1, 2, 3, 4):
            for name, losses in CONFIRMED.items():
                speed = 10.0 * (slow if seed == 3 else 1.0)
                reports = with_test(curve(losses[seed - 1], speed))
                lr = LRS[name][1]
                writer.trial(name, lr, reports, seed=seed, source=winners[name])
        stood.append(standing(writer.book, 0.01))
    assert stood[0].equal_time and stood[1].equal_time
    before, after = stood[0].equal_time.verdicts, stood[1].equal_time.verdicts
    assert [v.difference for v in before] == pytest.approx([v.difference for v in after])


def test_at_equal_time_a_schedule_that_was_cut_off_is_told() -> None:
    writer = Writer(confirm={"seeds": 3})
    writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    for optimizer, speed, schedule in (("adam", 5.0, "linear"), ("sgd", 10.0, "cosine")):
        source = writer.trial(optimizer, 0.1, curve(0.1), lr_schedule=schedule)
        for seed in (1, 2, 3):
            reports = with_test(curve(0.2 + seed / 1000, speed))
            writer.trial(optimizer, 0.1, reports, seed=seed, source=source, lr_schedule=schedule)
    content = report_of(writer.finish())
    assert content["equal_time"]["cut"] == ["adam"]
    assert "The learning rate of adam had not decayed" in content["answer_at_equal_time"]


def test_several_winners_of_one_optimizer_are_told_apart() -> None:
    writer = Writer(confirm={"seeds": 2, "top": 2})
    writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    for source in (1, 0):
        for seed in (1, 2):
            reports = with_test(curve(0.2 + source / 10 + seed / 1000))
            writer.trial("adam", LRS["adam"][source], reports, seed=seed, source=source)
    stood = standing(writer.book, 0.01)
    assert [c.name for c in stood.contenders] == ["adam-1", "adam-0"]
    assert report_of(writer.book)["optimizers"]["adam"]["confirmed"]["contender"] == "adam-0"


def test_quality_is_judged_where_it_was_measured() -> None:
    writer = Writer(confirm={"seeds": 2})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    for optimizer, quality in {"adam": 0.3, "sgd": 0.1, "rmsprop": 0.5}.items():
        for seed in (1, 2):
            reports = with_test(curve(0.2, quality_mmd=quality + seed / 1e4))
            writer.trial(optimizer, 0.1, reports, seed=seed, source=winners[optimizer])
    content = report_of(writer.finish())
    first = content["quality"]["quality_mmd"][0]
    assert (first["a"], first["b"], first["verdict"]) == ("sgd", "adam", "better")
    assert report_of(whole())["quality"] == {}
    table = quality_table(content | {"quality_references": {"quality_mmd_real": 0.0123}})
    assert "other real examples</td><td >0.0123" in table and ">0.3<" in table


def test_what_tuning_was_worth_is_told_by_the_published_default() -> None:
    writer = Writer()
    writer.trial("adam", 1e-4, curve(0.4))
    writer.book.trials[0].baseline = True
    writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    before = report_of(writer.finish())["before"]
    assert (before["name"], before["value"], before["best"]) == ("adam-0", 0.4, 0.20)
    assert before["gain"] == pytest.approx(0.5)
    assert before["behind_itself"] == pytest.approx(1.0)


def test_the_expected_best_of_k_is_the_mean_over_all_draws_of_k() -> None:
    values = np.array([3.0, 1.0, 4.0, 1.5, 9.0])
    for mode, choose in (("min", min), ("max", max)):
        expected = [
            np.mean([choose(draw) for draw in combinations(values, k)]) for k in range(1, 6)
        ]
        assert best_of(values, np.arange(1, 6), mode).tolist() == pytest.approx(expected)


def test_the_expected_best_is_known_for_thousands_of_trials() -> None:
    """Of n ranks, the best of k is (n + 1) / (k + 1) to expect (David & Nagaraja 2003)."""
    trials, counts = 5000, counts_to(5000)
    assert (counts[0], counts[99], counts[-1]) == (1, 100, trials) and len(counts) < 210
    found = best_of(np.arange(1.0, trials + 1), counts)
    assert found.tolist() == pytest.approx(((trials + 1) / (counts + 1)).tolist())


def test_a_best_learning_rate_that_is_the_last_tried_is_a_warning() -> None:
    assert edge({1e-4, 1e-3, 1e-2}, 1e-2) == "high" and edge({1e-4, 1e-3, 1e-2}, 1e-4) == "low"
    assert edge({1e-4, 1e-3, 1e-2}, 1e-3) is None and edge({1e-4, 1e-3}, 1e-3) is None
    writer = Writer()
    for lr, loss in ((1e-4, 0.3), (1e-3, 0.2), (2e-3, 0.1)):  # well inside the range
        writer.trial("adam", lr, curve(loss))
    content = report_of(writer.finish())
    assert any("0.002, is the largest of the 3 that were tried" in w for w in content["warnings"])
    assert any("higher end of space.optimizer.adam.lr" in s["run"] for s in content["next"])
    writer.trial("adam", 9e-3, curve(9.9)[:1], "diverged")
    assert not any("largest" in warning for warning in report_of(writer.book)["warnings"])


def test_the_basin_holds_the_learning_rates_within_5_percent_of_the_best() -> None:
    writer = Writer()
    for lr, loss in ((1e-4, 0.30), (3e-4, 0.209), (1e-3, 0.20), (3e-3, 0.2099), (8e-3, 0.25)):
        writer.trial("adam", lr, curve(loss))
    rate = report_of(writer.finish())["optimizers"]["adam"]["learning_rate"]
    assert rate["best"] == 1e-3 and rate["basin"] == [3e-4, 3e-3]


def test_ranks_at_a_rung_that_end_otherwise_are_a_warning() -> None:
    writer = Writer(scheduler={"type": "asha", "grace_steps": 4})
    for place in range(6):
        reports = curve(0.2 + place / 100)
        reports[0]["val_loss"] = 0.9 - place / 100  # at the first rung, the reverse
        writer.trial("adam", 1e-3, reports)
    book = writer.finish()
    found = {rung["samples"]: rung for rung in rungs(book)}
    assert found[32]["correlation"] == 0 and found[32]["best_rank"] == 1
    assert not found[32]["overruled"]
    assert found[64]["correlation"] == pytest.approx(1, abs=0.01)
    assert any("Early stopping may have misled" in w for w in report_of(book)["warnings"])
    book.spec["scheduler"]["grace_steps"] = "auto"
    assert [rung["overruled"] for rung in rungs(book)] == [True, True, False]
    told = [w for w in report_of(book)["warnings"] if "Early stopping" in w]
    assert len(told) == 1 and "was overruled up to 32 samples" in told[0]


def test_the_winner_is_ranked_among_all_that_came_to_a_rung_not_the_finished_alone() -> None:
    writer = Writer(scheduler={"type": "asha", "grace_steps": 4})
    for place in range(5):
        reports = curve(0.2 + place / 100)
        reports[0]["val_loss"] = 0.5 + (0.01 if place == 0 else 0.0)  # the winner is their last
        writer.trial("adam", 1e-3, reports)
    for _ in range(7):
        writer.trial("adam", 1e-3, [curve(0.9)[0]], "pruned")
    first = rungs(writer.finish())[0]
    assert first["trials"] == 12 and first["best_rank"] == pytest.approx(5 / 12)


def test_with_equal_allocation_each_optimizer_has_rungs_of_its_own() -> None:
    """As the engine has them: pooled, two kinds of curves can look as if ranks held."""
    writer = Writer(allocation="equal", scheduler={"type": "asha", "grace_steps": 4})
    for optimizer, level in (("adam", 0.2), ("sgd", 5.0)):
        for place in range(6):
            reports = curve(level + place / 100)
            reports[0]["val_loss"] = level + 0.9 - place / 100
            writer.trial(optimizer, 1e-3, reports)
    found = rungs(writer.finish())
    assert {tuple(rung["optimizers"]) for rung in found} == {("adam",), ("sgd",)}
    assert all(rung["correlation"] == 0 for rung in found if rung["samples"] == 32)


def test_a_verdict_between_unequal_efforts_is_a_warning() -> None:
    """By what they cost: as many trials, some stopped early, are not as much tuning."""
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    writer.confirm(winners, CONFIRMED)

    def told() -> list[str]:
        return [w for w in report_of(writer.book)["warnings"] if "was tuned with" in w]

    for optimizer in LRS:
        reports = curve(0.3) if optimizer == "adam" else curve(0.3)[:1]
        for _ in range(8):
            state = "complete" if optimizer == "adam" else "pruned"
            writer.trial(optimizer, 1e-3, reports, state)
    (said,) = told()
    assert said.startswith("adam was tuned with the compute of 10.5 full trainings (10 complete)")
    assert "with that of 4.5 full trainings (2 complete)" in said


@pytest.mark.parametrize("most", [insight.MOST_FOR_IMPORTANCE, 15])
def test_importance_needs_enough_trials_and_finds_what_mattered(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insight, "MOST_FOR_IMPORTANCE", most)
    writer = Writer()
    rng = np.random.default_rng(0)
    for number in range(40):
        lr, warmup = 10 ** rng.uniform(-4.5, -2.2), float(rng.uniform(0, 0.05))
        loss = 0.2 + 0.1 * (np.log10(lr) + 3) ** 2
        writer.trial("adam", lr, curve(loss), warmup=warmup)
        if number == 5:
            assert importance(writer.book, "adam") is None
    shares = importance(writer.book, "adam")
    assert shares is not None and max(shares, key=lambda key: shares[key]) == "lr"
    assert shares["lr"] > 0.6 and sum(shares.values()) == pytest.approx(1)


def test_time_to_the_runner_ups_best_is_read_off_the_curve() -> None:
    writer = Writer()
    writer.trial("adam", 1e-3, curve(0.2, speed=4.0))
    trial = writer.book.trials[0]
    assert reached(trial, "val_loss", 0.35, "min") == {"value": 0.35, "step": 12, "seconds": 3.0}
    assert reached(trial, "val_loss", 0.1, "min") is None


def test_with_a_split_for_each_seed_the_answer_is_about_new_examples() -> None:
    wide, narrow = (
        report_of(writer.finish())
        for splits in ("each", "one")
        if (writer := Writer(confirm={"seeds": 4, "splits": splits}))
        and not writer.confirm(writer.search(dict.fromkeys(LRS, 0.2)), CONFIRMED)
    )
    assert "and of which examples train and which test" in wide["how_sure"]
    assert "not of the data" in narrow["how_sure"]
    widths = [
        [v["interval"][1] - v["interval"][0] for v in content["verdicts"]]
        for content in (wide, narrow)
    ]
    assert all(one > 1.3 * other for one, other in zip(*widths, strict=True))


def test_with_replicates_the_answer_is_about_optimizers() -> None:
    given = {"replicates": 2, "allocation": "equal", "budget": {"trials": 24}}
    writer = Writer(confirm={"seeds": 2}, **given)
    for replicate in (0, 1):
        for optimizer, final in {"adam": 0.20, "sgd": 0.24, "rmsprop": 0.28}.items():
            source = writer.trial(optimizer, 1e-3, curve(final + replicate / 1000))
            writer.book.trials[source].replicate = replicate
            for seed in (1 + 2 * replicate, 2 + 2 * replicate):
                loss = final + replicate / 1000 + seed / 1e4
                writer.trial(optimizer, 1e-3, with_test(curve(loss)), seed=seed, source=source)
    content = report_of(writer.finish())
    assert "the best of these three optimizers" in content["answer"]
    assert "over 2 searches of each" in content["answer"]
    assert "luck of searches" in content["how_sure"] and "half as many" not in content["how_sure"]
    assert {v["seeds"] for v in content["verdicts"]} == {2}


def test_the_page_is_read_from_what_to_take_to_what_decides(tmp_path: Path) -> None:
    writer = Writer(confirm={"seeds": 3})
    close = [0.2, 0.2035, 0.199]
    losses = {"adam": close, "sgd": close[::-1], "rmsprop": [0.3, 0.301, 0.302]}
    writer.confirm(writer.search(dict.fromkeys(LRS, 0.2)), losses)
    folder = Folder(tmp_path / "tiny-000000")
    folder.path.mkdir()
    content = write_report(folder, writer.finish())
    page = (folder.report / "report.html").read_text()
    marks = ['id="answer"', '<section id="verdicts">', 'id="cost"', 'id="decide"', 'id="setting"']
    places = [page.index(mark) for mark in marks]
    assert places == sorted(places)
    (step,) = (step for step in content["next"] if "confirm" in step["run"])
    assert page.count(f"{step['run']}<") == 1


def test_the_page_holds_everything_and_fetches_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "tiny-000000")
    folder.path.mkdir()
    content = write_report(folder, whole())
    page = (folder.report / "report.html").read_text()
    for section in SECTIONS:
        assert f'<section id="{section}">' in page
    assert "<script" not in page and "@import" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) and "url(" not in page
    stored = json.loads((folder.report / "report.json").read_text())
    assert stored == json.loads(json.dumps(content, allow_nan=False))
    assert {p.stem for p in folder.report.glob("*.png")} >= {"verdicts", "curves", "learning_rate"}


def test_an_optimizer_without_a_complete_trial_is_drawn_without_a_warning(tmp_path: Path) -> None:
    writer = Writer()
    writer.trial("adam", 1e-3, curve(0.2))
    writer.trial("rmsprop", 1e-3, curve(0.3)[:2], "pruned")
    folder = Folder(tmp_path / "tiny-000000")
    folder.path.mkdir()
    write_report(folder, writer.finish())
    assert (folder.report / "learning_rate.png").exists()


def test_the_report_of_the_same_history_is_the_same() -> None:
    assert report_of(whole()) == report_of(whole())


def test_samples_that_could_not_be_measured_are_a_warning() -> None:
    writer = Writer()
    for _ in range(2):
        writer.trial("adam", 1e-3, curve(0.2, quality_error="quality: not finite"))  # type: ignore[arg-type]
    warnings = report_of(writer.finish())["warnings"]
    assert "The samples of 2 trials could not be measured: quality: not finite." in warnings


def test_a_reader_learns_how_often_such_answers_are_wrong_and_how_lucky_the_search_was() -> None:
    content = report_of(whole())
    assert "at most 5 % call anyone behind who is not" in content["how_sure"]
    assert "with half as many trials, the best found would have been" in content["how_sure"]
    luck = {name: row["luck"] for name, row in content["optimizers"].items()}
    assert luck["rmsprop"] is not None and 0 < luck["rmsprop"] < 0.5
    assert "luck of the search" not in report_of(Writer().book)["how_sure"]


def test_warmup_and_clipping_are_drawn_only_where_they_were_searched(tmp_path: Path) -> None:
    writer = Writer()
    for lr in (1e-4, 1e-3):
        writer.trial("adam", lr, curve(0.2))
    assert "effects" not in draw_all(writer.book, report_of(writer.book), tmp_path)
    writer.trial("adam", 2e-3, curve(0.2), warmup=0.04)
    assert "effects" in draw_all(writer.book, report_of(writer.book), tmp_path)


def test_data_and_model_are_named_as_people_know_them() -> None:
    assert data_name({"type": "table", "name": "wine", "path": None}) == "wine"
    assert data_name({"type": "folder", "path": "/data/photos"}) == "photos"
    assert data_name({"type": "digits", "labels": False}) == "digits"
    assert told({"type": "mlp", "width": 128}, 12345) == "mlp (width 128, 12,345 parameters)"
