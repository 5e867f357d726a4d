"""The command that judges many nets from outside."""

import logging
import shlex
import sys
from pathlib import Path

from badnet_defense.cli.commands import VERDICT_CODES, verdict_code
from badnet_defense.cli.console import add_engine, add_reading, engine_of, load_tensorflow, seed
from badnet_defense.detectors.registry import NAMES
from badnet_defense.errors import InputError, printable
from badnet_defense.io.files import check_writable
from badnet_defense.repairs.registry import REPAIRS

log = logging.getLogger(__name__)


def add_audit(chosen):
    """Adds the command."""
    help_text = "load, ask and scan many nets: a verdict for each, a table, CSV and one HTML page"
    own = chosen.add_parser("audit", help=help_text, description=f"{help_text}; {VERDICT_CODES}")
    add = own.add_argument
    add(
        "nets",
        metavar="NETS",
        help="a folder of nets, or a list: NET or NET,CLEAN or NET,CLEAN,LOW,HIGH",
    )
    add("--clean", metavar="DATA", help="clean pictures, for nets whose line names none")
    add("--budget", choices=("fast", "full"), default="fast", help="steps for each label")
    add(
        "--repair",
        choices=REPAIRS.names(),
        help="also repair the nets with a backdoor, and guard them",
    )
    add("--guard", choices=NAMES, help="detector of their guards (default soft)")
    add("--seed", type=seed, default=0, help="of scans and repairs")
    add("--out", default="results/audit", help="folder (default results/audit)")
    add_reading(own)
    add_engine(own)
    own.set_defaults(run=_audit)


def _audit(arguments):
    if arguments.guard and not arguments.repair:
        raise InputError("--guard came without --repair; a guard needs a repaired net.")
    from badnet_defense.benchmarking.model_list import read_zoo

    out = Path(arguments.out)
    check_writable(out / "audit.html", out / "audit.csv")
    suspects = read_zoo(arguments.nets, arguments.clean, out=arguments.out)
    load_tensorflow()
    from badnet_defense.nets.backend import on_jax

    if arguments.repair and on_jax():
        raise InputError("--repair came with KERAS_BACKEND=jax; repairs need TensorFlow.")
    from badnet_defense.benchmarking.audit import Asked, audit
    from badnet_defense.report.audit import (
        audit_rows,
        audit_sentence,
        audit_text,
        write_audit_page,
    )
    from badnet_defense.report.comparison import write_csv
    from badnet_defense.workflows.scanned import triggers_shown

    asked = Asked(
        budget=arguments.budget,
        repair=arguments.repair,
        guard=arguments.guard or "soft",
        input_range=arguments.input_range,
        seed=arguments.seed,
    )
    with engine_of(arguments) as engine:
        results = audit(suspects, out=out, asked=asked, engine=engine)
    rows = audit_rows(results)
    print(audit_text(rows))
    print(audit_sentence(rows))
    for result in results:  # the table has no room for whole sentences
        if result["reason"]:
            log.warning("%s: %s: %s", result["name"], result["verdict"], result["reason"])
    command = shlex.join(["python3", "-m", "badnet_defense", *sys.argv[1:]])
    pictures = {
        result["name"]: triggers_shown(out / "scans" / result["name"], result["net"]["sha256"])
        for result in results
        if result["verdict"] != "clean" and "flagged" in result
    }
    write_csv(out / "audit.csv", rows)
    write_audit_page(out / "audit.html", results, rows, command, out / "scans", pictures)
    print(printable(f"written: {out / 'audit.html'}, {out / 'audit.csv'}"))
    return verdict_code([row["verdict"] for row in rows])
