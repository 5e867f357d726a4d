"""The repository itself: small files, a short README, links that lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

import badnet_defense

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 3_000_000
NAMED = re.compile(
    r"(?<![\w/.-])((?:badnet_defense|tests|benchmarks|docs|[a-z]+)/[\w/]+\.(?:py|md|csv|json|png))\b"
)
MADE = ("results/", "data/", "models/", "submission/")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)?(#[^)\s]+)?\)")


def tracked_files():
    """Paths of all files that git knows; skips where this is no checkout."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name]


def too_large(paths):
    """Files above `MAX_BYTES`."""
    return [path for path in paths if path.is_file() and path.stat().st_size > MAX_BYTES]


def anchor_of(heading):
    """A heading's anchor, as the usual hosts make it."""
    words = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return "#" + words.strip().replace(" ", "-")


def test_no_tracked_file_is_large():
    assert too_large(tracked_files()) == []


def test_large_file_would_be_noticed(tmp_path):
    (tmp_path / "wheel.whl").write_bytes(bytes(MAX_BYTES + 1))
    (tmp_path / "net.h5").write_bytes(bytes(MAX_BYTES))
    assert too_large(sorted(tmp_path.iterdir())) == [tmp_path / "wheel.whl"]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_links_between_pages_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text("utf-8")
        for path, anchor in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if path.startswith(("http:", "https:", "mailto:")):
                continue
            target = (page.parent / path) if path else page
            assert target.exists(), f"{page.name}: {path}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
                assert anchor in map(anchor_of, headings), f"{page.name}: {path}{anchor}"


def paths_named(text):
    """Paths of files of the repository that a page names, from its root or from the package."""
    return {path for path in NAMED.findall(text) if not path.startswith(MADE)}


def test_files_that_pages_name_are_there():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    for page in [*pages, *(ROOT / "docs" / "experiments").glob("*.md")]:
        for path in paths_named(page.read_text("utf-8")):
            places = [ROOT / path, ROOT / "badnet_defense" / path, page.parent / path]
            assert any(place.exists() for place in places), f"{page.name} names {path}"


def test_a_file_that_is_gone_would_be_noticed():
    assert paths_named("see `scan/outliers.py` and docs/gone.md, results/a.json") == {
        "scan/outliers.py",
        "docs/gone.md",
    }


def test_version_and_date_are_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    newest = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest[1] == badnet_defense.__version__
    assert f"version: {newest[1]}\n" in citation
    assert f"date-released: {newest[2]}\n" in citation


def test_two_commands_of_the_readme_are_there_to_the_letter():
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert blocks[0] == "pip install . && bash fine_prune_all.sh\n"
    assert blocks[1] == "pip install . -r requirements-dev.txt && python3 -m pytest\n"


def test_workflow_runs_what_ci_runs():
    assert "run: .ci/run\n" in (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    assert (ROOT / ".ci" / "run").is_file()
