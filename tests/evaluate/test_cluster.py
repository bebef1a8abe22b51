"""A cluster of two nodes on this machine: a lost node costs its trials, never the run."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from evaluate.pool import RayPool, common_kind
from population.individual import Failed, Scored, Stage

from .conftest import program
from .test_pool import collect, request, task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
    ),
]  # Ray leaves sockets of its own open


def test_a_node_that_dies_is_survived(
    text_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluate.pool.REFRESH_S", 0.0)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        second = cluster.add_node(num_cpus=1)
        pool = RayPool(task(tmp_path), text_data, slots=None, address=cluster.address)
        try:
            assert pool.slots == 2
            slow = program(before_clock="import time; time.sleep(8)\n")
            for number in (1, 2):
                pool.submit(request(number, slow))
            time.sleep(4.0)
            cluster.remove_node(second)
            before = collect(pool, 2).values()
            outcomes = [result.outcome for result in before]
            lost = [one for one in outcomes if isinstance(one, Failed)]
            assert [one.stage for one in lost] == [Stage.INFRASTRUCTURE]
            assert sum(isinstance(one, Scored) for one in outcomes) == 1
            assert pool.slots == 1
            pool.submit(request(3, program()))
            after = collect(pool, 1)[3]
            assert isinstance(after.outcome, Scored)
            keys = {r.comparability.key for r in before if isinstance(r.outcome, Scored)}
            assert keys == {after.comparability.key}  # a node less, and scores still compare
        finally:
            pool.close()
    finally:
        cluster.shutdown()


def test_on_a_mixed_cluster_a_search_keeps_to_the_kind_of_gpu_that_there_is_most_of(
    text_data: Path, tmp_path: Path
) -> None:
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 8, "include_dashboard": False}
    )
    try:
        for kind, gpus in (("A", 1), ("B", 2), ("A", 3)):
            cluster.add_node(num_cpus=8, num_gpus=gpus, resources={f"accelerator_type:{kind}": 1.0})
        on_gpus = replace(task(tmp_path), device="cuda", scale="gpu", gpus=1.0)
        pool = RayPool(on_gpus, text_data, slots=None, address=cluster.address)
        try:
            assert (pool.kind, pool.slots) == ("A", 4)
        finally:
            pool.close()
    finally:
        cluster.shutdown()


def node(gpus: float, *kinds: str, alive: bool = True) -> dict[str, object]:
    return {
        "Alive": alive,
        "Resources": {"GPU": gpus} | {f"accelerator_type:{k}": 1 for k in kinds},
    }


@pytest.mark.parametrize(
    ("nodes", "kind"),
    [
        ([node(2, "A"), node(2, "A")], None),
        ([node(2)], None),
        ([node(2, "A"), node(3, "B")], "B"),
        ([node(2, "A"), node(3, "B", alive=False)], None),
        ([node(2, "B"), node(2, "A")], "A"),
    ],
)
def test_one_kind_is_chosen_where_there_are_several(
    nodes: list[dict[str, object]], kind: str | None
) -> None:
    assert common_kind(nodes) == kind
