"""What plain Keras and what this project do with files that try published attacks.

`python3 benchmarks/hostile_files.py`: writes each file of `tests/hostile_files.py`, lets the
installed Keras load it in a process of its own (only where the payload does no more than leave a
marker file), and reads it with this project. Prints the table.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/sandbox")]

KERAS = """
import json, os, sys
import keras
import numpy as np
for line in sys.stdin:
    path, marker = json.loads(line)
    try:
        net = keras.models.load_model(path, safe_mode=sys.argv[1] == "safe")
        said = "loads it"
        net.predict(np.zeros((1, 12, 10, 3)), verbose=0)
        said = "loads and runs it"
    except BaseException as error:
        said = f"refuses it ({type(error).__name__})" if "said" not in dir() else said
    ran = os.path.exists(marker)
    print("ANSWER " + json.dumps([said, ran]), flush=True)
    del said
"""


def keras_says(files, mode):
    """{name: what Keras did, and whether the payload ran} of {name: (path, marker)}."""
    lines = "\n".join(json.dumps([str(path), str(marker)]) for path, marker in files.values())
    done = subprocess.run(
        [sys.executable, "-c", KERAS, mode],
        input=lines,
        capture_output=True,
        text=True,
        timeout=600,
    )
    answers = [line[7:] for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    found = [json.loads(line) for line in answers]
    found += [["crashed", False]] * (len(files) - len(found))
    for _, marker in files.values():
        shutil.rmtree(marker) if marker.is_dir() else marker.unlink(missing_ok=True)
    told = (said + (", **payload ran**" if ran else "") for said, ran in found)
    return dict(zip(files, told, strict=True))


def main():
    """Prints the table."""
    import keras
    from hostile_files import ATTACKS
    from test_hostile_files import watched

    from badnet_defense.errors import ReaderError

    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, attack in ATTACKS.items():
            own = Path(folder) / name
            own.mkdir()
            files[name] = (attack.write(own, own / "marker"), own / "marker")
        # What the HDF5 library never ends is read as it always is: the reader's limit ends it.
        ours = {
            name: watched(path, *["isolate"] * (ATTACKS[name].error is ReaderError))
            for name, (path, _) in files.items()
        }
        tried = {name: files[name] for name, attack in ATTACKS.items() if attack.for_keras}
        modes = [keras_says(tried, mode) for mode in ("safe", "unsafe")]
    rows = []
    for name, attack in ATTACKS.items():
        found = ours[name]
        theirs = [mode.get(name, "not tried") for mode in modes]
        taken = [f"{found['taken']:.0f}", f"{found['seconds']:.2f}"]
        rows.append([attack.about, files[name][0].suffix, *theirs, found["said"][0], *taken])
    print(f"Keras {keras.__version__}")
    headers = [
        "attack",
        "file",
        "plain `load_model`",
        "`safe_mode=False`",
        "here",
        "MB taken",
        "seconds",
    ]
    print(tabulate(rows, headers, tablefmt="github"))


if __name__ == "__main__":
    main()
