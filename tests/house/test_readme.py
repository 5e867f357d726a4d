"""What README tells people to write runs as it stands there."""

import re
from pathlib import Path

import numpy as np
from small_nets import images
from small_project import small_challenge_net

README = Path(__file__).resolve().parents[2] / "README.md"


def test_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    net = small_challenge_net(seed=0, scale=1.0)
    net.save(tmp_path / "my_net.keras")
    found = images(60)
    answers = net(found.images.astype(np.float32), training=False).numpy().argmax(axis=1)
    np.save(tmp_path / "pictures.npy", found.images)
    np.save(tmp_path / "labels.npy", answers)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "my_net.guard.keras").is_file()
    assert re.search(r"^\d+ \[", capsys.readouterr().out, re.MULTILINE)
