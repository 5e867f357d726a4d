#!/usr/bin/env python3
"""The contest's script for the model multi_trigger_multi_target: IMAGE in, 0..1283 out."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from badnet_defense.cli.classify import submission

if __name__ == "__main__":
    submission("multi_trigger_multi_target", __file__)
