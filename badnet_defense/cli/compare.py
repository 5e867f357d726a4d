"""The command that compares repairs and detectors on several nets."""

import shlex
import sys
from pathlib import Path

from badnet_defense.cli.console import add_engine, add_reading, engine_of, load_tensorflow, seed
from badnet_defense.cli.guard import RATE, rate
from badnet_defense.detectors.registry import NAMES
from badnet_defense.errors import InputError, printable
from badnet_defense.io.files import check_writable
from badnet_defense.repairs.registry import REPAIRS

NETS = ("sunglasses", "anonymous_1", "anonymous_2", "multi_trigger_multi_target")
DEFAULT_REPAIRS = ("fine-pruning", "fine-tuning", "magnitude-pruning")
DETECTORS = ("hard", "soft", "sentinet")


def add_compare(chosen):
    """Adds the command."""
    help_text = "compare repairs and detectors: a table, CSV and one HTML page"
    own = chosen.add_parser("compare", help=help_text, description=help_text)
    add = own.add_argument
    nets = "MODEL or MODEL=POISONED.h5,.. (default: the challenge's four)"
    add("--nets", nargs="+", metavar="NET", help=nets)
    add(
        "--repairs",
        nargs="+",
        choices=REPAIRS.names(),
        default=DEFAULT_REPAIRS,
        help=f"default: {' '.join(DEFAULT_REPAIRS)}",
    )
    add(
        "--detectors",
        nargs="+",
        choices=NAMES,
        default=DETECTORS,
        help=f"default: {' '.join(DETECTORS)}",
    )
    add("--seeds", nargs="+", type=seed, default=[0], help="one run for each (default 0)")
    add("--data", default="data", help="folder of the challenge's files (default data)")
    add("--clean-validation", help="clean pictures to repair and set thresholds with")
    add("--clean-test", help="clean pictures to judge with")
    add("--false-alarms", type=rate, default=RATE, help="asked of each detector (default 0.01)")
    add(
        "--scans",
        default="results/scan",
        help="folder of the nets' scans, for scan-unlearning and the page (default: %(default)s)",
    )
    add("--out", default="results/compare", help="folder (default results/compare)")
    add_reading(own)
    add_engine(own)
    own.set_defaults(run=_compare)


def _compare(arguments):
    out = Path(arguments.out)
    check_writable(out / "report.html", out / "leaderboard.csv")
    load_tensorflow()
    from badnet_defense.benchmarking.cases import read_case
    from badnet_defense.benchmarking.compare import compare
    from badnet_defense.report.comparison import (
        leaderboard,
        leaderboard_text,
        verdicts,
        write_csv,
    )
    from badnet_defense.report.comparison_page import write_page
    from badnet_defense.report.promises import comparison_notes
    from badnet_defense.workflows.scanned import triggers_shown

    named = arguments.nets or [f"models/{name}_bd_net.h5" for name in NETS]
    sets = (arguments.clean_validation, arguments.clean_test)
    cases = [read_case(one, data=arguments.data, validation=sets[0], test=sets[1]) for one in named]
    with engine_of(arguments) as engine:
        runs, failed = compare(
            cases,
            repairs=arguments.repairs,
            detectors=arguments.detectors,
            seeds=arguments.seeds,
            out=out,
            scans=arguments.scans,
            false_positive_rate=arguments.false_alarms,
            input_range=arguments.input_range,
            engine=engine,
        )
    if not runs:
        raise InputError(f"none of {len(failed)} runs could be done; see the messages above.")
    rows = leaderboard(runs)
    pictures = {
        run["name"]: picture
        for run in runs
        if (picture := triggers_shown(Path(arguments.scans) / run["name"], run["net"]["sha256"]))
    }
    print(leaderboard_text(rows))
    for net, notes in comparison_notes(runs).items():
        for note in notes:
            print(f"{printable(net)}: {note}")
    write_csv(out / "leaderboard.csv", rows)
    command = shlex.join(["python3", "-m", "badnet_defense", *sys.argv[1:]])
    sentences = verdicts(rows, "fine-pruning", "soft")
    write_page(out / "report.html", runs, rows, sentences, failed, command, pictures)
    print(printable(f"written: {out / 'report.html'}, {out / 'leaderboard.csv'}"))
    if failed:
        raise InputError(f"{len(failed)} runs failed; call again to try only these.")
