"""A cluster of two nodes on this machine: a lost node costs its trials, never the run."""

import time
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from evaluate.pool import RayPool
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


def test_a_node_that_dies_is_survived(text_data: Path, tmp_path: Path) -> None:
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
            outcomes = [result.outcome for result in collect(pool, 2).values()]
            lost = [one for one in outcomes if isinstance(one, Failed)]
            assert [one.stage for one in lost] == [Stage.INFRASTRUCTURE]
            assert sum(isinstance(one, Scored) for one in outcomes) == 1
            pool.submit(request(3, program()))
            assert isinstance(collect(pool, 1)[3].outcome, Scored)
        finally:
            pool.close()
    finally:
        cluster.shutdown()
