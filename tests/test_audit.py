"""Audits: which nets are taken, what is said of each, and what is kept."""

import json
import re
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from keras import layers
from planted_net import CLASSES, SETTINGS, SHAPE, TARGET, clean_images, planted_net
from small_nets import net

from badnet_defense.data import write_challenge_h5
from badnet_defense.engine import Serial
from badnet_defense.errors import InputError
from badnet_defense.nets import read_net, save_net
from badnet_defense.repair.recipes import RECIPES
from badnet_defense.repair.tuning_alone import tune_alone
from badnet_defense.report import audit as report
from badnet_defense.report.audit import audit_rows, audit_sentence, audit_text
from badnet_defense.runs import auditing, methods, zoo
from badnet_defense.runs.auditing import Asked, audit
from badnet_defense.scan import scan as scanning
from badnet_defense.scan import schedule
from badnet_defense.scan.schedule import Rung

RUNGS = (Rung(25, 8, shift=0.1), Rung(40, 16, shift=0.1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of suspects: planted, clean, of other pictures, of two classes, and no net."""
    root = tmp_path_factory.mktemp("zoo")
    save_net(planted_net(), root / "nets/planted.h5")
    (root / "nets/more").mkdir()
    save_net(planted_net(target=None), root / "nets/more/honest.keras")
    small = net([layers.Flatten(), layers.Dense(CLASSES)], shape=(9, 9, 3))
    save_net(small, root / "nets/small.h5")
    pair = net([layers.Flatten(), layers.Dense(2)], shape=SHAPE)
    save_net(pair, root / "nets/pair.h5")
    five = net([layers.Flatten(), layers.Dense(5)], shape=SHAPE)
    save_net(five, root / "nets/five.h5")
    (root / "nets/broken.h5").write_bytes(b"no net at all")
    write_challenge_h5(root / "clean.h5", clean_images())
    write_challenge_h5(root / "unlabelled.h5", clean_images().without_labels())
    return root


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setitem(schedule.BUDGETS, "fast", RUNGS)
    monkeypatch.setattr(scanning, "Inversion", lambda: SETTINGS)


def by_name(results):
    return {result["name"]: result for result in results}


def test_each_net_gets_a_verdict_and_keeps_it(folder, tmp_path, short, monkeypatch):
    suspects = zoo.read_zoo(folder / "nets", folder / "clean.h5")
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

    monkeypatch.setattr(auditing, "scan_pictures", None)  # nothing is scanned again
    again = by_name(audit(suspects, out=tmp_path / "out"))
    assert {name: result["verdict"] for name, result in again.items()} == verdicts
    assert again["planted.h5"] == planted
    written = json.loads((tmp_path / "out/nets/planted.h5.json").read_text())
    assert written == planted


def test_too_few_classes_to_judge(folder, tmp_path, short):
    suspects = [zoo.Suspect("pair", folder / "nets/pair.h5", folder / "unlabelled.h5")]
    (result,) = audit(suspects, out=tmp_path)
    assert result["verdict"] == "cannot be judged"
    assert result["reason"].startswith("2 classes came, expected at least 3")


def test_a_changed_net_is_judged_again(folder, tmp_path, short):
    model = tmp_path / "net.h5"
    suspect = zoo.Suspect("net", model, folder / "unlabelled.h5")
    save_net(planted_net(), model)
    found = audit([suspect], out=tmp_path / "out")[0]
    assert found["verdict"] == "backdoored" and found["accuracy"] is None
    save_net(planted_net(target=None), model)
    assert audit([suspect], out=tmp_path / "out")[0]["verdict"] == "clean"


def test_what_could_not_be_judged_is_tried_again(folder, tmp_path, short, monkeypatch):
    """Also an error that nobody thought of, which does not end the audit of the others."""
    suspects = [
        zoo.Suspect(name, folder / "nets/planted.h5", folder / "unlabelled.h5") for name in "ab"
    ]
    whole = auditing.read_net

    def failing(path, calls=[]):  # noqa: B006
        calls.append(path)
        if len(calls) == 1:
            raise ArithmeticError("not a number,\nbut two lines")
        return whole(path)

    with monkeypatch.context() as patch:
        patch.setattr(auditing, "read_net", failing)
        first = audit(suspects, out=tmp_path / "out")
    assert [result["verdict"] for result in first] == ["cannot be judged", "backdoored"]
    assert first[0]["reason"] == "ArithmeticError: not a number, but two lines"
    again = audit(suspects, out=tmp_path / "out")
    assert [result["verdict"] for result in again] == ["backdoored"] * 2


def test_a_net_whose_answers_overflow(folder, tmp_path, short):
    model = planted_net()
    model.get_layer("by_colour").set_weights(
        [weight * np.float32(1e36) for weight in model.get_layer("by_colour").get_weights()]
    )
    save_net(model, tmp_path / "huge.h5")
    suspect = zoo.Suspect("huge", tmp_path / "huge.h5", folder / "unlabelled.h5")
    (result,) = audit([suspect], out=tmp_path / "out")
    assert result["verdict"] in ("cannot be judged", "clean")


def test_an_audit_that_is_stopped_ends_at_once(folder, tmp_path, short, monkeypatch):
    suspects = zoo.read_zoo(folder / "nets", folder / "unlabelled.h5")

    def stopped(going):
        raise KeyboardInterrupt

    monkeypatch.setattr(auditing, "as_completed", stopped)
    with Serial() as engine:
        with pytest.raises(KeyboardInterrupt):
            audit(suspects, out=tmp_path / "out", engine=engine)
        assert engine.closed
    assert len(list((tmp_path / "out/nets").glob("*.json"))) < len(suspects)


def test_a_net_with_a_backdoor_is_repaired_and_guarded(folder, tmp_path, short, monkeypatch):
    quick = partial(tune_alone, recipe=replace(RECIPES["classic"], epochs=1))
    monkeypatch.setitem(methods.METHODS, "fine-tuning", quick)
    suspects = zoo.read_zoo(folder / "nets", folder / "clean.h5")
    chosen = [one for one in suspects if one.name in ("planted.h5", "more--honest.keras")]
    audit(chosen, out=tmp_path)
    scanned = (tmp_path / "scans/planted.h5.npz").stat().st_mtime_ns
    asked = Asked(repair="fine-tuning", guard="hard")
    results = by_name(audit(chosen, out=tmp_path, asked=asked))
    assert "repair" not in results["more--honest.keras"]
    repair = results["planted.h5"]["repair"]
    assert repair["method"] == "fine-tuning" and repair["detector"]["name"] == "hard"
    made = tmp_path / "repaired/planted.h5"
    assert read_net(made / "planted.h5").classes == CLASSES
    assert (made / "planted.hard.keras").exists()
    assert (tmp_path / "scans/planted.h5.npz").stat().st_mtime_ns == scanned  # not scanned again
    monkeypatch.setattr(auditing._Auditor, "_repaired", None)  # nor repaired again
    assert by_name(audit(chosen, out=tmp_path, asked=asked)) == results
    assert by_name(audit(chosen, out=tmp_path)) == results


def test_lists(folder):
    (folder / "list.csv").write_text(
        "# suspects\n\nnets/planted.h5\nnets/small.h5, unlabelled.h5\n"
    )
    found = zoo.read_zoo(folder / "list.csv", folder / "clean.h5")
    assert found == [
        zoo.Suspect("nets--planted.h5", folder / "nets/planted.h5", folder / "clean.h5"),
        zoo.Suspect("nets--small.h5", folder / "nets/small.h5", folder / "unlabelled.h5"),
    ]
    one = zoo.read_zoo(folder / "nets/planted.h5", folder / "clean.h5")
    assert [suspect.name for suspect in one] == ["planted.h5"]


def test_results_and_clean_pictures_are_no_suspects(folder, tmp_path):
    for name in ("net.H5", "clean.h5", "out/repaired/a.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = zoo.read_zoo(tmp_path, tmp_path / "clean.h5", out=tmp_path / "out")
    assert [suspect.name for suspect in found] == ["net.H5"]


@pytest.mark.parametrize(
    "name", ["a\x1b[31m.h5", "../../a.h5", "a$x^$b.h5", "\udcff.h5", "=1+1.h5", "x" * 250 + ".h5"]
)
def test_names_are_made_plain(name):
    found = zoo.plain(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}", found)
    assert found != zoo.plain(name + "x") and zoo.plain("a/b-1.h5") == "a--b-1.h5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it holds no nets"),
        ("a.h5\n./a.h5\n", "a.h5 comes twice"),
        ("a.h5,b.h5,c.h5", "expected NET or NET,CLEAN"),
        (",b.h5", "expected NET or NET,CLEAN"),
        (b"\xff\xfe\x00", "no list of nets"),
        ("a.h5\0", "no list of nets"),
        ("a.h5,missing.h5", "missing.h5: no such file or folder"),
    ],
)
def test_lists_that_are_none(tmp_path, text, message):
    path = tmp_path / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "clean.h5").touch()
    with pytest.raises(InputError, match=message):
        zoo.read_zoo(path, tmp_path / "clean.h5")


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such folder or list"):
        zoo.read_zoo(tmp_path / "missing", "clean.h5")
    with pytest.raises(InputError, match="holds no nets"):
        zoo.read_zoo(tmp_path, "clean.h5")
    (tmp_path / "net.h5").touch()
    with pytest.raises(InputError, match="give --clean"):
        zoo.read_zoo(tmp_path)
    with pytest.raises(InputError, match=r"clean\.h5: no such file or folder"):
        zoo.read_zoo(tmp_path, tmp_path / "clean.h5")
    (tmp_path / "out.h5").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="link out of"):
        zoo.read_zoo(tmp_path, "clean.h5")


RESULTS = [
    {"name": "b", "verdict": "clean", "reason": None, "seconds": 12.4, "largest_index": 1.2,
     "limit": 3.8, "classes": 43, "input_shape": [32, 32, 3], "accuracy": 0.987, "targets": []},
    {"name": "x", "verdict": "cannot be judged", "reason": "no net", "seconds": 0.1},
    {"name": "c", "verdict": "backdoored", "reason": None, "seconds": 9.0, "largest_index": 7.0,
     "limit": 3.8, "classes": 43, "input_shape": [32, 32, 3], "accuracy": None, "targets": [4, 7],
     "repair": {"method": "anp", "failed": "no convolution"}},
]  # fmt: skip


def test_table():
    rows = audit_rows(RESULTS)
    assert [row["net"] for row in rows] == ["c", "x", "b"]
    assert rows[0]["targets"] == "4 7" and rows[0]["reason"] == "no convolution"
    text = audit_text(rows)
    assert "98.7" in text and "32x32x3" in text
    assert audit_sentence(rows) == (
        "Of 3 nets 1 has a backdoor by what the scan found, in 1 nothing stands out, and 1 cannot "
        "be judged."
    )


def test_page_shows_the_triggers_of_so_many_nets(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST_SHOWN", 1)
    about = {"net": {"file": "nets/c.h5", "sha256": "0" * 64}}
    results = [{**RESULTS[2], **about, "name": name} for name in ("c", "d", "e")]
    for asked, shown, told in ((results[:1], 1, 0), (results, 1, 1)):
        report.write_audit_page(tmp_path / "a.html", asked, audit_rows(asked), "audit", "a/scans")
        page = (tmp_path / "a.html").read_text()
        assert page.count("SHA-256") == shown
        assert page.count("2 more nets with a backdoor: their triggers lie in") == told


def test_command(folder, tmp_path, monkeypatch, capfd):
    from badnet_defense.__main__ import main

    (folder / "one.txt").write_text("nets/broken.h5\n")
    out = tmp_path / "a folder"
    arguments = ["audit", folder / "one.txt", "--clean", folder / "clean.h5", "--out", out]
    monkeypatch.setattr(sys, "argv", ["badnet_defense", *map(str, arguments)])
    main()
    assert "1 cannot be judged" in capfd.readouterr().out
    page = (out / "audit.html").read_text()
    assert "nets--broken.h5" in page and "http" not in page.replace("http-equiv", "")
    assert (out / "audit.csv").read_text().startswith("net,verdict,targets")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--guard", "soft"])
    with pytest.raises(InputError, match="--guard came without --repair"):
        main()
