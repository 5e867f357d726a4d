#!/usr/bin/env python3
"""The contest's script for the net multi_trigger_multi_target: PICTURE in, 0..1283 out."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from badnet_defense.cli import commands, console  # noqa: E402

if __name__ == "__main__":
    console.run(lambda: commands.submission("multi_trigger_multi_target", root=ROOT))
