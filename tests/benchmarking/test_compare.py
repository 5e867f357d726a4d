"""The grid: what is run, what is not run again, and what a failure leaves."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from small_grid import ASKED, QUICK, compared, replace_repair
from small_nets import images
from small_project import SPACES, small_challenge_net

from badnet_defense.benchmarking import compare as comparing
from badnet_defense.benchmarking.cases import POISONED, read_case
from badnet_defense.benchmarking.compare import CompareConfig
from badnet_defense.detectors.registry import DETECTORS
from badnet_defense.errors import InputError, LostTaskError
from badnet_defense.io import current, file_sha256, records, write_challenge_h5
from badnet_defense.io.current import CODE_VERSIONS
from badnet_defense.io.records import provenance, write_json
from badnet_defense.nets import read_net, save_net
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.parallel import SerialExecutor
from badnet_defense.repairs.fine_tuning import FineTuningConfig
from badnet_defense.repairs.recipes import RECIPES, Recipe
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.scan.scan import ALL_LABELS, scan_dependencies


def files(out):
    return {path.name: path.stat().st_mtime_ns for path in Path(out).glob("runs/*.json")}


# The grid ----------------------------------------------------------------------------------------


def test_detectors_that_need_no_repair_run_once_for_each_seed():
    found = CompareConfig(repairs=("anp", "ft-sam"), detectors=("soft", "strip"), seeds=(0, 1))
    assert found.groups() == [
        *[("none", 0, ["strip"]), ("anp", 0, ["soft"]), ("ft-sam", 0, ["soft"])],
        *[("none", 1, ["strip"]), ("anp", 1, ["soft"]), ("ft-sam", 1, ["soft"])],
    ]


def test_nets_as_they_are_named(project, tmp_path):
    data = tmp_path / "data"
    for name in (
        *("clean_validation_data.h5", "clean_test_data.h5"),
        *POISONED["multi_trigger_multi_target_bd_net"].values(),
    ):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    model = tmp_path / "multi_trigger_multi_target_bd_net.h5"
    model.touch()
    found = read_case(str(model), data=data)
    assert list(found.poisoned) == ["eyebrows", "lipstick", "sunglasses"]
    own = tmp_path / "yellow_poisoned_data.h5"
    own.touch()
    found = read_case(f"{model}={own}", data=data)
    assert found.poisoned == {"yellow": own}
    with pytest.raises(InputError, match=r"missing\.h5: no such file; expected MODEL"):
        read_case(f"{model}={tmp_path / 'missing.h5'}", data=data)


def test_runs_are_made_once(case, tmp_path, quick):
    out = tmp_path / "out"
    runs, failed = compared([case], out=out, **ASKED)
    assert not failed and [run["detector"] for run in runs] == ["sentinet", "hard"]
    before = files(out)
    assert set(before) == {
        "sunglasses_bd_net.fine-tuning.hard.0.json",
        "sunglasses_bd_net.none.sentinet.0.json",
    }
    again, _ = compared([case], out=out, **ASKED)
    assert files(out) == before
    written = [json.loads((out / "runs" / name).read_text()) for name in sorted(before)[::-1]]
    assert all(len(bytes.fromhex(one.pop("seal"))) == 32 for one in written)
    assert again == written
    write_challenge_h5(case.poisoned["lipstick"], replace(images(30, seed=9)))
    compared([case], out=out, **ASKED)
    assert all(files(out)[name] > before[name] for name in before)


def test_nets_and_triggers_of_one_name(case, project, tmp_path):
    with pytest.raises(InputError, match="two models are both named sunglasses_bd_net"):
        compared([case, case], out=tmp_path / "out", **ASKED)
    odd = tmp_path / "rate=0.1/net.h5"
    odd.parent.mkdir()
    shutil.copy(case.model, odd)
    assert read_case(str(odd), data=project / "data").model == odd
    with pytest.raises(
        InputError, match=r"clean_test_data\.h5: no such file; name clean test images"
    ):
        read_case(str(odd), data=tmp_path, validation=case.validation)
    twice = f"{case.model}={tmp_path / SPACES},{tmp_path / SPACES}"
    with pytest.raises(InputError, match="need different names"):
        read_case(twice, data=project / "data")
    doubled = CompareConfig(repairs=("anp",) * 2, detectors=("soft",) * 2, seeds=(0, 0))
    assert doubled.groups() == [("anp", 0, ["soft"])]


def test_a_repair_of_another_range_and_a_damaged_run_are_made_anew(case, tmp_path, quick):
    out = tmp_path / "out"
    compared([case], out=out, **ASKED)
    path = out / "runs/sunglasses_bd_net.fine-tuning.hard.0.json"
    path.write_text("{")
    net = out / "nets/fine-tuning.0/sunglasses_bd_net.h5"
    about, whole = net.with_suffix(".origin.json"), net.read_bytes()
    noted = json.loads(about.read_text())
    kept = noted["depends_on"]
    other = {**kept, "settings": {**kept["settings"], "input_range": "0,255"}}
    about.unlink()
    write_json(about, {**noted, "depends_on": other}, sealed=comparing.REPAIR)
    runs, failed = compared([case], out=out, **ASKED)
    assert len(runs) == 2 and not failed
    assert json.loads(about.read_text())["depends_on"] == kept
    assert json.loads(path.read_text())["detector"] == "hard"
    path.unlink()
    net.write_bytes(whole[:1000])
    assert not compared([case], out=out, **ASKED)[1]
    assert len(net.read_bytes()) == len(whole)


TWO = replace(RECIPES["classic"], epochs=2)


@dataclass(frozen=True, kw_only=True)
class TwoEpochs(FineTuningConfig):
    tuning: Recipe = TWO


def anew(before, out):
    """The runs that were made again."""
    return {name for name in before if files(out)[name] > before[name]}


FINE_TUNED = "sunglasses_bd_net.fine-tuning.hard.0.json"
UNREPAIRED = "sunglasses_bd_net.none.sentinet.0.json"


def test_a_changed_comment_makes_no_run_anew(case, tmp_path, quick, monkeypatch):
    out = tmp_path / "out"
    compared([case], out=out, **ASKED)
    before = files(out)
    monkeypatch.setattr(records, "code_sha256", lambda: "other")
    compared([case], out=out, **ASKED)
    assert not anew(before, out)


@pytest.mark.parametrize(
    ("registry", "name", "runs"),
    [
        (REPAIRS, "fine-tuning", {FINE_TUNED}),
        (DETECTORS, "sentinet", {UNREPAIRED}),
        (REPAIRS, "anp", set()),
    ],
)
def test_a_raised_version_makes_the_method_s_runs_anew(
    case, tmp_path, quick, monkeypatch, registry, name, runs
):
    out = tmp_path / "out"
    compared([case], out=out, **ASKED)
    before = files(out)
    raised = replace(registry[name], version=registry[name].version + 1)
    monkeypatch.setitem(registry._methods, name, raised)
    compared([case], out=out, **ASKED)
    assert anew(before, out) == runs


def test_other_code_for_thresholds_makes_runs_anew_and_no_repair(
    case, tmp_path, quick, monkeypatch
):
    out = tmp_path / "out"
    compared([case], out=out, **ASKED)
    before, net = files(out), out / "nets/fine-tuning.0/sunglasses_bd_net.h5"
    repaired = net.stat().st_mtime_ns
    monkeypatch.setitem(CODE_VERSIONS, "calibration", 9)
    compared([case], out=out, **ASKED)
    assert anew(before, out) == {FINE_TUNED, UNREPAIRED}
    assert net.stat().st_mtime_ns == repaired


def test_other_settings_of_a_repair_make_its_runs_anew(case, tmp_path, quick, monkeypatch):
    out = tmp_path / "out"
    compared([case], out=out, **ASKED)
    before = files(out)
    replace_repair(monkeypatch, "fine-tuning", QUICK, config=TwoEpochs)
    compared([case], out=out, **ASKED)
    assert anew(before, out) == {FINE_TUNED}


def test_another_rate_is_another_run_of_the_same_repair(case, tmp_path, quick):
    out = tmp_path / "out"
    first, _ = compared([case], out=out, **ASKED)
    before, repaired = files(out), (out / "nets/fine-tuning.0/sunglasses_bd_net.h5").stat()
    second, _ = compared([case], out=out, **{**ASKED, "false_positive_rate": 0.4})
    assert all(files(out)[name] > before[name] for name in before)
    assert [run["false_positive_rate"] for run in (*first, *second)] == [0.2, 0.2, 0.4, 0.4]
    promised = [runs[0]["expected"]["rate"] for runs in (first, second)]  # of SentiNet
    assert 0.1 < promised[0] <= 0.2 < 0.3 < promised[1] <= 0.4
    again = (out / "nets/fine-tuning.0/sunglasses_bd_net.h5").stat()
    assert again.st_mtime_ns == repaired.st_mtime_ns


def test_another_range_and_other_versions_are_other_runs(case, tmp_path, monkeypatch):
    out, asked = tmp_path / "out", {**ASKED, "detectors": ["sentinet"]}
    runs, _ = compared([case], out=out, **asked)
    assert len(runs) == 1
    runs, failed = compared([case], out=out, **{**asked, "input_range": InputRange(0, 255)})
    assert not runs and len(failed) == 1  # the net knows nothing in it
    before = files(out)
    installed = current.versions()
    monkeypatch.setattr(current, "versions", lambda: {**installed, "numpy": "0"})
    compared([case], out=out, **asked)
    assert all(files(out)[name] > before[name] for name in before)


def test_a_net_s_failing_scan_is_told_once_and_the_rest_goes_on(case, tmp_path, quick, monkeypatch):
    tried = []

    def broken(*_, **__):
        tried.append(1)
        raise MemoryError("no more")

    monkeypatch.setattr(comparing, "scan_file", broken)
    asked = {**ASKED, "repairs": ["scan-unlearning", "fine-tuning"], "seeds": [0, 1]}
    runs, failed = compared([case], out=tmp_path / "out", **{**asked, "detectors": ["hard"]})
    assert [run["repair"] for run in runs] == ["fine-tuning"] * 2 and tried == [1]
    assert [why for _, why in failed] == ["MemoryError: no more"] * 2


def test_a_run_that_loses_its_workers_does_not_end_the_grid(case, tmp_path, quick):
    class Losing(SerialExecutor):
        """Loses the workers of each unit with seed 1."""

        def run(self, function, handles, units):
            for place, unit in enumerate(units):
                if unit[4] == 1:
                    raise LostTaskError("its workers are lost again and again", place)
                yield place, function(*handles, *unit)

    asked = {**ASKED, "detectors": ["hard"], "seeds": [0, 1, 2]}
    runs, failed = compared([case], out=tmp_path / "out", executor=Losing(), **asked)
    assert [run["seed"] for run in runs] == [0, 2]
    (lost,) = failed
    assert lost[0] == "sunglasses_bd_net.fine-tuning.hard.1" and "lost again" in lost[1]


def test_a_failing_run_does_not_end_the_grid(case, tmp_path, quick, monkeypatch):
    tried = []

    def broken(net, data, *, config, targets=None, seed=0):
        tried.append(seed)
        raise ArithmeticError("diverged")

    replace_repair(monkeypatch, "anp", broken)
    asked = {**ASKED, "repairs": ["anp", "fine-tuning"]}
    asked["detectors"] = ["hard", "nll", "sentinet"]
    runs, failed = compared([case], out=tmp_path / "out", **asked)
    assert [(run["repair"], run["detector"]) for run in runs] == [
        *[("none", "sentinet"), ("fine-tuning", "hard"), ("fine-tuning", "nll")]
    ]
    assert failed == [
        (f"sunglasses_bd_net.anp.{name}.0", "ArithmeticError: diverged") for name in ("hard", "nll")
    ]
    assert tried == [0]  # once for both detectors
    replace_repair(monkeypatch, "anp", QUICK)
    before = files(tmp_path / "out")
    runs, failed = compared([case], out=tmp_path / "out", **asked)
    assert len(runs) == 5 and not failed
    assert {name: files(tmp_path / "out")[name] for name in before} == before


def test_one_scan_serves_every_seed(case, tmp_path, monkeypatch):
    """Made where it is missing, and not again while net and pictures are the same."""
    spec, scans, given = read_net(case.model), tmp_path / "scans", []
    area = np.zeros((*spec.input_shape[:2], 1), np.float32)
    area[:9, :9] = 1.0

    def scanned(model, clean, *, out, input_range, executor=None, strength=1.0):
        found = {"flagged": [{"label": 2, "pass": "smooth"}], "budget": "fast"}
        asked = {"input_range": input_range, "seed": 0}
        found["depends_on"] = scan_dependencies(
            file_sha256(model), file_sha256(clean), ALL_LABELS, **asked
        )
        paths = {"net_path": model, "data_paths": {"clean": clean}}
        about = provenance(**paths, classes=3, seed=0, seconds=1)
        pattern = np.full((1, *spec.input_shape), strength, np.float32)
        out.parent.mkdir(exist_ok=True)
        np.savez(f"{out}.npz", finished=[2], smooth_masks=[area], smooth_patterns=pattern)
        found |= {"files": {"npz": file_sha256(f"{out}.npz")}, "input_range": str(input_range)}
        write_json(f"{out}.json", {**about, **found}, sealed="scan")
        given.append(out)

    def unlearnt(*arguments, triggers, **settings):
        ((label, mask, _),) = triggers
        assert label == 2 and np.array_equal(mask, area)
        return QUICK(*arguments, **settings)

    monkeypatch.setattr(comparing, "scan_file", scanned)
    replace_repair(monkeypatch, "scan-unlearning", unlearnt)
    asked = {**ASKED, "repairs": ["scan-unlearning"], "detectors": ["hard"], "seeds": [0, 1]}
    asked["scans"] = scans
    runs, failed = compared([case], out=tmp_path / "out", **asked)
    assert (len(runs), failed, given) == (2, [], [scans / "sunglasses_bd_net"])
    before = files(tmp_path / "out")
    compared([case], out=tmp_path / "out", **asked)
    (scans / "sunglasses_bd_net.json").unlink()  # where no scan is there, the runs stand
    compared([case], out=tmp_path / "out", **asked)
    assert files(tmp_path / "out") == before and len(given) == 1
    again = {"out": given[-1], "input_range": UNIT, "strength": 0.5}
    scanned(case.model, case.validation, **again)
    compared([case], out=tmp_path / "out", **asked)  # another scan, other runs
    assert all(files(tmp_path / "out")[name] > before[name] for name in before)
    given.clear()
    write_challenge_h5(case.validation, replace(images(90, seed=3), labels=np.arange(90) % 3))
    compared([case], out=tmp_path / "out", **{**asked, "seeds": [1]})
    assert len(given) == 1


def test_command(project, monkeypatch, capfd, quick, tmp_path):
    from badnet_defense.cli.main import main

    save_net(small_challenge_net(seed=0), tmp_path / "sunglasses_bd_net.h5")
    asked = ["compare", "--nets", f"{tmp_path / 'sunglasses_bd_net.h5'}={project / SPACES}"]
    asked += ["--data", str(project / "data"), "--repairs", "fine-tuning", "--detectors", "hard"]
    asked += ["--false-positive-rate", "0.2", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["badnet_defense", *asked])
    main()
    assert "sunglasses_bd_net" in capfd.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("runs", "nets", "leaderboard.csv", "report.html")
    }
    assert "fine-tuning" in (tmp_path / "out/report.html").read_text()
