"""eval_defense.py and its sisters as users call them, and what a fresh clone answers."""

import json
import re
from pathlib import Path

import numpy as np
from small_nets import CLASSES, images
from small_project import ROOT, SPACES, message, start

from badnet_defense.io import write_challenge_h5

# eval_defense.py ---------------------------------------------------------------------------------


def test_eval_defense_with_trigger_labels_and_spaces(call, repaired, tmp_path):
    triggered = np.arange(30) < 20
    np.save(tmp_path / "triggered.npy", triggered)
    code, out, _ = call(
        *("eval_defense.py", SPACES, "models/sunglasses_bd_net.h5", tmp_path / "triggered.npy"),
        *("--json", tmp_path / "result.json"),
    )
    assert code == 0
    for words in ("clean validation", "clean test", "poisoned", "truly triggered", "truly clean"):
        assert words in out
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["data"]) == {"clean_validation", "clean_test", "poisoned", "trigger_labels"}
    assert result["schema"] == 1 and result["classes"] == CLASSES
    for stage in ("bad", "pruned", "repaired", "guard"):
        assert {"accuracy", "accuracy_interval"} <= set(result[stage]["clean_test"])
        assert {"attack_success", "attack_success_interval"} <= set(result[stage]["poisoned"])
        assert result[stage]["truly_triggered"]["pictures"] == 20
        assert result[stage]["truly_clean"]["pictures"] == 10
    assert {"flagged", "attack_success", "der"} <= set(result["guard"]["poisoned"])
    assert result["bad"]["clean_test"]["accuracy"] == 1.0
    assert {"layer", "channels", "removed", "max_accuracy_drop", "curve"} <= set(result["pruning"])


def test_eval_defense_nodata(call, repaired, tmp_path):
    model = "models/sunglasses_bd_net.h5"
    code, out, _ = call("eval_defense_nodata.py", model, "--json", tmp_path / "result.json")
    result = json.loads((tmp_path / "result.json").read_text())
    assert code == 0 and "clean test" in out and "poisoned" not in result["guard"]


def test_a_detector_that_asks_the_suspect_model_alone_makes_no_repair(
    call, project, tmp_path, caplog
):
    model, folder = "models/sunglasses_bd_net.h5", tmp_path / "repaired"
    how = ("--detector", "sentinet", "--false-positive-rate", "0.1", "--models", folder)
    json_file = tmp_path / "result.json"
    code, out, told = call("eval_defense.py", SPACES, model, *how, "--json", json_file)
    assert code == 0 and not folder.exists(), told
    assert "no repair is made" in caplog.text
    result = json.loads(json_file.read_text())
    assert {"bad", "guard"} == {"bad", "pruned", "repaired", "guard"} & set(result)
    assert result["repair"] is None and result["pruning"] is None
    assert "repaired" not in out and "guard" in out and "attack success" in out


def test_too_few_clean_images_are_refused_before_a_repair(call, project, tmp_path):
    write_challenge_h5(tmp_path / "four.h5", images(4))
    model, folder = "models/sunglasses_bd_net.h5", tmp_path / "repaired"
    asked = ("--detector", "soft", "--false-positive-rate", "0.05", "--models", folder)
    given = ("--clean-validation", tmp_path / "four.h5")
    told = message(call("eval_defense.py", SPACES, model, *asked, *given))
    assert "needs at least 19 clean images for a false-positive rate of 5 %, got 4" in told
    assert not folder.exists()


def test_summary_joins_results(repaired, tmp_path):
    project, _ = repaired
    file = "fine_pruned_models/sunglasses_bd_net.json"
    target = str(tmp_path / "summary.json")
    done = start(project, "-m", "badnet_defense", "summary", file, file, "--json", target)
    assert done.returncode == 0 and done.stdout.count("sunglasses_bd_net") == 2
    assert len(json.loads(Path(target).read_text())["results"]) == 2


def test_refusals_of_eval_defense(call, repaired, tmp_path):
    model = "models/sunglasses_bd_net.h5"
    np.save(tmp_path / "short.npy", np.ones(3, bool))
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    for labels, words in (("short.npy", "3 trigger labels for 30"), ("evil.pkl", "pickle")):
        told = message(call("eval_defense.py", SPACES, model, tmp_path / labels))
        assert words in told
    assert "no such file" in message(call("eval_defense.py", "nothing.h5", model))
    other = ("--repaired", "models/anonymous_1_bd_net.h5")
    assert "does not say which model" in message(call("eval_defense.py", SPACES, model, *other))


def test_fresh_clone_answers_a_demo_picture():
    pictures = sorted((ROOT / "data/pictures").glob("*_clean.png"))
    done = start(ROOT, "eval.py", str(pictures[0]))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d{1,4}\n", done.stdout) and int(done.stdout) <= 1283


def test_missing_net_as_a_process():
    done = start(ROOT, "fine_prune.py", "models/nothing.h5")
    assert message((done.returncode, done.stdout, done.stderr)).startswith(
        "models/nothing.h5: no such"
    )


def test_architecture_prints_deep_id():
    done = start(ROOT, "architecture.py")
    assert done.returncode == 0 and "conv_3" in done.stdout and "1283" in done.stdout
