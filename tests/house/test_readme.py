"""What README tells people to write runs as it stands there."""

import re
from pathlib import Path

from planted_net import TARGET, clean_images, planted_net

from badnet_defense.guards.reading import read_guard
from badnet_defense.io import write_challenge_h5
from badnet_defense.nets import save_net

README = Path(__file__).resolve().parents[2] / "README.md"


def test_python_of_the_readme_runs(tmp_path, monkeypatch, capsys, short_scans):
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    save_net(planted_net(), tmp_path / "suspect.h5")
    write_challenge_h5(tmp_path / "clean.h5", clean_images(400))
    write_challenge_h5(tmp_path / "test.h5", clean_images(100, seed=9))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "backdoored" in printed and f"[{TARGET}]" in printed
    assert "'accuracy'" in printed and "'flagged'" in printed
    assert read_guard(tmp_path / "suspect.guard.keras").net.classes > TARGET
