"""python3 -m badnet_defense COMMAND: what is not a script of its own."""

from badnet_defense.cli import audit as audit_commands
from badnet_defense.cli import commands, console
from badnet_defense.cli import compare as compare_commands
from badnet_defense.cli import guard as guard_commands


def main():
    """Parses the command and runs it."""
    parser = console.parser(
        "Find, repair and guard against backdoors in image classifiers.",
        prog="python3 -m badnet_defense",
    )
    chosen = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_demo(chosen)
    commands.add_scan(chosen)
    guard_commands.add_guard(chosen)
    guard_commands.add_strip(chosen)
    compare_commands.add_compare(chosen)
    audit_commands.add_audit(chosen)
    commands.add_summary(chosen)
    arguments = parser.parse_args()
    return arguments.run(arguments)


def start():
    """Runs the command and ends the process; `badnet-defense` of an installed package."""
    console.run(main)


if __name__ == "__main__":
    start()
