"""Reading a spec: what YAML means, what fills it in, and what overrides it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.errors import BadInput
from search.spec.loading import load_spec
from search.spec.spec import SearchSpec
from trainable.base.reading import parse


def spec_of(tmp_path: Path, text: str, *overrides: str) -> SearchSpec:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    return load_spec(path, overrides)


def faults_of(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(BadInput) as caught:
        spec_of(tmp_path, text, *overrides)
    return [fault.replace(f"{tmp_path}/", "") for fault in caught.value.faults]


def test_averages_may_be_written_as_numbers(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "name: a\ntrial: {ema: [power-0.75, 0.999]}\n")
    assert spec.trial.ema == ("power-0.75", "0.999")


def test_a_name_is_all_that_a_spec_needs(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "name: a\n")
    assert spec.optimizers == ["adam", "adamw", "sgd", "rmsprop"]
    assert (spec.trial.steps, spec.trial.batch_size, spec.trial.report_every) == (1000, 64, 50)
    assert spec.budget.trials == 40 and spec.scheduler.type == "asha"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        (".5", 0.5),
        ("1_000", 1000),
        ("0x10", 16),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("'1'", "1"),
        ("1:30", "1:30"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: Any) -> None:
    read = parse(f"key: {text}", "spec.yaml").data["key"]
    assert read == value and type(read) is type(value)


def test_a_learning_rate_may_be_written_1e_4(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "name: a\nspace: {optimizer: {adam: {lr: 1e-4}}}\n")
    assert spec.space.optimizer["adam"]["lr"].ends == (1e-4,)


def test_no_is_a_text_and_not_false(tmp_path: Path) -> None:
    text = "name: a\ntrial: {model: {type: unet, attention: no}}\n"
    assert faults_of(tmp_path, text) == [
        "spec.yaml:2:29 trial.model.attention: expected true or false, got 'no'"
    ]


def test_variables_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPS", "120")
    monkeypatch.setenv("WHO", "7")
    spec = spec_of(tmp_path, "name: run-${WHO}\ntrial: {steps: '${STEPS}'}\n")
    assert (spec.name, spec.trial.steps) == ("run-7", 120)


def test_a_variable_can_not_smuggle_in_structure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAL", "{steps: 3}")
    assert faults_of(tmp_path, "name: a\ntrial: ${TRIAL}\n") == [
        "spec.yaml:2:1 trial: expected a mapping, got '{steps: 3}'"
    ]


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "name: a\ntrial: {steps: '${NOT_SET_ANYWHERE}'}\n") == [
        "spec.yaml: trial.steps: the environment variable NOT_SET_ANYWHERE is not set"
    ]


def test_overrides_replace_what_the_file_says_and_add_to_it(tmp_path: Path) -> None:
    overrides = (
        "trial.steps=200",
        "budget.trials=5",
        "space.clip_norm=[null, 2.0]",
        "space.optimizer.sgd={}",
        "space.optimizer.adam.lr={low: 1e-4, high: 1e-3, log: true}",
    )
    spec = spec_of(
        tmp_path, "name: a\ntrial: {steps: 9}\nspace: {optimizer: {adam: {}}}\n", *overrides
    )
    assert (spec.trial.steps, spec.budget.trials) == (200, 5)
    assert spec.space.clip_norm.ends == (None, 2.0)  # type: ignore[union-attr]
    assert spec.optimizers == ["adam", "sgd"]
    assert spec.space.optimizer["adam"]["lr"].ends == (1e-4, 1e-3)


@pytest.mark.parametrize(
    ("assignment", "fault"),
    [
        ("trial.steps", "--set trial.steps: expected KEY=VALUE, as in trial.steps=500"),
        ("=3", "--set =3: expected KEY=VALUE, as in trial.steps=500"),
        ("name.x=3", "--set name.x=3: 'name' holds 'a', not a mapping"),
        (
            "trial.stpes=3",
            "--set trial.stpes=3 trial.stpes: unknown key, did you mean 'steps'?",
        ),
        ("budget.trials=0", "--set budget.trials=0 budget.trials: must be at least 1, got 0"),
        ("trial=[", "--set trial=[: line 1: expected the node content, but found '<stream end>'"),
    ],
)
def test_a_bad_override_is_named_as_it_was_given(
    assignment: str, fault: str, tmp_path: Path
) -> None:
    assert faults_of(tmp_path, "name: a\n", assignment) == [fault]


def test_all_faults_of_a_spec_are_told_at_once(tmp_path: Path) -> None:
    text = "name: a\nbugdet: 3\ntrial:\n  stpes: 10\n  seed: -1\nobjective: {metric: fid}\n"
    metrics = (
        "val_loss, val_loss_q1, val_loss_q2, val_loss_q3, val_loss_q4, optimizer_bytes, "
        "peak_memory_bytes, steps_per_second, quality_mmd, quality_fd, quality_coverage"
    )
    assert sorted(faults_of(tmp_path, text)) == [
        "spec.yaml:2:1 bugdet: unknown key, did you mean 'budget'?",
        "spec.yaml:4:3 trial.stpes: unknown key, did you mean 'steps'?",
        "spec.yaml:5:3 trial.seed: must be at least 0, got -1",
        f"spec.yaml:6:13 objective.metric: 'fid' is not a choice (one of {metrics})",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("30m", 1800), ("2d", 172800)]
)
def test_durations_are_seconds_or_have_a_unit(text: str, seconds: float, tmp_path: Path) -> None:
    assert spec_of(tmp_path, f"name: a\nbudget: {{wall_clock: {text}}}\n").budget.wall_clock == (
        seconds
    )


def test_a_spec_that_went_through_json_is_the_same(tmp_path: Path) -> None:
    text = (
        "name: a\nspace: {optimizer: [adam, sgd], warmup: {steps: [0, 10]}, batch_size: [8, 16]}"
    )
    spec = spec_of(tmp_path, text)
    assert SearchSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_aliases_can_not_make_a_spec_explode(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 10000 values" in faults_of(tmp_path, "\n".join(lines))[0]
    assert faults_of(tmp_path, "name: &a [*a]\n")
