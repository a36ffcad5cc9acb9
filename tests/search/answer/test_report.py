"""The answer: what it claims, what it refuses to claim, and that a reader gets all of it."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from support.books import CONFIRMED, LRS, Writer, curve, whole, with_test

from search.answer.content import reached, report_of
from search.answer.insight import best_of, counts_to, edge, importance, rungs
from search.answer.plots import draw_all
from search.answer.report import write_report
from search.answer.standing import standing
from search.answer.tables import quality_table
from search.answer.verdict import NOT_SHOWN
from search.answer.wording import data_name, how_sure, told
from search.history.folder import Folder
from search.spec.dimensions import Range

SECTIONS = ("setting", "next", "verdicts", "optimizers", "curves", "learning_rate", "stability")


def test_the_answer_names_winner_ties_budget_data_and_seeds() -> None:
    answer = report_of(whole())["answer"]
    assert answer.startswith("With 16 steps of 8 examples for a unet on digits, over 4 fresh")
    assert "adam is better than rmsprop (test loss 23" in answer
    assert "between adam and sgd no difference is shown at this budget" in answer


def test_all_tied_is_an_answer_too() -> None:
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.20, "rmsprop": 0.20})
    same = CONFIRMED["adam"]
    rolled = {"adam": same, "sgd": [*same[1:], same[0]], "rmsprop": [*same[2:], *same[:2]]}
    writer.confirm(winners, rolled)
    content = report_of(writer.finish())
    assert "no difference between adam, rmsprop and sgd is shown" in content["answer"].replace(
        "adam, sgd and rmsprop", "adam, rmsprop and sgd"
    )
    assert any("--seeds 8" in step["run"] for step in content["next"])


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
        assert (verdict["verdict"] != NOT_SHOWN) == claimed


def test_a_cut_off_confirmation_is_judged_on_the_seeds_that_all_have() -> None:
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    writer.confirm(winners, CONFIRMED | {"sgd": CONFIRMED["sgd"][:3]})
    writer.trial("sgd", 0.1, with_test(curve(9.0))[:1], "paused", seed=4, source=winners["sgd"])
    stood = standing(writer.book, 0.01)
    assert stood.seeds == [1, 2, 3] and len(stood.verdicts) == 3
    assert stood.values("test_loss")["sgd"] == pytest.approx([0.211, 0.212, 0.210])


def test_a_winner_that_diverges_on_a_fresh_seed_is_not_judged_but_named() -> None:
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    writer.confirm(winners, CONFIRMED | {"sgd": CONFIRMED["sgd"][:3]})
    writer.trial("sgd", 0.1, with_test(curve(9.0))[:1], "diverged", seed=4, source=winners["sgd"])
    content = report_of(writer.finish())
    assert content["unstable"] == ["sgd"] and content["seeds"]["judged"] == [1, 2, 3, 4]
    assert [(v["a"], v["b"]) for v in content["verdicts"]] == [("adam", "rmsprop")]
    assert any("sgd did not complete" in warning for warning in content["warnings"])


def test_at_equal_time_the_slow_one_is_judged_where_it_stood() -> None:
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    writer.confirm(winners, CONFIRMED, speeds={"adam": 5.0})  # half as fast as the others
    stood = standing(writer.book, 0.01)
    assert stood.equal_time == pytest.approx(1.6)  # 16 steps at 10 a second
    assert stood.verdicts[0].a == "adam" and stood.at_equal_time[0].a == "sgd"
    adam = next(v for v in stood.at_equal_time if {v.a, v.b} == {"sgd", "adam"})
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
    assert stood[0].at_equal_time == stood[1].at_equal_time == stood[0].verdicts


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


def test_a_best_learning_rate_at_the_end_of_its_range_is_a_warning() -> None:
    log = Range(low=1e-5, high=1e-2, log=True)
    assert [edge(log, lr) for lr in (1e-5, 1.2e-5, 1e-4, 9e-3, 1e-2, 0.1)] == [
        "low", "low", None, "high", "high", "high",
    ]  # fmt: skip
    assert edge(Range(low=0, high=1), 0.5) is None
    writer = Writer()
    writer.trial("adam", 1e-2, curve(0.1))
    content = report_of(writer.finish())
    assert any("adam's best learning rate, 0.01" in w for w in content["warnings"])
    assert any("higher end of space.optimizer.adam.lr" in s["run"] for s in content["next"])


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
    assert [rung["overruled"] == list(LRS) for rung in rungs(book)] == [True, True, False]
    told = [w for w in report_of(book)["warnings"] if "Early stopping" in w]
    assert len(told) == 1 and "was overruled up to 32 samples" in told[0]


def test_a_verdict_between_unequal_efforts_is_a_warning() -> None:
    writer = Writer(confirm={"seeds": 4})
    winners = writer.search({"adam": 0.20, "sgd": 0.21, "rmsprop": 0.25})
    each = report_of(writer.book)["optimizers"]["adam"]["trials"]
    writer.confirm(winners, CONFIRMED)

    def told() -> list[str]:
        return [w for w in report_of(writer.book)["warnings"] if "was tuned with" in w]

    for _ in range(each - 1):
        writer.trial("adam", 1e-3, curve(0.3))
    assert not told()
    writer.trial("adam", 1e-3, curve(0.3))
    (said,) = told()
    assert said.startswith(f"adam was tuned with {2 * each} trials and sgd with {each}, so")


def test_importance_needs_enough_trials_and_finds_what_mattered() -> None:
    writer = Writer()
    rng = np.random.default_rng(0)
    for number in range(20):
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


def test_a_reader_learns_which_differences_the_seeds_could_not_show() -> None:
    content = report_of(whole())
    best = [v for v in content["verdicts"] if v["a"] == content["verdicts"][0]["a"]]
    for v in best:
        reach = (v["interval"][1] - v["interval"][0]) / 2 + v["margin"]
        assert (abs(v["difference"]) > reach) == (v["verdict"] != NOT_SHOWN)
    assert "a claim took a measured difference of more than" in how_sure(content)
    assert "more than" not in how_sure(report_of(Writer().book))


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
