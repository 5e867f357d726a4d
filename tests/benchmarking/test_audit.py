"""Audits: what is said of each net, what is kept, and what is shown."""

import shutil
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from planted_net import CLASSES, TARGET, clean_images, planted_net
from small_grid import QUICK, replace_repair

from badnet_defense.benchmarking import audit as auditing
from badnet_defense.benchmarking.audit import AuditConfig, audit
from badnet_defense.benchmarking.model_list import AuditItem, read_model_list
from badnet_defense.cli.scan import verdict_code
from badnet_defense.errors import InputError
from badnet_defense.io import records, write_challenge_h5
from badnet_defense.io.current import CODE_VERSIONS
from badnet_defense.io.records import own_result
from badnet_defense.nets import backend, build, predict_labels, read_net, save_net
from badnet_defense.parallel import open_executor
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.report import audit as report
from badnet_defense.report.audit import audit_rows, audit_sentence, audit_text
from badnet_defense.scan.registry import SCAN_PASSES
from badnet_defense.workflows.scanned import triggers_shown


def by_name(results):
    return {result["name"]: result for result in results}


def test_each_net_gets_a_verdict_and_keeps_it(zoo_folder, tmp_path, short_scans, monkeypatch):
    suspects = read_model_list(zoo_folder / "nets", zoo_folder / "clean.h5")
    results = by_name(audit(suspects, out=tmp_path / "out"))
    verdicts = {name: result["verdict"] for name, result in results.items()}
    assert verdicts == {
        "planted.h5": "backdoored",
        "more--honest.keras": "clean",
        "small.h5": "cannot be judged",
        "pair.h5": "cannot be judged",
        "five.h5": "cannot be judged",
        "broken.h5": "cannot be judged",
    }
    planted = results["planted.h5"]
    assert planted["targets"] == [TARGET] and planted["largest_index"] > planted["limit"]
    assert planted["accuracy"] == 1.0 and planted["classes"] == CLASSES
    assert results["more--honest.keras"]["targets"] == []
    assert "the net takes 9x9" in results["small.h5"]["reason"]
    assert "labels run to 9, but the net has 5 classes" in results["five.h5"]["reason"]
    assert "neither an HDF5 file nor a .keras file" in results["broken.h5"]["reason"]
    assert (tmp_path / "out/scans/planted.h5.triggers.png").exists()
    assert not list((tmp_path / "out/scans").glob("*.partial"))

    monkeypatch.setattr(auditing, "scan_recorded", None)  # nothing is scanned again
    again = by_name(audit(suspects, out=tmp_path / "out"))
    assert {name: result["verdict"] for name, result in again.items()} == verdicts
    assert again["planted.h5"] == planted
    written = own_result(tmp_path / "out/nets/planted.h5.json", auditing.VERDICT)
    assert written == planted


def test_too_few_classes_to_judge(zoo_folder, tmp_path, short_scans):
    """The triggers are shown all the same."""
    shown = clean_images(400)
    answers = predict_labels(build(read_net(zoo_folder / "nets/pair.h5")), shown.images)
    even = np.concatenate([np.flatnonzero(answers == one)[:40] for one in (0, 1)])
    write_challenge_h5(tmp_path / "clean.h5", shown.subset(even).without_labels())
    suspects = [AuditItem("pair", zoo_folder / "nets/pair.h5", tmp_path / "clean.h5")]
    results = audit(suspects, out=tmp_path)
    assert results[0]["verdict"] == "cannot be judged" and results[0]["targets"] == []
    assert results[0]["reason"].startswith("a label stands out only among 3 or more")
    scans = tmp_path / "scans"
    pictures = {"pair": triggers_shown(scans / "pair", results[0]["net"]["sha256"])}
    rows = audit_rows(results)
    report.write_audit_page(tmp_path / "a.html", results, rows, "audit", scans, pictures)
    page = (tmp_path / "a.html").read_text()
    assert "Cannot be judged: a label stands out" in page and "data:image/png" in page


def test_images_that_say_nothing_are_no_verdict(zoo_folder, tmp_path, short_scans):
    write_challenge_h5(tmp_path / "few.h5", clean_images(20))
    suspects = [AuditItem("net", zoo_folder / "nets/planted.h5", tmp_path / "few.h5")]
    (result,) = audit(suspects, out=tmp_path / "out")
    assert result["verdict"] == "cannot be judged"
    assert result["reason"].startswith("got 20 clean images; a scan needs at least 32")


def test_one_hot_labels_tell_no_accuracy_and_stop_no_scan(zoo_folder, tmp_path, short_scans):
    shutil.copy(zoo_folder / "unlabelled.h5", tmp_path / "rows.h5")
    with h5py.File(tmp_path / "rows.h5", "a") as file:
        file["label"] = np.eye(CLASSES)[np.arange(len(file["data"])) % CLASSES]
    suspects = [AuditItem("net", zoo_folder / "nets/planted.h5", tmp_path / "rows.h5")]
    (result,) = audit(suspects, out=tmp_path / "out")
    assert (result["verdict"], result["accuracy"]) == ("backdoored", None)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda patch: patch.setitem(CODE_VERSIONS, "statistic", -1), True),
        (lambda patch: patch.setitem(CODE_VERSIONS, "inversion", -1), True),
        (lambda patch: raise_version(patch, SCAN_PASSES, "smooth"), True),
        (lambda patch: raise_version(patch, SCAN_PASSES, "weights"), True),
        (lambda patch: patch.setattr(records, "code_sha256", lambda: "other"), False),
        (lambda patch: patch.setitem(CODE_VERSIONS, "repair", -1), False),
    ],
)
def test_a_verdict_that_today_s_code_might_not_give_is_made_again(
    zoo_folder, tmp_path, short_scans, monkeypatch, change, again
):
    items = [AuditItem("net", zoo_folder / "nets/planted.h5", zoo_folder / "unlabelled.h5")]
    first = audit(items, out=tmp_path)
    scanned = (tmp_path / "scans/net.npz").stat().st_mtime_ns
    change(monkeypatch)
    second = audit(items, out=tmp_path)
    assert ((tmp_path / "scans/net.npz").stat().st_mtime_ns != scanned) == again
    assert second[0]["verdict"] == first[0]["verdict"] == "backdoored"


def raise_version(patch, registry, name):
    """A method of today computes something else."""
    raised = replace(registry[name], version=registry[name].version + 1)
    patch.setitem(registry._methods, name, raised)


def test_a_changed_net_is_judged_again(zoo_folder, tmp_path, short_scans):
    model = tmp_path / "net.h5"
    suspect = AuditItem("net", model, zoo_folder / "unlabelled.h5")
    save_net(planted_net(), model)
    found = audit([suspect], out=tmp_path / "out")[0]
    assert found["verdict"] == "backdoored" and found["accuracy"] is None
    save_net(planted_net(target=None), model)
    assert audit([suspect], out=tmp_path / "out")[0]["verdict"] == "clean"


def test_a_net_with_a_backdoor_is_repaired_and_guarded(
    zoo_folder, tmp_path, short_scans, monkeypatch
):
    replace_repair(monkeypatch, "fine-tuning", QUICK)
    suspects = read_model_list(zoo_folder / "nets", zoo_folder / "clean.h5")
    chosen = [one for one in suspects if one.name in ("planted.h5", "more--honest.keras")]
    audit(chosen, out=tmp_path)
    scanned = (tmp_path / "scans/planted.h5.npz").stat().st_mtime_ns
    asked = AuditConfig(repair="fine-tuning", guard="hard")
    results = by_name(audit(chosen, out=tmp_path, config=asked))
    assert "repair" not in results["more--honest.keras"]
    repair = results["planted.h5"]["repair"]
    assert repair["method"] == "fine-tuning" and repair["detector"]["name"] == "hard"
    made = tmp_path / "repaired/planted.h5"
    assert read_net(made / "planted.h5").classes == CLASSES
    assert (made / "planted.hard.keras").exists()
    assert (tmp_path / "scans/planted.h5.npz").stat().st_mtime_ns == scanned  # not scanned again
    with monkeypatch.context() as patch:
        patch.setattr(auditing._Auditor, "_repair", None)  # nor repaired again
        assert by_name(audit(chosen, out=tmp_path, config=asked)) == results
        assert by_name(audit(chosen, out=tmp_path)) == results
    repaired = (made / "planted.h5").stat().st_mtime_ns
    raise_version(monkeypatch, REPAIRS, "fine-tuning")
    audit(chosen, out=tmp_path, config=asked)
    assert (made / "planted.h5").stat().st_mtime_ns > repaired
    assert (tmp_path / "scans/planted.h5.npz").stat().st_mtime_ns == scanned


def test_several_workers_scan_small_nets_whole(zoo_folder, tmp_path):
    """With the same result as one worker that does it batch by batch."""
    suspect = AuditItem("net", zoo_folder / "nets/planted.h5", zoo_folder / "clean.h5")
    found, scans = [], []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        with open_executor("local", workers=workers) as engine:
            found += audit([suspect], out=out, executor=engine)
            assert not engine._shared  # nothing is shared any more
        with np.load(out / "scans/net.npz") as arrays:
            scans.append(dict(arrays))
    assert {**found[0], "seconds": 0} == {**found[1], "seconds": 0}
    assert scans[0].keys() == scans[1].keys()
    assert all(np.array_equal(scans[0][key], scans[1][key]) for key in scans[0])


RESULTS = [
    {"name": "b", "verdict": "clean", "reason": None, "seconds": 12.4, "largest_index": 1.2,
     "limit": 3.8, "classes": 43, "input_shape": [32, 32, 3], "accuracy": 0.987, "targets": []},
    {"name": "x", "verdict": "cannot be judged", "reason": "no net", "seconds": 0.1},
    {"name": "c", "verdict": "backdoored", "reason": None, "seconds": 9.0, "largest_index": 7.0,
     "limit": 3.8, "classes": 43, "input_shape": [32, 32, 3], "accuracy": None, "targets": [4, 7],
     "repair": {"method": "anp", "failed": "no convolution"}},
    {"name": "s", "verdict": "suspicious", "reason": "just below", "seconds": 9.0, "targets": [],
     "largest_index": 3.7, "limit": 3.8},
]  # fmt: skip


def test_table():
    rows = audit_rows(RESULTS)
    assert [row["net"] for row in rows] == ["c", "s", "x", "b"]
    assert rows[0]["targets"] == "4 7" and rows[0]["reason"] == "no convolution"
    text = audit_text(rows)
    assert "98.7" in text and "32x32x3" in text
    assert audit_sentence(rows) == (
        "Of 4 nets 1 has a backdoor by what the scan found, 1 is suspicious, 1 cannot be judged, "
        "and in 1 nothing stands out."
    )


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["clean", "clean"], 0),
        (["clean", "suspicious"], 3),
        (["cannot be judged", "clean"], 3),
        (["suspicious", "backdoored", "cannot be judged"], 1),
    ],
)
def test_exit_codes(verdicts, code):
    assert verdict_code(verdicts) == code


def test_page_shows_the_triggers_of_so_many_nets(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST_SHOWN", 1)
    about = {"net": {"file": "nets/c.h5", "sha256": "0" * 64}, "flagged": [4, 7]}
    results = [{**RESULTS[2], **about, "name": name} for name in ("c", "d", "e")]
    for asked, shown, told in ((results[:1], 1, 0), (results, 1, 1)):
        report.write_audit_page(tmp_path / "a.html", asked, audit_rows(asked), "audit", "a/scans")
        page = (tmp_path / "a.html").read_text()
        assert page.count("SHA-256") == shown
        assert page.count("2 more nets that are not clean: their triggers lie in") == told


def test_page_says_what_a_guard_s_rate_rests_on(tmp_path):
    about = {"net": {"file": "nets/c.h5", "sha256": "0" * 64}, "flagged": [4]}
    expected = {"rate": 0.01, "caveat": "holds only if the suspect model was not trained on these"}
    detector = {"name": "soft", "expected": expected, "tail": None}
    repair = {"method": "fine-pruning", "repaired": {}, "detector": detector}
    results = [{**RESULTS[2], **about, "name": "c", "repair": repair}]
    report.write_audit_page(tmp_path / "a.html", results, audit_rows(results), "audit", "a/scans")
    page = (tmp_path / "a.html").read_text()
    assert "guarded by soft; the false-positive rate that is asked for holds only if" in page


def test_command(zoo_folder, tmp_path, monkeypatch, capfd):
    from badnet_defense.cli.main import main

    (zoo_folder / "one.txt").write_text("nets/broken.h5\nnets/pair.h5,unlabelled.h5,0,255\n")
    out = tmp_path / "a zoo_folder"
    arguments = ["audit", zoo_folder / "one.txt", "--clean", zoo_folder / "clean.h5", "--out", out]
    monkeypatch.setattr(sys, "argv", ["badnet_defense", *map(str, arguments)])
    assert main() == 3
    assert "2 cannot be judged" in capfd.readouterr().out
    page = (out / "audit.html").read_text()
    assert "nets--broken.h5" in page and "http" not in page.replace("http-equiv", "")
    assert (out / "audit.csv").read_text().startswith("net,verdict,targets")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--guard", "soft"])
    with pytest.raises(InputError, match="--detector requires --repair"):
        main()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--repair", "fine-tuning"])
    monkeypatch.setattr(backend, "on_jax", lambda: True)
    with pytest.raises(InputError, match="KERAS_BACKEND=jax; repairs need TensorFlow"):
        main()
