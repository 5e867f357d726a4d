"""Audits: which nets are taken, what is said of each, and what is kept."""

import json
import sys
from dataclasses import replace
from functools import partial

import pytest
from keras import layers
from planted_net import CLASSES, SETTINGS, SHAPE, TARGET, clean_images, planted_net
from small_nets import net

from badnet_defense.data import write_challenge_h5
from badnet_defense.errors import InputError
from badnet_defense.nets import read_net, save_net
from badnet_defense.repair.recipes import RECIPES
from badnet_defense.repair.tuning_alone import tune_alone
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
        "broken.h5": "cannot be judged",
    }
    planted = results["planted.h5"]
    assert planted["targets"] == [TARGET] and planted["largest_index"] > planted["limit"]
    assert planted["accuracy"] == 1.0 and planted["classes"] == CLASSES
    assert results["more--honest.keras"]["targets"] == []
    assert "the net takes 9x9" in results["small.h5"]["reason"]
    assert "labels run to 9, but the net has 2 classes" in results["pair.h5"]["reason"]
    assert "neither an HDF5 file nor a .keras file" in results["broken.h5"]["reason"]
    assert (tmp_path / "out/scans/planted.h5.triggers.png").exists()
    assert not list((tmp_path / "out/scans").glob("*.partial"))

    monkeypatch.setattr(auditing._Auditor, "_judged", None)  # nothing is judged again
    assert by_name(audit(suspects, out=tmp_path / "out")) == results
    written = json.loads((tmp_path / "out/nets/planted.h5.json").read_text())
    assert written == planted


def test_too_few_classes_to_judge(folder, tmp_path, short):
    suspects = [zoo.Suspect("pair", folder / "nets/pair.h5", folder / "unlabelled.h5")]
    (result,) = audit(suspects, out=tmp_path)
    assert result["verdict"] == "cannot be judged" and result["accuracy"] is None
    assert result["reason"].startswith("2 classes came, expected at least 3")


def test_a_changed_net_is_judged_again(folder, tmp_path, short):
    model = tmp_path / "net.h5"
    suspect = zoo.Suspect("net", model, folder / "unlabelled.h5")
    save_net(planted_net(), model)
    assert audit([suspect], out=tmp_path / "out")[0]["verdict"] == "backdoored"
    save_net(planted_net(target=None), model)
    assert audit([suspect], out=tmp_path / "out")[0]["verdict"] == "clean"


def test_a_net_with_a_backdoor_is_repaired_and_guarded(folder, tmp_path, short, monkeypatch):
    quick = partial(tune_alone, recipe=replace(RECIPES["classic"], epochs=1))
    monkeypatch.setitem(methods.METHODS, "fine-tuning", quick)
    suspects = zoo.read_zoo(folder / "nets", folder / "clean.h5")
    chosen = [one for one in suspects if one.name in ("planted.h5", "more--honest.keras")]
    asked = Asked(repair="fine-tuning", guard="hard")
    results = by_name(audit(chosen, out=tmp_path, asked=asked))
    assert "repair" not in results["more--honest.keras"]
    repair = results["planted.h5"]["repair"]
    assert repair["method"] == "fine-tuning" and repair["detector"]["name"] == "hard"
    made = tmp_path / "repaired/planted.h5"
    assert read_net(made / "planted.h5").classes == CLASSES
    assert (made / "planted.hard.keras").exists()


def test_lists(folder, tmp_path):
    text = "# suspects\n\nnets/planted.h5\nnets/small.h5, other.h5\n"
    (folder / "list.csv").write_text(text)
    found = zoo.read_zoo(folder / "list.csv", tmp_path / "clean.h5")
    assert found == [
        zoo.Suspect("planted.h5", folder / "nets/planted.h5", tmp_path / "clean.h5"),
        zoo.Suspect("small.h5", folder / "nets/small.h5", folder / "other.h5"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it holds no nets"),
        ("a.h5\nb/a.h5\n", "two nets are called a.h5"),
        ("a.h5,b.h5,c.h5", "expected NET or NET,CLEAN"),
        (",b.h5", "expected NET or NET,CLEAN"),
        (b"\xff\xfe\x00", "no list of nets"),
    ],
)
def test_lists_that_are_none(tmp_path, text, message):
    path = tmp_path / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        zoo.read_zoo(path, "clean.h5")


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such folder or list"):
        zoo.read_zoo(tmp_path / "missing", "clean.h5")
    with pytest.raises(InputError, match="holds no nets"):
        zoo.read_zoo(tmp_path, "clean.h5")
    (tmp_path / "net.h5").touch()
    with pytest.raises(InputError, match="give --clean"):
        zoo.read_zoo(tmp_path)
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


def test_command(folder, tmp_path, monkeypatch, capfd):
    from badnet_defense.__main__ import main

    (folder / "one.txt").write_text("nets/broken.h5\n")
    out = tmp_path / "a folder"
    arguments = ["audit", folder / "one.txt", "--clean", folder / "clean.h5", "--out", out]
    monkeypatch.setattr(sys, "argv", ["badnet_defense", *map(str, arguments)])
    main()
    assert "1 cannot be judged" in capfd.readouterr().out
    page = (out / "audit.html").read_text()
    assert "broken.h5" in page and "http" not in page.replace("http-equiv", "")
    assert (out / "audit.csv").read_text().startswith("net,verdict,targets")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--guard", "soft"])
    with pytest.raises(InputError, match="--guard came without --repair"):
        main()
