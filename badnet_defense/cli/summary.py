"""`badnet-defense summary`: joins results into one table."""

from __future__ import annotations

import argparse

from badnet_defense.cli.options import Parser
from badnet_defense.io.files import check_writable

DESCRIPTION = "Join result files, as repair and evaluate write them, into one table."
EXAMPLE = "results/sunglasses.json results/anonymous_1.json"


def add_arguments(parser: Parser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("results", nargs="+", metavar="RESULT.json", help="a result file")
    parser.add_argument("--json", metavar="FILE", help="also write all results into one file")


def run(arguments: argparse.Namespace) -> None:
    """Prints the table and writes the results."""
    from badnet_defense.io.records import read_figures, write_json
    from badnet_defense.report.tables import summary_table

    check_writable(arguments.json)
    results = [read_figures(path) for path in arguments.results]
    print(summary_table(results))
    if arguments.json:
        write_json(arguments.json, {"schema": 1, "results": results})
