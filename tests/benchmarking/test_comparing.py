"""The grid: what is run, what is not run again, and what a failure leaves."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from small_grid import ASKED, QUICK, replace_repair
from small_nets import images
from small_project import SPACES, small_challenge_net

from badnet_defense.benchmarking import compare as comparing
from badnet_defense.benchmarking.cases import POISONED, read_case
from badnet_defense.benchmarking.compare import compare, runs_of
from badnet_defense.errors import InputError, LostUnitError
from badnet_defense.io import file_sha256, write_challenge_h5
from badnet_defense.io.records import provenance, write_json
from badnet_defense.nets import read_net, save_net
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.parallel import Serial
from badnet_defense.repairs.fine_tuning import FineTuningConfig
from badnet_defense.repairs.recipes import RECIPES, Recipe
from badnet_defense.scan.scan import ALL_LABELS, scan_dependencies


def files(out):
    return {path.name: path.stat().st_mtime_ns for path in Path(out).glob("runs/*.json")}


# The grid ----------------------------------------------------------------------------------------


def test_detectors_that_need_no_repair_run_once_for_each_seed(case):
    found = runs_of([case], ["anp", "ft-sam"], ["soft", "strip"], [0, 1])
    assert [(repair, seed, names) for _, repair, seed, names in found] == [
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
    with pytest.raises(InputError, match=r"missing\.h5: no such file; compare takes MODEL"):
        read_case(f"{model}={tmp_path / 'missing.h5'}", data=data)


def test_runs_are_made_once(case, tmp_path, quick):
    out = tmp_path / "out"
    runs, failed = compare([case], out=out, **ASKED)
    assert not failed and [run["detector"] for run in runs] == ["sentinet", "hard"]
    before = files(out)
    assert set(before) == {
        "sunglasses_bd_net.fine-tuning.hard.0.json",
        "sunglasses_bd_net.none.sentinet.0.json",
    }
    again, _ = compare([case], out=out, **ASKED)
    assert files(out) == before
    written = [json.loads((out / "runs" / name).read_text()) for name in sorted(before)[::-1]]
    assert all(len(bytes.fromhex(one.pop("seal"))) == 32 for one in written)
    assert again == written
    write_challenge_h5(case.poisoned["lipstick"], replace(images(30, seed=9)))
    compare([case], out=out, **ASKED)
    assert all(files(out)[name] > before[name] for name in before)


def test_nets_and_triggers_of_one_name(case, project, tmp_path):
    with pytest.raises(InputError, match="nets of one name came"):
        compare([case, case], out=tmp_path / "out", **ASKED)
    odd = tmp_path / "rate=0.1/net.h5"
    odd.parent.mkdir()
    shutil.copy(case.model, odd)
    assert read_case(str(odd), data=project / "data").model == odd
    with pytest.raises(InputError, match=r"clean_test_data\.h5: no such file; give --clean-test"):
        read_case(str(odd), data=tmp_path, validation=case.validation)
    twice = f"{case.model}={tmp_path / SPACES},{tmp_path / SPACES}"
    with pytest.raises(InputError, match="need names that differ"):
        read_case(twice, data=project / "data")
    assert len(runs_of([case], ["anp", "anp"], ["soft", "soft"], [0, 0])) == 1


def test_a_repair_of_another_range_and_a_damaged_run_are_made_anew(case, tmp_path, quick):
    out = tmp_path / "out"
    compare([case], out=out, **ASKED)
    path = out / "runs/sunglasses_bd_net.fine-tuning.hard.0.json"
    path.write_text("{")
    net = out / "nets/fine-tuning.0/sunglasses_bd_net.h5"
    about, whole = net.with_suffix(".origin.json"), net.read_bytes()
    noted = json.loads(about.read_text())
    other = {**noted["origin"], "input_range": "0,255"}
    about.unlink()
    write_json(about, {**noted, "origin": other}, sealed=comparing.REPAIR)
    runs, failed = compare([case], out=out, **ASKED)
    assert len(runs) == 2 and not failed
    assert json.loads(about.read_text())["origin"] == noted["origin"]
    assert json.loads(path.read_text())["detector"] == "hard"
    path.unlink()
    net.write_bytes(whole[:1000])
    assert not compare([case], out=out, **ASKED)[1]
    assert len(net.read_bytes()) == len(whole)


TWO = replace(RECIPES["classic"], epochs=2)


@dataclass(frozen=True, kw_only=True)
class TwoEpochs(FineTuningConfig):
    tuning: Recipe = TWO


def test_other_code_and_other_settings_make_runs_anew(case, tmp_path, quick, monkeypatch):
    out = tmp_path / "out"
    compare([case], out=out, **ASKED)
    before = files(out)
    with monkeypatch.context() as patch:
        patch.setattr(comparing, "code_sha256", lambda: "other")
        compare([case], out=out, **ASKED)
    assert all(files(out)[name] > before[name] for name in before)
    compare([case], out=out, **ASKED)
    before = files(out)
    replace_repair(monkeypatch, "fine-tuning", QUICK, config=TwoEpochs)
    compare([case], out=out, **ASKED)
    anew = {name for name in before if files(out)[name] > before[name]}
    assert anew == {"sunglasses_bd_net.fine-tuning.hard.0.json"}


def test_another_rate_is_another_run_of_the_same_repair(case, tmp_path, quick):
    out = tmp_path / "out"
    first, _ = compare([case], out=out, **ASKED)
    before, repaired = files(out), (out / "nets/fine-tuning.0/sunglasses_bd_net.h5").stat()
    second, _ = compare([case], out=out, **{**ASKED, "false_positive_rate": 0.4})
    assert all(files(out)[name] > before[name] for name in before)
    assert [run["false_positive_rate"] for run in (*first, *second)] == [0.2, 0.2, 0.4, 0.4]
    promised = [runs[0]["expected"]["rate"] for runs in (first, second)]  # of SentiNet
    assert 0.1 < promised[0] <= 0.2 < 0.3 < promised[1] <= 0.4
    again = (out / "nets/fine-tuning.0/sunglasses_bd_net.h5").stat()
    assert again.st_mtime_ns == repaired.st_mtime_ns


def test_another_range_and_other_versions_are_other_runs(case, tmp_path, monkeypatch):
    out, asked = tmp_path / "out", {**ASKED, "detectors": ["sentinet"]}
    runs, _ = compare([case], out=out, **asked)
    assert len(runs) == 1
    runs, failed = compare([case], out=out, **{**asked, "input_range": InputRange(0, 255)})
    assert not runs and len(failed) == 1  # the net knows nothing in it
    before = files(out)
    monkeypatch.setattr(comparing, "versions", lambda: {"numpy": "0"})
    compare([case], out=out, **asked)
    assert all(files(out)[name] > before[name] for name in before)


def test_a_net_s_failing_scan_is_told_once_and_the_rest_goes_on(case, tmp_path, quick, monkeypatch):
    tried = []

    def broken(*_, **__):
        tried.append(1)
        raise MemoryError("no more")

    monkeypatch.setattr(comparing, "scan_file", broken)
    asked = {**ASKED, "repairs": ["scan-unlearning", "fine-tuning"], "seeds": [0, 1]}
    runs, failed = compare([case], out=tmp_path / "out", **{**asked, "detectors": ["hard"]})
    assert [run["repair"] for run in runs] == ["fine-tuning"] * 2 and tried == [1]
    assert [why for _, why in failed] == ["MemoryError: no more"] * 2


def test_a_run_that_loses_its_workers_does_not_end_the_grid(case, tmp_path, quick):
    class Losing(Serial):
        """Loses the workers of each unit with seed 1."""

        def run(self, function, handles, units):
            for place, unit in enumerate(units):
                if unit[4] == 1:
                    raise LostUnitError("its workers are lost again and again", place)
                yield place, function(*handles, *unit)

    asked = {**ASKED, "detectors": ["hard"], "seeds": [0, 1, 2]}
    runs, failed = compare([case], out=tmp_path / "out", engine=Losing(), **asked)
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
    runs, failed = compare([case], out=tmp_path / "out", **asked)
    assert [(run["repair"], run["detector"]) for run in runs] == [
        *[("none", "sentinet"), ("fine-tuning", "hard"), ("fine-tuning", "nll")]
    ]
    assert failed == [
        (f"sunglasses_bd_net.anp.{name}.0", "ArithmeticError: diverged") for name in ("hard", "nll")
    ]
    assert tried == [0]  # once for both detectors
    replace_repair(monkeypatch, "anp", QUICK)
    before = files(tmp_path / "out")
    runs, failed = compare([case], out=tmp_path / "out", **asked)
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
    runs, failed = compare([case], out=tmp_path / "out", **asked)
    assert (len(runs), failed, given) == (2, [], [scans / "sunglasses_bd_net"])
    before = files(tmp_path / "out")
    compare([case], out=tmp_path / "out", **asked)
    (scans / "sunglasses_bd_net.json").unlink()  # where no scan is there, the runs stand
    compare([case], out=tmp_path / "out", **asked)
    assert files(tmp_path / "out") == before and len(given) == 1
    again = {"out": given[-1], "input_range": UNIT, "strength": 0.5}
    scanned(case.model, case.validation, **again)
    compare([case], out=tmp_path / "out", **asked)  # another scan, other runs
    assert all(files(tmp_path / "out")[name] > before[name] for name in before)
    given.clear()
    write_challenge_h5(case.validation, replace(images(90, seed=3), labels=np.arange(90) % 3))
    compare([case], out=tmp_path / "out", **{**asked, "seeds": [1]})
    assert len(given) == 1


def test_command(project, monkeypatch, capfd, quick, tmp_path):
    from badnet_defense.__main__ import main

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
