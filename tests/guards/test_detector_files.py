"""Guards' files of every detector: the same answers, read as data, refused when changed."""

import zipfile
from functools import partial

import keras
import numpy as np
import pytest
from guard_pairs import INPUTS, PICTURES, rewritten
from PIL import Image
from small_detectors import ALL, CLEAN, RATE
from small_nets import CLASSES

from badnet_defense.detectors import DetectorConfig, scores
from badnet_defense.detectors.bands import bands
from badnet_defense.detectors.sentinet import SentiNet
from badnet_defense.detectors.soft_disagreement import SoftDisagreement
from badnet_defense.detectors.vote import Vote
from badnet_defense.errors import InputError, TooLargeError, UnsafeNetError
from badnet_defense.guards import reading
from badnet_defense.guards.calibrated import build_calibrated_guard
from badnet_defense.guards.reading import is_guard, read_guard
from badnet_defense.nets import describe
from badnet_defense.nets.input_range import InputRange
from badnet_defense.workflows.classify import classify_images


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    for name, detector in fitted.items():
        build_calibrated_guard(detector).save(folder / f"{name}.keras")
    return folder


def away_from_thresholds(detector, pictures):
    """Pictures whose scores are no rounding error away from a threshold."""
    if isinstance(detector, Vote):
        pairs = zip(detector.raw_scores(pictures), detector.thresholds_, strict=True)
    else:
        pairs = [(detector.anomaly_score(pictures), detector.threshold_)]
    return np.all([np.abs(scores - limit) > 1e-4 for scores, limit in pairs], axis=0)


@pytest.mark.parametrize("name", ALL)
def test_saved_guard_answers_as_the_detector(name, fitted, folder):
    sure = away_from_thresholds(fitted[name], PICTURES)
    assert sure.mean() > 0.9
    expected = fitted[name].predict(PICTURES)
    assert 0 < np.mean(expected == CLASSES) < 1
    loaded = keras.saving.load_model(folder / f"{name}.keras", safe_mode=True)
    answers = loaded.predict(INPUTS, batch_size=16, verbose=0)
    assert answers.dtype == np.int32
    np.testing.assert_array_equal(answers[sure], expected[sure])


@pytest.mark.parametrize("name", ALL)
def test_saved_guard_is_read_as_data_and_answers_without_tensorflow(name, fitted, folder):
    path = folder / f"{name}.keras"
    assert is_guard(path)
    sure = away_from_thresholds(fitted[name], PICTURES)
    answers = read_guard(path).answers(INPUTS)
    np.testing.assert_array_equal(answers[sure], fitted[name].predict(PICTURES)[sure])


@pytest.mark.parametrize("name", ALL)
def test_file_holds_no_code(name, folder):
    with zipfile.ZipFile(folder / f"{name}.keras") as archive:
        assert "__lambda__" not in archive.read("config.json").decode()


def changed(source, target, change):
    """A copy whose layers, by name, went through `change`."""
    return rewritten(source, target, lambda layers: change({one["name"]: one for one in layers}))


def other_function(parts):
    parts["divergence"]["config"]["function"]["config"] = "badnet_defense>eval"


def foreign_function(parts):
    parts["divergence"]["config"]["function"]["config"] = "os>system"


def threshold_no_number(parts):
    parts["flag_above"]["config"]["arguments"]["thresholds"][0] = float("nan")


def one_threshold_less(parts):
    parts["flag_above"]["config"]["arguments"]["thresholds"].pop()


def countless_overlays(parts):
    parts["neg_entropy_pictures"]["config"]["count"] = 10**9


def other_layer(parts):
    parts["neg_entropy_pictures"]["class_name"] = "TFSMLayer"


def other_wiring(parts):
    arguments = parts["divergence"]["inbound_nodes"][0]["args"][0]
    arguments.reverse()


def no_range(parts):
    parts["flag_above"]["config"]["arguments"]["input_range"] = [1.0, 0.0]


def rewired(parts, name, node, *sources):
    args = parts[name]["inbound_nodes"][node]["args"]
    tensors = args[0] if isinstance(args[0], list) else args
    for tensor, history in zip(tensors, sources, strict=True):
        tensor["config"]["keras_history"] = [*history, 0]


def plain_images_in_place_of_overlaid(parts):
    rewired(parts, "neg_entropy", 0, ("bad", 0))


def pasted_in_place_of_overlaid(parts):
    rewired(parts, "neg_entropy", 0, ("bad", 2))


def overlaid_of_overlaid(parts):
    rewired(parts, "takeover_pictures", 0, ("neg_entropy_pictures", 0))


def verdict_of_the_repair(parts):
    rewired(parts, "flag_above", 0, ("repaired", 0), *[(one, 0) for one in MEASURES])


def measures_in_another_order(parts):
    rewired(parts, "flag_above", 0, ("bad", 0), *[(one, 0) for one in reversed(MEASURES)])


def other_hosts(parts):
    parts["takeover"]["config"]["arguments"]["hosts"].append(0)


def half_precision(parts):
    parts["neg_entropy_pictures"]["config"]["dtype"] = "float16"


MEASURES = ("divergence", "neg_entropy", "takeover")


@pytest.mark.parametrize(
    "change",
    [
        *(other_function, foreign_function, threshold_no_number, one_threshold_less),
        *(countless_overlays, other_layer, other_wiring, no_range, other_hosts, half_precision),
        *(plain_images_in_place_of_overlaid, pasted_in_place_of_overlaid, overlaid_of_overlaid),
        *(verdict_of_the_repair, measures_in_another_order),
    ],
)
def test_changed_guards_are_refused(change, folder, tmp_path):
    path = changed(folder / "vote.keras", tmp_path / "changed.keras", change)
    assert not is_guard(path)
    with pytest.raises(UnsafeNetError, match="no guard of this project"):
        read_guard(path)


@pytest.mark.parametrize(
    "name, layer, count",
    [("strip", "neg_entropy_pictures", 11), ("sentinet", "takeover_pictures", 6)],
)
def test_overlays_of_another_count_than_is_stored(name, layer, count, folder, tmp_path):
    def other(parts):
        parts[layer]["config"]["count"] = count
        arguments = parts[layer.removesuffix("_pictures")]["config"]["arguments"]
        arguments.update({"overlays": count} if name == "strip" else {"hosts": [0] * count})

    path = changed(folder / f"{name}.keras", tmp_path / "changed.keras", other)
    with pytest.raises(UnsafeNetError, match=r"overlays.*shape"):
        read_guard(path)


def test_overlays_that_take_too_much_memory(folder, monkeypatch, with_limits):
    with_limits(isolate=False)
    monkeypatch.setattr(reading, "MAX_VALUES", 12 * 12 * 10 * 3 - 1)
    with pytest.raises(TooLargeError, match="too much memory"):
        read_guard(folder / "strip.keras")


def test_nets_of_different_shapes_are_refused(trio, tmp_path):
    narrow = keras.Sequential(
        [keras.Input((12, 10, 3)), keras.layers.Flatten(), keras.layers.Dense(CLASSES - 2)]
    )
    mixed = SoftDisagreement(trio[0], describe(narrow))
    mixed.threshold_ = 1.0
    build_calibrated_guard(mixed).save(tmp_path / "mixed.keras")
    with pytest.raises(UnsafeNetError, match="differ in shape"):
        read_guard(tmp_path / "mixed.keras")


def test_guard_of_another_range_is_refused(trio, tmp_path):
    wide = (net.with_range(InputRange(0, 255)) for net in trio[:2])
    wide = SoftDisagreement(*wide, config=DetectorConfig(RATE))
    build_calibrated_guard(wide.fit(CLEAN)).save(tmp_path / "wide.keras")
    assert read_guard(tmp_path / "wide.keras").input_range == InputRange(0, 255)
    Image.fromarray(PICTURES[0]).save(tmp_path / "one.png")
    ask = partial(classify_images, [tmp_path / "one.png"], tmp_path / "wide.keras", root=tmp_path)
    assert ask() == ask(input_range=InputRange(0, 255))
    with pytest.raises(InputError, match="give 0,255 as the input range"):
        ask(input_range=InputRange(0, 1))


class _Transplants(SentiNet):
    """SentiNet as version 0.1 measured it."""

    measure = scores.paste_success


def test_a_guard_of_version_0_1_answers_by_the_probabilities_that_its_threshold_is_of(
    trio, tmp_path
):
    old = _Transplants(trio[0], overlays=CLEAN[:5])
    hosts = trio[0].predict(CLEAN[:5])
    old.threshold_ = 0.6
    build_calibrated_guard(old).save(tmp_path / "old.keras")
    saved = read_guard(tmp_path / "old.keras")
    assert saved.measures == ("paste_success",) and saved.thresholds == (0.6,)
    answers = saved.answers(INPUTS)
    given = trio[0].model.predict(INPUTS, verbose=0)
    composed = np.where(bands(INPUTS.shape[1:])[:, None], INPUTS[:, None, None], CLEAN[:5] / 255)
    carried = trio[0].model.predict(composed.reshape(-1, *INPUTS.shape[1:]), verbose=0)
    carried = carried.reshape(len(INPUTS), -1, 5, CLASSES)
    found = scores.paste_success(np, given, carried, hosts)
    sure = np.abs(found - 0.6) > 1e-4
    expected = np.where(found > 0.6, CLASSES, given.argmax(axis=1))
    assert 0 < np.mean(expected == CLASSES) < 1
    np.testing.assert_array_equal(answers[sure], expected[sure])
