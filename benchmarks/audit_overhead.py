"""What an audit costs beside its tasks: the command's own seconds and bytes for each model.

`python3 benchmarks/audit_overhead.py LIST [--out results/audit_overhead]` audits the list's models
one after the other in this process, with an engine that records how long tasks take: the rest is
what the command itself does (reading safely, hashes, the schedule, files and plots), of which a
cluster takes nothing off it. Then again, for what a model costs that has been judged.
"""

import argparse
import shutil
import time
from pathlib import Path

from tabulate import tabulate

from badnet_defense.cli import console
from badnet_defense.parallel import SerialExecutor


class Timed(SerialExecutor):
    """Does the tasks here and adds up their seconds."""

    def __init__(self):
        self.seconds, self.units = 0.0, 0

    def run(self, function, handles, units):
        """As `SerialExecutor`."""

        def timed(*given):
            start = time.perf_counter()
            result = function(*given)
            self.seconds += time.perf_counter() - start
            self.units += 1
            return result

        return super().run(timed, handles, units)


def audited(suspect, out):
    """(seconds, seconds in tasks, tasks, result) of one model's audit."""
    from badnet_defense.benchmarking.audit import audit

    engine, start = Timed(), time.perf_counter()
    (result,) = audit([suspect], out=out, executor=engine)
    return time.perf_counter() - start, engine.seconds, engine.units, result


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", help="as `audit` takes them")
    parser.add_argument("--clean")
    parser.add_argument("--out", type=Path, default=Path("results/audit_overhead"))
    arguments = parser.parse_args()
    console.load_tensorflow()
    from badnet_defense.benchmarking.model_list import read_model_list

    lines = []
    for suspect in read_model_list(arguments.nets, arguments.clean, out=arguments.out):
        out = arguments.out / suspect.name
        shutil.rmtree(out, ignore_errors=True)
        total, working, units, result = audited(suspect, out)
        left = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        again, *_ = audited(suspect, out)
        cells = f"{total:.1f}", f"{working:.1f}", units, f"{total - working:.2f}"
        verdict = result["verdict"], result.get("classes", "")
        lines.append([suspect.name, *verdict, *cells, f"{again:.2f}", f"{left / 1e6:.2f}"])
    headers = ["model", "verdict", "classes", "s", "in tasks (s)", "tasks", "the command's own (s)",
               "verdict that stands (s)", "left on disk (MB)"]  # fmt: skip
    print(tabulate(lines, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    console.run(main)
