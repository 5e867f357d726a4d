"""Audits in which something goes wrong: nets that say nothing, lost engines, changed files."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from planted_net import TARGET, masked_net, planted_net

from badnet_defense.benchmarking import audit as auditing
from badnet_defense.benchmarking.audit import AuditConfig, audit
from badnet_defense.benchmarking.model_list import AuditItem, read_model_list
from badnet_defense.errors import ExecutorError
from badnet_defense.io.records import own_result
from badnet_defense.nets import save_net
from badnet_defense.parallel import ClosedError, SerialExecutor
from badnet_defense.workflows.scanned import found_triggers


def test_what_could_not_be_judged_is_tried_again(zoo_folder, tmp_path, short_scans, monkeypatch):
    """Also an error that nobody thought of, which does not end the audit of the others."""
    suspects = [
        AuditItem(name, zoo_folder / "nets/planted.h5", zoo_folder / "unlabelled.h5")
        for name in "ab"
    ]
    whole = auditing.read_classifier

    def failing(path, input_range=None, calls=[]):  # noqa: B006
        calls.append(path)
        if len(calls) == 1:
            raise ArithmeticError("not a number,\nbut two lines")
        return whole(path, input_range)

    with monkeypatch.context() as patch:
        patch.setattr(auditing, "read_classifier", failing)
        first = audit(suspects, out=tmp_path / "out")
    assert [result["verdict"] for result in first] == ["cannot be judged", "backdoored"]
    assert first[0]["reason"] == "ArithmeticError: not a number, but two lines"
    again = audit(suspects, out=tmp_path / "out")
    assert [result["verdict"] for result in again] == ["backdoored"] * 2


def overflowing_net():
    model = planted_net()
    by_colour = model.get_layer("by_colour")
    by_colour.set_weights([weight * np.float32(1e36) for weight in by_colour.get_weights()])
    return model


@pytest.mark.parametrize("make", [masked_net, overflowing_net])
def test_a_net_in_which_no_trigger_is_found_is_not_called_clean(
    make, tmp_path, short_scans, zoo_folder
):
    save_net(make(), tmp_path / "net.h5")
    suspect = AuditItem("net", tmp_path / "net.h5", zoo_folder / "unlabelled.h5")
    (result,) = audit([suspect], out=tmp_path / "out")
    assert result["verdict"] == "cannot be judged"
    assert "labels have a trigger that works" in result["reason"]


def test_a_net_that_answers_one_class_always(tmp_path, short_scans, zoo_folder):
    model = planted_net()
    for name in ("by_colour", "by_patch"):
        layer = model.get_layer(name)
        layer.set_weights([0 * weight for weight in layer.get_weights()])
    model.get_layer("by_colour").bias.assign(np.eye(10)[3] * 50)
    save_net(model, tmp_path / "net.h5")
    suspect = AuditItem("net", tmp_path / "net.h5", zoo_folder / "unlabelled.h5")
    (result,) = audit([suspect], out=tmp_path / "out")
    assert result["verdict"] == "cannot be judged" or result["targets"] == [3]
    assert "Error" not in (result["reason"] or "")


class Failing(SerialExecutor):
    """Fails once `calls` runs of units are done."""

    def __init__(self, calls, error):
        self.calls, self.error = calls, error

    def run(self, *what):
        self.calls -= 1
        if self.calls < 0:
            raise self.error
        return super().run(*what)


def test_an_engine_that_is_gone_ends_the_audit_and_blames_no_net(tmp_path, short_scans, zoo_folder):
    suspects = [
        AuditItem(name, zoo_folder / "nets/planted.h5", zoo_folder / "clean.h5") for name in "ab"
    ]
    engine = Failing(2, ExecutorError("the cluster failed."))
    with pytest.raises(ExecutorError, match=r"the cluster failed\."):
        audit(suspects, out=tmp_path / "out", executor=engine)
    assert engine.closed and not list((tmp_path / "out/nets").glob("*.json"))
    results = audit(suspects, out=tmp_path / "out")
    assert [result["verdict"] for result in results] == ["backdoored"] * 2


def test_what_breaks_while_an_audit_is_stopped_is_no_verdict(tmp_path, zoo_folder):
    class Closing(SerialExecutor):
        def run(self, *_):
            self.stop()
            raise TypeError("no owner")

    suspect = AuditItem("a", zoo_folder / "nets/planted.h5", zoo_folder / "clean.h5")
    with pytest.raises(ClosedError):
        audit([suspect], out=tmp_path, executor=Closing())
    assert not (tmp_path / "nets/a.json").exists()


def test_a_net_that_changes_while_it_is_audited(tmp_path, short_scans, zoo_folder, monkeypatch):
    model = tmp_path / "net.h5"
    save_net(planted_net(target=None), model)
    suspect = AuditItem("net", model, zoo_folder / "clean.h5")
    reading = auditing.read_classifier

    def other(path, input_range):
        save_net(planted_net(), path)
        return reading(path, input_range)

    with monkeypatch.context() as patch:
        patch.setattr(auditing, "read_classifier", other)
        (result,) = audit([suspect], out=tmp_path / "out")
    assert result["verdict"] == "cannot be judged" and "changed meanwhile" in result["reason"]
    (result,) = audit([suspect], out=tmp_path / "out")
    assert result["verdict"] == "backdoored"
    monkeypatch.setattr(
        auditing, "found_triggers", lambda _: save_net(planted_net(target=2), model)
    )
    asked = AuditConfig(repair="scan-unlearning", guard="hard")
    (again,) = audit([suspect], out=tmp_path / "out", config=asked)
    assert "changed since it was scanned" in again["repair"]["failed"]


def test_a_verdict_that_stands_is_kept_where_other_settings_come_to_none(
    tmp_path, short_scans, zoo_folder
):
    def audited(clean):
        suspect = AuditItem("net", zoo_folder / "nets/planted.h5", clean)
        return audit([suspect], out=tmp_path / "out")[0]

    first = audited(zoo_folder / "clean.h5")
    (tmp_path / "notes.txt").write_text("no pictures")
    assert audited(tmp_path / "notes.txt")["verdict"] == "cannot be judged"
    kept = own_result(tmp_path / "out/nets/net.json", auditing.VERDICT)
    assert kept == first and first["verdict"] == "backdoored"


def test_a_verdict_without_its_scan_is_made_again(tmp_path, short_scans, zoo_folder):
    suspect = AuditItem("net", zoo_folder / "nets/planted.h5", zoo_folder / "unlabelled.h5")
    audit([suspect], out=tmp_path)
    (tmp_path / "scans/net.json").unlink()
    (result,) = audit([suspect], out=tmp_path)
    assert result["verdict"] == "backdoored" and (tmp_path / "scans/net.json").exists()
    (tmp_path / "scans/net.npz").write_bytes(b"damaged")
    (result,) = audit([suspect], out=tmp_path)
    assert result["verdict"] == "backdoored"
    assert found_triggers(tmp_path / "scans/net")[0][0] == TARGET


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="names of bytes are Linux'")
def test_a_name_that_is_no_text(tmp_path, short_scans, zoo_folder):
    model = Path(os.fsdecode(os.fsencode(tmp_path) + b"/net\xff.h5"))
    shutil.copy(zoo_folder / "nets/planted.h5", model)
    (suspect,) = read_model_list(model, zoo_folder / "unlabelled.h5")
    (result,) = audit([suspect], out=tmp_path / "out")
    assert result["verdict"] == "backdoored"
    assert audit([suspect], out=tmp_path / "out")[0]["targets"] == [TARGET]


def test_an_audit_that_is_stopped_ends_at_once(zoo_folder, tmp_path, short_scans, monkeypatch):
    suspects = read_model_list(zoo_folder / "nets", zoo_folder / "unlabelled.h5")

    def stopped(going):
        raise KeyboardInterrupt

    monkeypatch.setattr(auditing, "as_completed", stopped)
    with SerialExecutor() as engine:
        with pytest.raises(KeyboardInterrupt):
            audit(suspects, out=tmp_path / "out", executor=engine)
        assert engine.closed
    assert len(list((tmp_path / "out/nets").glob("*.json"))) < len(suspects)
