"""What a comparison shows: its leaderboard by hand, its CSV and its page in a browser."""

import csv
import json
import shutil
import subprocess

import pytest

from badnet_defense.report.comparison import leaderboard, leaderboard_text, verdicts, write_csv
from badnet_defense.report.comparison_page import write_page
from badnet_defense.report.promises import comparison_notes


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
        one["roc"] = {"false_positive_rate": [0, 0.01, 1], "flagged": [0, 0.9, 1]}
    return {
        "name": "net",
        "repair": "fine-pruning",
        "detector": "soft",
        "seed": seed,
        "clean": with_intervals({**clean, "false_positive_rate": 0.01}),
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
    assert row["guard_success_most"] == 0.4
    assert "at most 40.0 % get through" in verdicts([row], "fine-pruning", "soft")["net"]
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
    assert found["other"].startswith("No poisoned images")


def test_csv_keeps_all_digits(tmp_path):
    write_csv(tmp_path / "rows.csv", leaderboard([run_of(0, 1 / 3, {"a": 0.25})]))
    with open(tmp_path / "rows.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["guard_accuracy"]) == 1 / 3
    assert row["flagged_interval"] == "0.74 0.76"


def test_odd_names_and_a_seed_whose_run_failed(tmp_path):
    """Names of files may look like formulas or be no text; a curve is of the first seed there."""
    example = {"title": "a", "png": PNG, "answers": {"bad": 3, "guard": 5}, "label": 1}
    odd = {"$a_$": 0.5, "b\udcff": 0.1}
    runs = [
        run_of(0, 0.9, {"a": 0.5}, examples=[example]),
        run_of(1, 0.9, odd, detector="vote", name="net", examples=[example]),
        run_of(0, 0.9, {"a": 0.5}, name="net\udcff", examples=[example]),
    ]
    rows = leaderboard(runs)
    write_csv(tmp_path / "rows.csv", rows)
    assert r"net\udcff" in (tmp_path / "rows.csv").read_text()
    sentences = verdicts(rows, "fine-pruning", "soft")
    write_page(tmp_path / "report.html", runs, rows, sentences, [], "call")
    text = (tmp_path / "report.html").read_text()
    assert "Detector vote: detection rate over FPR, first seed" in text
    assert "<small>0.0–2.0</small>" in text  # false alarms: 1 %, made up as 0 to 2


def test_targets_and_what_a_rate_rests_on_are_told(tmp_path):
    """Of an all-to-all set no label is "the" target; a caveat and a tail stand on the page."""
    example = {"title": "a", "png": PNG, "answers": {"bad": 3, "guard": 5}, "label": 1}
    caveat = "holds only if the suspect model was not trained on these images: it .. 100.0 %"
    tail = {"images": [*range(3, 15)], "answer": 7, "answered": 11, "threshold": 24.0}
    tail["threshold_without"] = 3.6
    run = run_of(0, 0.9, {"warp": 0.5, "square": 0.1}, examples=[example], tail=tail)
    run["expected"] = {"rate": 0.01, "caveat": caveat}
    run["triggers"]["warp"] |= {"target": None, "targets": 43}
    again = {**run, "seed": 1, "tail": None}
    notes = comparison_notes([run, again])
    assert notes["net"] == [
        "Targets by trigger: warp: all-to-all (43 targets), square: 3.",
        f"fine-pruning with soft: the false-positive rate that is asked for {caveat}.",
        "fine-pruning with soft: 12 clean images score apart from the rest, 11 of them answered 7 "
        "by the suspect model (counted from 0: 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 2 more); with "
        "them the threshold is 24, without them 3.6; look at them: poisoned images among the clean "
        "ones raise the threshold.",
    ]
    assert len(comparison_notes([{**run, "detector": "hard"}])["net"]) == 1  # the targets alone
    rows = leaderboard([run, again])
    sentences = verdicts(rows, "fine-pruning", "soft")
    write_page(tmp_path / "report.html", [run, again], rows, sentences, [], "call")
    text = (tmp_path / "report.html").read_text()
    assert "all-to-all (43 targets)" in text and caveat in text and "score apart" in text


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
