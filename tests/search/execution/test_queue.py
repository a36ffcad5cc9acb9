"""Whose turn it is on a cluster, and what a search that waits is told."""

from __future__ import annotations

from search.execution.dashboard import Job, Node
from search.execution.queue import Need, Scene, ahead, fitting, overview, why_waiting

ONE_CPU = "1 0"


def job(search: str, status: str = "RUNNING", needs: str = ONE_CPU) -> Job:
    metadata = {"diffsweep.search": search, "diffsweep.needs": needs}
    return Job(search, status, "", 0, metadata)


def cluster(jobs: list[Job], trials: dict[str, list[str]], free: float, gpus: float = 0) -> Scene:
    node = Node("n1", "10.0.0.1", True, 2, gpus)
    return Scene(jobs, trials, [node], {"n1": {"CPU": free, "GPU": gpus}})


def test_with_room_and_nobody_before_it_a_search_begins() -> None:
    (mine,) = jobs = [job("a")]
    assert why_waiting(mine, cluster(jobs, {}, free=2)) is None


def test_a_second_waits_for_room_and_is_told_who_holds_it() -> None:
    jobs = [job("a"), job("b")]
    now = cluster(jobs, {"a": ["ALIVE", "ALIVE", "DEAD"]}, free=0)
    why = why_waiting(jobs[1], now)
    assert why == "waits for 1 CPU for a trial, 0 of 2 CPUs free; the rest is held by a (2 trials)"
    assert why_waiting(jobs[1], now._replace(free={"n1": {"CPU": 1}})) is None


def test_a_third_waits_behind_the_second_though_there_is_room() -> None:
    jobs = [job("a"), job("b", needs="2 0"), job("c")]
    now = cluster(jobs, {"a": ["ALIVE"]}, free=1)
    assert "behind b, submitted before" in str(why_waiting(jobs[2], now))
    assert "waits for 2 CPUs for a trial, 1 of 2 CPUs free" in str(why_waiting(jobs[1], now))
    begun = now._replace(trials={"a": ["DEAD"], "b": ["ALIVE"]})
    assert ahead(jobs[2], begun) == []


def test_one_that_has_ended_is_in_nobodys_way() -> None:
    jobs = [job("a", "FAILED"), job("b", "STOPPED"), job("c")]
    assert why_waiting(jobs[2], cluster(jobs, {}, free=2)) is None


def test_a_trial_that_is_only_asked_for_has_not_begun() -> None:
    jobs = [job("a"), job("b")]
    now = cluster(jobs, {"a": ["PENDING_CREATION"]}, free=2)
    assert ahead(jobs[1], now) == [jobs[0]]


def test_what_no_node_can_hold_is_told_as_such() -> None:
    jobs = [job("a", needs="1 4")]
    why = why_waiting(jobs[0], cluster(jobs, {}, free=2, gpus=1))
    assert why is not None and "which no node can hold" in why
    assert "the largest node (10.0.0.1) has 2 CPUs and 1 GPUs" in why


def test_room_on_two_nodes_together_is_no_room() -> None:
    nodes = [Node("n1", "10.0.0.1", True, 2, 0), Node("n2", "10.0.0.2", False, 2, 0)]
    now = Scene([], {}, nodes, {"n1": {"CPU": 1}, "n2": {"CPU": 1}})
    assert fitting(Need(2, 0), now) == []
    assert fitting(Need(1, 0), now) == nodes


def test_the_overview_tells_what_is_free_and_what_each_search_does() -> None:
    jobs = [job("a"), job("b"), job("old", "SUCCEEDED"), Job("other", "RUNNING", "", 0, {})]
    found = overview(cluster(jobs, {"a": ["ALIVE"], "old": ["DEAD"]}, free=0.5))
    assert found["cpus"] == {"free": 0.5, "of": 2}
    assert [(row["id"], row["trials"]) for row in found["searches"]] == [("a", 1), ("b", 0)]
    assert found["searches"][0]["why"] is None and "held by a" in found["searches"][1]["why"]
