"""Searches on a cluster of several hosts, while hosts, links and services fail under them.

What is true is told by the ledger, which the user's own optimizer writes at every step, on the
disk of the host that it runs on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from five import BATCH, REPORT_EVERY, STEPS, TRIALS, Cluster
from hosts import Host, missing

REPORTED = list(range(REPORT_EVERY, STEPS + 1, REPORT_EVERY))
pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.timeout(3600),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("lab"))
    yield cluster
    cluster.down()


@pytest.fixture
def cluster(lab: Cluster) -> Cluster:
    lab.mend()
    return lab


@pytest.fixture(scope="module")
def undisturbed(lab: Cluster) -> dict[int, Any]:
    """The answer when nothing fails."""
    id = lab.submit()
    lab.wait(id)
    assert len(lab.ledger(id)) == TRIALS * STEPS  # it does write down each step once
    return answer(lab, id)


def answer(cluster: Cluster, id: str) -> dict[int, Any]:
    """The config and the final numbers of each trial."""
    rows = cluster.get("trials", id)
    assert {row["state"] for row in rows} == {"complete"}
    return {row["trial"]: (row["config"], row["val_loss"], row["step"]) for row in rows}


def at_work(cluster: Cluster, id: str, host: Host) -> dict[int, int]:
    """The last step of each trial that has not ended and was last seen on a host."""
    ended = cluster.ended(id)
    latest = {note.trial: note for note in cluster.ledger(id)}
    going = [note for trial, note in latest.items() if trial not in ended]
    return {note.trial: note.step for note in going if note.host == host.name}


def in_the_middle(cluster: Cluster, id: str, host: Host) -> None:
    """Wait until trials are done, and others are well under way on a host."""

    def look() -> bool:
        steps = at_work(cluster, id, host).values()
        under_way = any(3 * REPORT_EVERY < step < STEPS - 50 for step in steps)
        return len(cluster.ended(id)) > 1 and under_way

    cluster.until(look, bool)


def other_than(cluster: Cluster, driver: Host) -> Host:
    (other,) = (host for host in cluster.workers if host is not driver)
    return other


def checkpoints(cluster: Cluster, id: str, host: Host) -> dict[int, int]:
    """The steps of the newest checkpoint in storage of each trial that is at work on a host."""
    found = {}
    for trial in at_work(cluster, id, host):
        names = [n for n in cluster.services.names(id, f"trials/{trial}") if n.endswith(".pt")]
        found[trial] = max((int(name.split(".")[2]) for name in names), default=0) // BATCH
    return found


def check_nothing_is_lost(cluster: Cluster, id: str, undisturbed: dict[int, Any]) -> None:
    """The same answer; every step taken and every report accepted; MLflow has what was accepted;
    no trial goes on after its end; all CPUs are free again."""
    assert answer(cluster, id) == undisturbed
    steps: dict[int, set[int]] = {trial: set() for trial in undisturbed}
    for note in cluster.ledger(id):
        steps[note.trial].add(note.step)
    assert all(taken == set(range(1, STEPS + 1)) for taken in steps.values())
    reports = cluster.reports(id)
    for trial in undisturbed:
        assert [event["metrics"]["step"] for event in reports[trial]] == REPORTED
    accepted = {
        trial: [(event["metrics"]["step"], event["metrics"]["val_loss"]) for event in found]
        for trial, found in reports.items()
    }
    assert in_mlflow(cluster, id) == {trial: ["FINISHED", v] for trial, v in accepted.items()}
    cpus = lambda: cluster.get("status")["cluster"]["cpus"]  # noqa: E731
    cluster.until(cpus, lambda found: found["free"] == found["of"])


def in_mlflow(cluster: Cluster, id: str) -> dict[int, Any]:
    """How MLflow has each trial: its run's status, and its losses by step."""
    code = """if True:
        import json, sys
        from mlflow import MlflowClient
        client, found = MlflowClient(), {}
        ids = [e.experiment_id for e in client.search_experiments()]
        for run in client.search_runs(ids, f"tags.`diffsweep.search` = '{sys.argv[1]}'"):
            if "diffsweep.trial" in run.data.tags:
                losses = client.get_metric_history(run.info.run_id, "val_loss")
                trial = run.data.tags["diffsweep.trial"]
                assert trial not in found, "a trial has two runs"
                values = sorted((metric.step, metric.value) for metric in losses)
                found[trial] = [run.info.status, values]
        print(json.dumps(found))
    """
    uri = cluster.services.about["mlflow"]
    done = cluster.client.run(sys.executable, "-c", code, id, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {int(t): [state, list(map(tuple, rows))] for t, (state, rows) in found.items()}


def passes(cluster: Cluster, id: str, trial: int) -> list[tuple[int, int]]:
    """The first and the last step of each process that worked on a trial, in their order."""
    processes: dict[Any, list[int]] = {}
    for note in cluster.ledger(id):
        if note.trial == trial:
            processes.setdefault((note.host, note.process), []).append(note.step)
    return [(min(steps), max(steps)) for steps in processes.values()]


def check_redone(cluster: Cluster, id: str, lost: dict[int, int]) -> None:
    """Trials that lost their process went on from the newest checkpoint that was in storage then,
    given in steps; all the others ran once."""
    for trial in range(TRIALS):
        found = passes(cluster, id, trial)
        assert len(found) <= 1 + (trial in lost)
        for (_, last), (first, _) in pairwise(found):
            assert lost[trial] < first <= last + 1
            print(f"trial {trial}: {last - first + 1} of {STEPS} steps were taken again")


def test_a_worker_loses_its_power(cluster: Cluster, undisturbed: dict[int, Any]) -> None:
    id = cluster.submit()
    worker = other_than(cluster, cluster.driver(id))
    in_the_middle(cluster, id, worker)
    worker.cut_power()
    lost = checkpoints(cluster, id, worker)
    cluster.wait(id)
    cluster.mend()
    check_redone(cluster, id, lost)
    check_nothing_is_lost(cluster, id, undisturbed)


def test_the_cluster_is_lost_for_good(cluster: Cluster, undisturbed: dict[int, Any]) -> None:
    """Nothing but storage and MLflow is left; another cluster goes on."""
    id = cluster.submit()
    in_the_middle(cluster, id, other_than(cluster, cluster.driver(id)))
    for host in (cluster.head, *cluster.workers):
        cluster.replace(host)
    before, ledger = set(cluster.ended(id)), cluster.ledger(id)
    cluster.token = cluster.token[::-1]
    cluster.mend()
    assert id in [row["id"] for row in cluster.get("ls")]
    cluster.until(lambda: cluster.diffsweep("resume", id), lambda done: done.returncode == 0)
    cluster.wait(id)
    taken = {note.trial for note in cluster.ledger(id)[len(ledger) :]}
    assert not taken & before  # no finished trial ran again
    check_nothing_is_lost(cluster, id, undisturbed)


def test_the_host_of_the_driver_loses_its_power(
    cluster: Cluster, undisturbed: dict[int, Any]
) -> None:
    id = cluster.submit()
    driver = cluster.driver(id)
    in_the_middle(cluster, id, driver)
    driver.cut_power()
    state = lambda: cluster.get("status", id)["state"]  # noqa: E731
    cluster.until(state, lambda found: found == "interrupted")
    cluster.until(lambda: cluster.diffsweep("resume", id), lambda done: done.returncode == 0)
    cluster.wait(id)
    cluster.mend()
    check_nothing_is_lost(cluster, id, undisturbed)


def test_a_raylet_is_killed(cluster: Cluster, undisturbed: dict[int, Any]) -> None:
    id = cluster.submit()
    worker = other_than(cluster, cluster.driver(id))
    in_the_middle(cluster, id, worker)
    (raylet,) = worker.processes("raylet/raylet ")
    raylet.kill()
    lost = checkpoints(cluster, id, worker)
    cluster.wait(id)
    assert cluster.until(cluster.nodes, lambda found: found == 3)  # started again, by itself
    check_redone(cluster, id, lost)
    check_nothing_is_lost(cluster, id, undisturbed)


def test_a_worker_is_cut_off_and_comes_back(cluster: Cluster, undisturbed: dict[int, Any]) -> None:
    """It trains on without knowing. Nothing that it does counts once its replacement has begun."""
    id = cluster.submit()
    worker = other_than(cluster, cluster.driver(id))
    in_the_middle(cluster, id, worker)
    worker.cut_link()
    going = set(at_work(cluster, id, worker))
    others = [host.name for host in cluster.workers if host is not worker]

    def replaced() -> set[int]:
        return {n.trial for n in cluster.ledger(id) if n.trial in going and n.host in others}

    cluster.until(replaced, lambda found: found == going)
    worker.heal_link()
    cluster.wait(id)
    assert cluster.until(cluster.nodes, lambda found: found == 3)  # joined again, by itself
    for trial in going:
        own = [note for note in cluster.ledger(id) if note.trial == trial]
        replacement = {note.step: note.time for note in own if note.host in others}
        began = min(replacement.values())
        for event in cluster.reports(id)[trial]:
            if event["time"] / 1000 > began:
                assert replacement[event["metrics"]["step"]] < event["time"] / 1000
    check_nothing_is_lost(cluster, id, undisturbed)


def test_the_head_loses_its_power_and_returns(
    cluster: Cluster, undisturbed: dict[int, Any]
) -> None:
    id = cluster.submit()
    in_the_middle(cluster, id, cluster.workers[0])
    cluster.head.cut_power()
    time.sleep(20)  # less than workers wait for it
    cluster.mend()
    cluster.wait(id)
    check_redone(cluster, id, {})  # no trial noticed
    check_nothing_is_lost(cluster, id, undisturbed)


@pytest.mark.parametrize(("service", "seconds"), [("s3", 60), ("postgres", 5), ("mlflow", 60)])
def test_a_service_is_away(
    cluster: Cluster, undisturbed: dict[int, Any], service: str, seconds: int
) -> None:
    id = cluster.submit()
    in_the_middle(cluster, id, cluster.workers[0])
    cluster.services.ask("kill", service)
    time.sleep(seconds)
    cluster.services.ask("start", service)
    cluster.wait(id)
    check_redone(cluster, id, {})  # training went on, or waited
    check_nothing_is_lost(cluster, id, undisturbed)
