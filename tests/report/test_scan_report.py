"""A scan's result as text and as pictures."""

import numpy as np
import pytest
from PIL import Image
from planted_net import SHAPE, clean_images

from badnet_defense.errors import InputError
from badnet_defense.report.scan_plots import plot_norms, plot_triggers
from badnet_defense.report.tables import scan_text


def entry(label, l1, index=0.5, **more):
    """A label's figures as the JSON has them."""
    figures = {"label": label, "l1": l1, "anomaly_index": index, "mad_anomaly_index": index / 2}
    return figures | more


def drawn_up(flagged, norms, **changes):
    """A scan's result, with labels 0, 1, .. of these norms."""
    own = {"attack_success": 0.995, "pass": "smooth", "shift": 0.125, "weight_index": None}
    own["flagged_by"] = "index" if flagged else None
    passes = [
        pass_of("sharp", [norm + 1 for norm in norms], [], 0.06),
        pass_of("smooth", norms, flagged, 0.125),
    ]
    smallest = [] if flagged else np.argsort(norms)[:3].tolist()
    return {
        "verdict": "backdoored" if flagged else "clean",
        "reason": None,
        "smallest": [entry(label, norms[label], 1.5, **own) for label in smallest],
        "references": [],
        "anomaly_indices": [1.25 - place for place in range(len(norms))],
        "flagged": [entry(label, norms[label], 7.5, **own) for label in flagged],
        "limit": 2.5,
        "labels": len(norms),
        "passes": passes,
        **changes,
    }


def pass_of(name, norms, flagged, shift):
    return {
        "name": name,
        "shift": shift,
        "blur": 0.05 if shift > 0.1 else 0.0,
        "median": float(np.median(norms)),
        "mad": 3.25,
        "mad_flagged": list(flagged),
        "all": [entry(place, l1, stopped_early=place % 2 == 1) for place, l1 in enumerate(norms)],
    }


def trigger(shape=SHAPE):
    mask = np.zeros((*shape[:2], 1))
    mask[2:4, 2:4] = 0.9
    return mask, np.random.default_rng(0).random(shape), 0.995


def test_text_by_hand():
    result = drawn_up([3, 1], [40.0, 2.25, 44.5, 1.5, 39.0])
    result["passes"][1]["all"][3]["mad_anomaly_index"] = 12.125
    result["flagged"][1] |= {"weight_index": 4.25, "flagged_by": "sharp pass"}
    lines = scan_text(result, style="github").splitlines()
    rule = "index above 2.50, or far smaller than the next in one pass"
    assert lines[-1] == f"backdoored: 2 of 5 labels flagged ({rule})"
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[8:12]]
    assert table[0] == [
        *("label", "L1 (pixels)", "attack success (%)", "anomaly index", "of the weights"),
        *("MAD's index", "shift (%)", "flagged by"),
    ]
    assert table[2:] == [
        ["3", "1.5", "99.5", "7.50", "", "3.75", "12.5", "index"],
        ["1", "2.2", "99.5", "7.50", "4.25", "3.75", "12.5", "sharp pass"],
    ]
    assert len(lines) == 13 and lines[:8] == [
        "Neural Cleanse's statistic, smooth triggers shifted by up to 12.5 % of the image size:",
        "median: 39.000000, MAD: 3.250000",
        "anomaly index: 12.125000",
        "flagged label list: 3: 1.5, 1: 2.2",
        "Neural Cleanse's statistic, sharp triggers shifted by up to 6.0 % of the image size:",
        "median: 40.000000, MAD: 3.250000",
        "anomaly index: 0.250000",
        "flagged label list: ",
    ]


def test_text_where_the_index_flags():
    line = scan_text(drawn_up([1], [40.0, 2.25, 44.5])).splitlines()[-1]
    assert line == "backdoored: 1 of 3 labels flagged (index above 2.50)"


def test_text_of_a_scan_that_flags_nothing():
    """It still shows what stands out most."""
    lines = scan_text(drawn_up([], [40.0, 41.0, 39.0]), style="github").splitlines()
    expected = "clean: nothing found, 0 of 3 labels flagged (largest index 1.25 of 2.50)"
    assert lines[-1] == expected and lines[8] == "the triggers that stand out most:"
    assert [line.split("|")[1].strip() for line in lines[11:14]] == ["2", "0", "1"]
    assert len(lines) == 15 and lines[7].rstrip() == "flagged label list:"


@pytest.mark.parametrize("verdict", ["suspicious", "cannot be judged"])
def test_text_of_a_scan_that_is_undecided(verdict):
    """A limit that no label can pass is not printed."""
    more = {"verdict": verdict, "reason": "this and that", "limit": None, "references": [4, 5]}
    lines = scan_text(drawn_up([], [40.0, 41.0], **more)).splitlines()
    assert lines[-1] == f"{verdict}: this and that" and "flagged (index" not in "".join(lines)
    assert lines[-2] == "scanned beside, to judge by: labels 4, 5"
    told = any(line.startswith("flagged label list") for line in lines)
    assert told == (verdict == "suspicious")


def shown(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("channels", [1, 3])
def test_triggers_have_a_row_each(tmp_path, channels):
    shape = (*SHAPE[:2], channels)
    picture = clean_images(1).images[0][..., :channels]
    heights = []
    for flagged in ([1], [1, 3], [], list(range(20))):
        path = tmp_path / "new" / f"{len(flagged)}.png"
        result = drawn_up(flagged, [5.0 + label for label in range(20)])
        plot_triggers(path, dict.fromkeys(range(20), trigger(shape)), picture, result, net="a net")
        heights.append(shown(path).shape[0])
        assert shown(path).std() > 3
    assert heights == sorted(set(heights)) and heights[-1] < 4000  # three rows for none flagged


def test_triggers_are_drawn_as_they_are(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))
    )
    mask, pattern, success = trigger()
    picture = clean_images(1).images[0]
    result = drawn_up([1], [40.0, 3.5, 44.0])
    plot_triggers(
        tmp_path / "a.png", {1: (mask, pattern, success)}, picture, result, net="$n^$\udcff"
    )
    arrays = [np.asarray(axes.images[0].get_array()) for axes in drawn[0].axes]
    expected = [mask[..., 0], pattern, mask * pattern, picture / 255 * (1 - mask) + mask * pattern]
    for found, wanted in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    words = drawn[0].axes[0].get_ylabel()
    assert all(part in words for part in ("label 1", "3.5 pixels", "7.5", "99.5"))
    assert drawn[0].get_suptitle() == r"$n^$\xdcff: backdoored, 1 of 3 labels flagged (1)"


@pytest.mark.parametrize(
    ("flagged", "norms"),
    [
        ([], [30.0, 40.0, 50.0]),
        ([2], [30.0, 40.0, 0.8, 50.0]),
        ([0], [1e-5, 40.0, 50.0]),
        ([], [12.0]),
        ([], [7.0, 7.0, 7.0]),
        ([], [0.02]),
        ([], [0.02, 0.03]),
    ],
)
def test_norms_are_drawn_whatever_they_are(tmp_path, flagged, norms):
    plot_norms(tmp_path / "a.png", drawn_up(flagged, norms), net="a net")
    assert shown(tmp_path / "a.png").shape == (975, 1200, 3)


def test_every_norm_is_counted_and_flagged_labels_are_named(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))
    )
    norms = [30.0, 41.0, 0.7, 52.0, 33.0, 2.0]
    plot_norms(tmp_path / "a.png", drawn_up([2, 5], norms))
    near, axes = drawn[0].axes
    for panel in (near, axes):
        assert sum(patch.get_height() for patch in panel.patches) == len(norms)
    assert not near.texts
    low, high = axes.get_xlim()
    assert low < 0.7 and high > 52
    assert [text.get_text() for text in axes.texts] == ["label 2", "label 5"]
    assert [text.xy[0] for text in axes.texts] == [0.7, 2.0]


def test_where_none_is_flagged_the_smallest_are_named(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))
    )
    plot_norms(tmp_path / "a.png", drawn_up([], [30.0, 41.0, 20.0, 52.0, 33.0]))
    assert [text.get_text() for text in drawn[0].axes[1].texts] == ["label 2", "label 0", "label 4"]
    assert drawn[0].get_suptitle() == "clean, 0 of 5 labels flagged"


def test_plots_cannot_take_the_place_of_a_folder(tmp_path):
    result = drawn_up([], [30.0, 40.0])
    with pytest.raises(InputError, match="this is a folder"):
        plot_norms(tmp_path, result)
    with pytest.raises(InputError, match="this is a folder"):
        plot_triggers(tmp_path, dict.fromkeys((0, 1), trigger()), clean_images(1).images[0], result)
