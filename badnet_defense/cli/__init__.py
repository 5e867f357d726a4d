"""The command line: one command, `badnet-defense`, one file a sub-command."""
