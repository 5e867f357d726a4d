"""The grid: what is run, what is not run again, what a failure leaves, and what is shown."""

import csv
import json
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_nets import images
from small_project import SPACES, small_challenge_net

from badnet_defense.data import InputRange, write_challenge_h5
from badnet_defense.data.input_range import UNIT
from badnet_defense.errors import InputError
from badnet_defense.nets import save_net
from badnet_defense.repair.recipes import RECIPES
from badnet_defense.repair.tuning_alone import tune_alone
from badnet_defense.report.comparison import leaderboard, leaderboard_text, verdicts, write_csv
from badnet_defense.report.comparison_page import write_page
from badnet_defense.runs import comparing, comparing_run, methods
from badnet_defense.runs.comparing import POISONED, Case, compare, read_case, runs_of

QUICK = partial(tune_alone, recipe=replace(RECIPES["classic"], epochs=1))
ASKED = {
    "repairs": ["fine-tuning"],
    "detectors": ["hard", "sentinet"],
    "seeds": [0],
    "false_alarm_rate": 0.2,
    "input_range": UNIT,
}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "fine-tuning", QUICK)


@pytest.fixture
def case(project, tmp_path):
    """The small challenge's net, in a folder where its data may be changed."""
    shutil.copytree(project / "data", tmp_path / "data")
    data = tmp_path / "data"
    poisoned = {"lipstick": tmp_path / SPACES, "again": tmp_path / SPACES}
    return Case(
        project / "models/sunglasses_bd_net.h5",
        data / "clean_validation_data.h5",
        data / "clean_test_data.h5",
        poisoned,
    )


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
    assert again == written
    write_challenge_h5(case.poisoned["lipstick"], replace(images(30, seed=9)))
    comparing._sha256.cache_clear()
    compare([case], out=out, **ASKED)
    assert all(files(out)[name] > before[name] for name in before)


def test_nets_and_triggers_of_one_name(case, project, tmp_path):
    with pytest.raises(InputError, match="nets of one name came"):
        compare([case, case], out=tmp_path / "out", **ASKED)
    twice = f"{case.model}={tmp_path / SPACES},{tmp_path / SPACES}"
    with pytest.raises(InputError, match="need names that differ"):
        read_case(twice, data=project / "data")
    assert len(runs_of([case], ["anp", "anp"], ["soft", "soft"], [0, 0])) == 1


def test_a_repair_of_another_range_and_a_damaged_run_are_made_anew(case, tmp_path, quick):
    out = tmp_path / "out"
    compare([case], out=out, **ASKED)
    path = out / "runs/sunglasses_bd_net.fine-tuning.hard.0.json"
    path.write_text("{")
    about = out / "nets/fine-tuning.0/sunglasses_bd_net.json"
    noted = json.loads(about.read_text())
    about.write_text(json.dumps({**noted, "input_range": "0,255"}))
    runs, failed = compare([case], out=out, **ASKED)
    assert len(runs) == 2 and not failed
    assert json.loads(about.read_text())["input_range"] == noted["input_range"]
    assert json.loads(path.read_text())["detector"] == "hard"


def test_wrong_range_is_refused_without_a_repair(case, tmp_path):
    asked = {**ASKED, "detectors": ["sentinet"], "input_range": InputRange(0, 255)}
    runs, failed = compare([case], out=tmp_path / "out", **asked)
    assert not runs and "give --input-range 0,1" in failed[0][1]


def test_grey_pictures_are_shown(project):
    grey = images(3, shape=(12, 10, 1))
    answers = {"bad": {"clean_test": np.zeros(3)}, "guard": {"clean_test": np.zeros(3)}}
    (shown,) = comparing_run.examples({"clean_test": grey}, answers)
    assert shown["title"] == "clean" and shown["png"]


def test_a_run_s_figures(case, tmp_path, quick):
    runs, _ = compare([case], out=tmp_path / "out", **ASKED)
    run = next(run for run in runs if run["detector"] == "hard")
    assert run["clean"]["pictures"] == 40
    assert run["clean"]["bad_accuracy"] == 1.0  # its own answers are the labels
    honest = run["clean"]["guard_accuracy"] + run["clean"]["false_alarms"]
    assert honest == pytest.approx(1.0)  # where the nets agree, the bad net is right here
    for figures in run["triggers"].values():
        assert figures["pictures"] == 30 and figures["target"] == 0
        assert figures["guard_success"] <= figures["bad_success"]
    assert run["repair"] == "fine-tuning" and run["repair_seconds"] > 0
    titles = [one["title"] for one in run["examples"]]
    assert titles[:3] == ["clean", "lipstick", "again"]
    alone = next(run for run in runs if run["detector"] == "sentinet")
    assert set(alone["examples"][0]["answers"]) == {"bad", "guard"}
    assert "repaired_success" not in alone["triggers"]["lipstick"]


def test_many_pictures_are_drawn_from(case, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(comparing_run, "MOST_CLEAN", 25)
    monkeypatch.setattr(comparing_run, "MOST_POISONED", 10)
    runs, _ = compare([case], out=tmp_path / "out", **ASKED)
    for run in runs:
        assert run["clean"]["pictures"] == 25
        assert all(figures["pictures"] == 10 for figures in run["triggers"].values())


def test_a_failing_run_does_not_end_the_grid(case, tmp_path, quick, monkeypatch):
    tried = []

    def broken(spec, images, *, targets=None, input_range=UNIT, seed=0):
        tried.append(seed)
        raise ArithmeticError("diverged")

    monkeypatch.setitem(methods.METHODS, "anp", broken)
    asked = {**ASKED, "repairs": ["anp", "fine-tuning"]}
    asked["detectors"] = ["hard", "surprise", "sentinet"]
    runs, failed = compare([case], out=tmp_path / "out", **asked)
    assert [(run["repair"], run["detector"]) for run in runs] == [
        *[("none", "sentinet"), ("fine-tuning", "hard"), ("fine-tuning", "surprise")]
    ]
    assert failed == [
        (f"sunglasses_bd_net.anp.{name}.0", "ArithmeticError: diverged")
        for name in ("hard", "surprise")
    ]
    assert tried == [0]  # once for both detectors
    monkeypatch.setitem(methods.METHODS, "anp", QUICK)
    before = files(tmp_path / "out")
    runs, failed = compare([case], out=tmp_path / "out", **asked)
    assert len(runs) == 5 and not failed
    assert {name: files(tmp_path / "out")[name] for name in before} == before


# What is shown -----------------------------------------------------------------------------------


def run_of(seed, accuracy, successes, **changes):
    """A run's result with made-up figures."""

    def with_intervals(figures):
        ends = {f"{k}_interval": [v - 0.01, v + 0.01] for k, v in figures.items()}
        return figures | ends

    clean = {"bad_accuracy": 0.99, "repaired_accuracy": accuracy, "guard_accuracy": accuracy}
    triggers = {
        name: with_intervals(
            {"bad_success": 1.0, "repaired_success": 0.1, "guard_success": one, "flagged": 1 - one}
        )
        | {"repaired_der": 0.9, "guard_der": 1 - one / 2, "pictures": 100, "target": 3}
        for name, one in successes.items()
    }
    for one in triggers.values():
        one["roc"] = {"false_alarms": [0, 0.01, 1], "flagged": [0, 0.9, 1]}
    return {
        "name": "net",
        "repair": "fine-pruning",
        "detector": "soft",
        "seed": seed,
        "clean": with_intervals({**clean, "false_alarms": 0.01}),
        "triggers": triggers,
        "repair_seconds": 30.0,
        "pictures_per_second": 100.0,
        "pruning": {"curve": [0.99, 0.9, 0.2], "removed": 1},
        "classes": 5,
        "net": {"file": "net.h5", "sha256": "0" * 64},
        "data": {},
        "versions": {"keras": "3"},
        "examples": [],
        **changes,
    }


def test_leaderboard_by_hand():
    """Each figure's worst trigger counts; ends of intervals are the lowest and the highest."""
    runs = [run_of(0, 0.9, {"a": 0.0, "b": 0.2}), run_of(1, 0.96, {"a": 0.0, "b": 0.4})]
    (row,) = leaderboard(runs)
    assert (row["net"], row["seeds"]) == ("net", 2)
    assert row["guard_accuracy"] == pytest.approx(0.93)
    assert row["guard_accuracy_interval"] == pytest.approx([0.89, 0.97])
    assert row["guard_success"] == pytest.approx(0.3)
    assert row["flagged"] == pytest.approx(0.7)
    assert row["guard_der"] == pytest.approx((0.9 + 0.8) / 2)
    own = run_of(0, 0.9, {"a": 0.1, "b": 0.0})
    own["triggers"]["b"]["repaired_success"] = 0.95
    (row,) = leaderboard([own])
    assert (row["guard_success"], row["repaired_success"]) == (0.1, 0.95)


def test_best_guard_comes_first_and_nets_without_poisoned_data_have_no_attack():
    good = run_of(0, 0.9, {"a": 0.0}, detector="sentinet")
    bad = run_of(0, 0.9, {"a": 0.5})
    unknown = run_of(0, 0.9, {}, name="other")
    rows = leaderboard([bad, unknown, good])
    assert [(row["net"], row["detector"]) for row in rows] == [
        *[("net", "sentinet"), ("net", "soft"), ("other", "soft")]
    ]
    assert rows[2]["guard_success"] is None
    text = leaderboard_text(rows, style="github")
    assert "| other | fine-pruning | soft" in text and "90.0" in text
    found = verdicts(rows, "fine-pruning", "soft")
    assert "at most 50.0 % get through" in found["net"]
    assert found["other"].startswith("No poisoned pictures")


def test_csv_keeps_all_digits(tmp_path):
    write_csv(tmp_path / "rows.csv", leaderboard([run_of(0, 1 / 3, {"a": 0.25})]))
    with open(tmp_path / "rows.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["guard_accuracy"]) == 1 / 3
    assert row["flagged_interval"] == "0.74 0.76"


PROBE = """
<script>
  window.problems = [];
  window.addEventListener("error", (e) => problems.push(e.message), true);
</script>
"""
CLICKS = """
<script>window.addEventListener("load", () => {
  const name = (row) => row.cells[0].innerText + row.cells[2].innerText;
  const order = () => [...document.querySelectorAll("tbody tr")].map(name).join(" ");
  const found = [order()];
  for (const place of [0, 0, 13]) {
    document.querySelectorAll("#leaderboard th button")[place].click();
    found.push(order());
  }
  const images = [...document.images];
  const broken = images.filter((one) => !one.complete || !one.naturalWidth).length;
  const wide = document.documentElement.scrollWidth > window.innerWidth;
  const pictures = images.length;
  document.body.innerText = JSON.stringify({found, broken, wide, problems, pictures});
});</script>
"""


def test_page_opens_sorts_and_shows_its_pictures(tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    example = {"title": "a", "png": PNG, "answers": {"bad": 3, "guard": 5}, "label": 1}
    runs = [
        run_of(0, 0.9, {"a": 0.5}, examples=[example]),
        run_of(0, 0.9, {"a": 0.0}, detector="sentinet", examples=[example]),
        run_of(0, 0.9, {"a": 0.2}, name="other", examples=[example]),
    ]
    rows = leaderboard(runs)
    page = tmp_path / "report.html"
    write_page(page, runs, rows, verdicts(rows, "fine-pruning", "soft"), [("x", "y <b>")], "call")
    text = page.read_text()
    assert "y &lt;b&gt;" in text and "http" not in text
    page.write_text(text.replace("<head>", "<head>" + PROBE).replace("</body>", CLICKS + "</body>"))
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=400,800",
         "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.split("<body>")[1].split("</body>")[0])
    assert found["problems"] == [] and found["broken"] == 0 and not found["wide"]
    assert found["pictures"] >= 4
    first, down, up, rating = found["found"]
    assert first == "netsentinet netsoft othersoft"
    assert down.startswith("other") and up.startswith("net")
    assert rating == "netsentinet othersoft netsoft"


PNG = (  # one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4"
    "2mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def test_command(project, monkeypatch, capfd, quick, tmp_path):
    from badnet_defense.__main__ import main

    save_net(small_challenge_net(seed=0), tmp_path / "sunglasses_bd_net.h5")
    asked = ["compare", "--nets", f"{tmp_path / 'sunglasses_bd_net.h5'}={project / SPACES}"]
    asked += ["--data", str(project / "data"), "--repairs", "fine-tuning", "--detectors", "hard"]
    asked += ["--false-alarms", "0.2", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["badnet_defense", *asked])
    main()
    assert "sunglasses_bd_net" in capfd.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("runs", "nets", "leaderboard.csv", "report.html")
    }
    assert "fine-tuning" in (tmp_path / "out/report.html").read_text()
