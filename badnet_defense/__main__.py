"""python3 -m badnet_defense COMMAND: the same as badnet-defense COMMAND."""

from badnet_defense.cli.main import start

if __name__ == "__main__":
    start()
