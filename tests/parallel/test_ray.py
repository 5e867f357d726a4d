"""The Ray executor on a cluster of three nodes on this machine: same results, nothing lost."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
import worker_tasks
from planted_net import CLASSES, SHAPE, TARGET, assert_equal_scans, planted_net, scanned
from small_grid import compared
from small_nets import images
from small_project import SPACES

from badnet_defense.benchmarking import model_list
from badnet_defense.benchmarking.audit import AuditConfig, audit
from badnet_defense.benchmarking.cases import BenchmarkCase
from badnet_defense.errors import InputError, TooLargeError
from badnet_defense.nets import describe, read_net
from badnet_defense.nets.input_range import UNIT
from badnet_defense.parallel import ClosedError, open_executor
from badnet_defense.sandbox.limits import current
from badnet_defense.scan import halving
from badnet_defense.scan.schedule import Rung

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
ONE = {"num_cpus": 1, "object_store_memory": 2**27, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster():
    import ray
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(worker_tasks)
    made = Cluster(initialize_head=True, head_node_args=ONE)
    made.add_node(**{k: v for k, v in ONE.items() if k != "include_dashboard"})
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def executor(cluster):
    with open_executor("ray", address=cluster.address) as made:
        yield made


def test_tasks_on_a_cluster(executor):
    assert executor.workers == 2 and executor.gpus == 0
    found = list(executor.run(worker_tasks.scaled, (executor.share(10),), [(n,) for n in range(9)]))
    assert sorted(found) == [(number, 10 * number) for number in range(9)]
    ((_, limits),) = executor.run(worker_tasks.limits, (), [()])
    assert limits == vars(current())
    with pytest.raises(TooLargeError, match=r"7 is too large\."):
        list(executor.run(worker_tasks.refused, (), [(7,)]))


def test_a_scan_on_a_cluster_is_the_scan_of_this_machine(executor, monkeypatch):
    monkeypatch.setattr(halving, "LABELS_AT_ONCE", 3)
    spec, pictures = describe(planted_net()), images(60, shape=SHAPE).images
    rungs = (Rung(8, 8), Rung(8, 12), Rung(12, 16))
    with open_executor("local", workers=1) as local:
        here = scanned(spec, pictures, rungs=rungs, executor=local)
    assert_equal_scans(scanned(spec, pictures, rungs=rungs, executor=executor), here)


def test_a_lost_node_s_tasks_are_done_again(cluster, executor):
    node = cluster.add_node(num_cpus=2, object_store_memory=2**27)
    cluster.wait_for_nodes()
    assert executor.workers == 4
    run = executor.run(worker_tasks.slow, (), [(number,) for number in range(24)])
    found = [next(run) for _ in range(6)]
    cluster.remove_node(node, allow_graceful=False)
    found += run
    assert sorted(found) == [(number, number) for number in range(24)]


def test_an_audit_with_repairs_whose_files_travel(executor, zoo_folder, tmp_path):
    net = tmp_path / "nets/net.h5"
    net.parent.mkdir()
    shutil.copy(zoo_folder / "nets/planted.h5", net)
    suspect = model_list.AuditItem("net", net, zoo_folder / "clean.h5")
    asked = AuditConfig(repair="fine-tuning", guard="hard")
    (result,) = audit([suspect], out=tmp_path / "out", config=asked, executor=executor)
    assert result["targets"] == [TARGET] and result["repair"]["detector"]["name"] == "hard"
    assert read_net(tmp_path / "out/repaired/net/net.h5").classes == CLASSES
    assert (tmp_path / "out/repaired/net/net.hard.keras").exists()


def test_a_grid_on_a_cluster_is_the_grid_of_this_machine(executor, project, tmp_path):
    sets = (project / "data/clean_validation_data.h5", project / "data/clean_test_data.h5")
    case = BenchmarkCase(
        project / "models/sunglasses_bd_net.h5", *sets, {"lipstick": project / SPACES}
    )
    asked = {"repairs": [], "detectors": ["sentinet"], "seeds": [0, 1], "scans": tmp_path}
    asked |= {"false_positive_rate": 0.2, "input_range": UNIT}
    with open_executor("local", workers=1) as local:
        here, _ = compared([case], out=tmp_path / "here", executor=local, **asked)
    runs, failed = compared([case], out=tmp_path / "ray", executor=executor, **asked)
    assert not failed and len(runs) == 2
    for run, other in zip(runs, here, strict=True):
        for figures in ("seed", "clean", "triggers", "expected", "threshold"):
            assert run.get(figures) == other.get(figures), figures


def test_those_who_wait_are_told_when_the_executor_is_stopped(executor):
    """The last that uses the executor; nobody who waited starts another Ray behind its back."""
    import ray

    waiting = ThreadPoolExecutor(1).submit(
        lambda: list(executor.run(worker_tasks.slow, (), [(number,) for number in range(200)]))
    )
    time.sleep(1)
    executor.stop()
    with pytest.raises(ClosedError):
        waiting.result(timeout=30)
    executor.close()
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there():
    with pytest.raises(InputError, match=r"Ray at 127.0.0.1:1: no cluster answers .*ray start"):
        open_executor("ray", address="127.0.0.1:1")
