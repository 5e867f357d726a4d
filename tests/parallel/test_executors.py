"""Engines: what they do with tasks, with errors, with lost workers, and with their own end."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import worker_tasks
from small_project import ROOT

from badnet_defense.cli import options
from badnet_defense.errors import InputError, LostTaskError, TooLargeError
from badnet_defense.parallel import ClosedError, SerialExecutor, local, open_executor, pooled
from badnet_defense.sandbox.limits import current, set_limits


@pytest.fixture(scope="module")
def two():
    with open_executor("local", workers=2) as executor:
        yield executor


def ordered(found):
    return [result for _, result in sorted(found)]


def test_tasks_are_done_with_what_they_share(two):
    for executor in (SerialExecutor(), two):
        handle = executor.share(10)
        found = list(
            executor.run(worker_tasks.scaled, (handle,), [(number,) for number in range(9)])
        )
        assert sorted(found) == [(number, 10 * number) for number in range(9)]
    assert list(two.run(worker_tasks.scaled, (two.share(10),), [])) == []


def test_the_same_object_is_sent_once(two):
    one, other = [1, 2], [1, 2]
    assert two.share(one) == two.share(one) != two.share(other)


def test_two_runs_at_once_share_the_workers(two):
    first = two.run(worker_tasks.scaled, (two.share(2),), [(1,), (2,)])
    second = two.run(worker_tasks.scaled, (two.share(3),), [(1,), (2,)])
    mixed = [next(first), next(second), next(second), next(first)]
    assert ordered(mixed[::3]) == [2, 4] and ordered(mixed[1:3]) == [3, 6]


def test_workers_are_processes_of_one_thread_with_this_process_limits(two):
    done = set(ordered(two.run(worker_tasks.process, (), [()] * 8)))
    assert os.getpid() not in done and 1 <= len(done) <= 2
    assert ordered(two.run(worker_tasks.limits, (), [()])) == [vars(current())]
    if not two.gpus:
        assert ordered(two.run(worker_tasks.threads, (), [()])) == [("1", "1")]


def test_limits_on_reading_reach_the_workers():
    before = vars(current()).copy()
    try:
        set_limits(isolate=True, max_net_size=12345)
        with open_executor("local", workers=1) as executor:
            (found,) = ordered(executor.run(worker_tasks.limits, (), [()]))
    finally:
        set_limits(**before)
    assert found == {"isolate": True, "max_net_size": 12345}


def test_a_task_s_error_is_raised_as_it_is(two):
    for executor in (SerialExecutor(), two):
        with pytest.raises(TooLargeError, match=r"7 is too large\."):
            list(executor.run(worker_tasks.refused, (), [(7,)]))
    assert ordered(two.run(worker_tasks.scaled, (two.share(2),), [(2,)])) == [4]  # and it goes on


def test_a_lost_worker_s_tasks_are_done_again(two, tmp_path):
    handle = two.share(str(tmp_path))
    found = list(two.run(worker_tasks.lost_once, (handle,), [(number,) for number in range(8)]))
    assert sorted(found) == [(number, number) for number in range(8)]
    assert (tmp_path / "killed").exists()


def test_workers_that_are_always_lost_end_the_run(monkeypatch):
    monkeypatch.setattr(pooled, "MAX_LOSSES", 2)
    with open_executor("local", workers=1) as executor:
        run = executor.run(worker_tasks.lost_but, (), [(0,), (1,)])
        assert next(run) == (0, 0)
        with pytest.raises(LostTaskError, match=r"lost again .* fewer workers") as lost:
            next(run)
        assert lost.value.place == 1
        assert ordered(executor.run(worker_tasks.scaled, (executor.share(2),), [(2,)])) == [4]


def test_a_worker_that_dies_while_it_has_nothing_to_do():
    with open_executor("local", workers=1) as executor:
        (process,) = ordered(executor.run(worker_tasks.process, (), [()]))
        os.kill(process, signal.SIGKILL)
        assert gone(process)
        (other,) = ordered(executor.run(worker_tasks.process, (), [()]))
        assert other != process


def test_a_worker_that_is_lost_takes_no_other_s_task_along(two, tmp_path, monkeypatch):
    monkeypatch.setattr(pooled, "MAX_LOSSES", 2)
    notes = two.share(str(tmp_path))
    slow = ThreadPoolExecutor(1).submit(lambda: list(two.run(worker_tasks.held, (notes,), [()])))
    while not list(tmp_path.iterdir()):
        time.sleep(0.05)
    with pytest.raises(InputError, match="lost again"):
        list(two.run(worker_tasks.lost, (), [()]))
    (tmp_path / "enough").touch()
    assert slow.result() == [(0, "done")] and len(list(tmp_path.glob("begun.*"))) == 1


def test_those_who_wait_are_told_when_an_executor_is_stopped(tmp_path):
    with open_executor("local", workers=1) as executor:
        notes = executor.share(str(tmp_path))
        waiting = [
            ThreadPoolExecutor(1).submit(
                lambda: list(executor.run(worker_tasks.held, (notes,), [()]))
            )
            for _ in range(2)  # the second one's task is never begun
        ]
        while not list(tmp_path.iterdir()):
            time.sleep(0.05)
        executor.stop()
        for one in waiting:
            with pytest.raises(ClosedError):
                one.result(timeout=20)


def test_what_was_shared_is_removed_and_workers_end():
    executor = open_executor("local", workers=1)
    folder = executor._folder
    executor.share(1)
    (worker,) = ordered(executor.run(worker_tasks.process, (), [()]))
    executor.close()
    assert not folder.exists() and gone(worker)


def gone(process, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


ORPHANS = """
import time, worker_tasks
from badnet_defense.parallel import open_executor
with open_executor("local", workers=1) as executor:
    print(next(executor.run(worker_tasks.process, (), [()]))[1], flush=True)
    time.sleep(100)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_workers_end_with_a_process_that_is_killed():
    started = subprocess.Popen(
        [sys.executable, "-c", ORPHANS],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    worker = int(started.stdout.readline())
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert gone(worker)


COUNTING = """
import worker_tasks
from badnet_defense.parallel import open_executor
if __name__ == "__main__":
    with open_executor("local", workers=1) as executor:
        print(list(executor.run(worker_tasks.counted, (), [(5,)])))
"""


def test_progress_in_workers_leaves_nothing_behind(tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING)
    done = subprocess.run(
        [sys.executable, tmp_path / "counting.py"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[(0, 5)]\n" and "leaked" not in done.stderr, done.stderr


def test_cores_and_gpus(monkeypatch):
    assert 1 <= local.usable_cores() <= os.cpu_count()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert local.devices(2, 3) == ["2", "5", "2"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert local.devices(2, 2) == ["0", "1"]
    assert local.devices(0, 2) == [None, None]
    monkeypatch.setattr(local, "gpu_count", lambda: 3)
    with local.LocalExecutor() as executor:
        assert (executor.gpus, executor.workers) == (3, 3)
    monkeypatch.setattr(local, "gpu_count", lambda: 0)
    with local.LocalExecutor() as executor:
        assert executor.workers == local.usable_cores()


def test_what_killed_executors_have_shared_is_removed():
    here, folder = local._prefix(), Path(tempfile.gettempdir())
    left, elsewhere = folder / f"{here}4194999.x", folder / f"{local.PREFIX}other.4194999.x"
    for one in (left, elsewhere):  # no process has this number
        one.mkdir()
    local.LocalExecutor(workers=1).close()
    assert not left.exists() and elsewhere.exists()  # another machine may see this folder too
    elsewhere.rmdir()


def test_what_is_released_is_gone_and_a_closed_executor_does_nothing(two):
    with local.LocalExecutor(workers=1) as executor:
        value = [1]
        handle = executor.share(value)
        executor.release(value)
        assert not Path(handle).exists() and executor.share(value) != handle
    for closed in (executor, SerialExecutor()):
        closed.close()
        with pytest.raises(ClosedError):
            list(closed.run(worker_tasks.process, (), [()]))


def test_threads_get_their_own_handles(two):
    found = {}

    def share(start):
        values = [object_of(start + place) for place in range(40)]
        found.update({two.share(value): value for value in values})

    threads = [threading.Thread(target=share, args=(100 * number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 160
    for handle, value in found.items():
        assert pickle.loads(Path(handle).read_bytes()) == value


def object_of(number):
    return {"number": number}


def test_ray_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"Ray is not installed; pip install \.\[ray\]"):
        open_executor("ray")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--ray-address", "1.2.3.4:5"], "--ray-address requires --engine ray"),
        (["--engine", "ray", "--workers", "2"], "--workers cannot be used with --engine ray"),
    ],
)
def test_options_that_the_engine_has_no_use_for(given, message):
    parser = options.Parser("a command")
    options.add_engine(parser)
    with pytest.raises(InputError, match=message):
        options.engine_of(parser.parse_args(given))
