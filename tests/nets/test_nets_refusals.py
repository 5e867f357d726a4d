"""Nets that hold code: refused by the layer's name, and nothing in them runs."""

import ast
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from hostile_nets import change_config, refused
from keras import layers
from small_nets import CLASSES, SHAPE, net

from badnet_defense.errors import UnsafeNetError
from badnet_defense.nets import (
    describe,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lambda_net(tmp_path_factory):
    """A net whose Lambda layer, once run, leaves a file behind; (the net, that file)."""
    trace = tmp_path_factory.mktemp("trace") / "ran.txt"
    code = f"lambda x: (open({str(trace)!r}, 'w').close(), x)[1]"
    model = net([layers.Flatten(), layers.Lambda(eval(code), name="evil"), layers.Dense(CLASSES)])
    trace.unlink()  # building the net ran it
    return model, trace


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_lambda_is_refused_by_name_and_never_runs(lambda_net, ending, tmp_path):
    model, trace = lambda_net
    model.save(tmp_path / f"evil{ending}")
    trace.unlink(missing_ok=True)
    refused(tmp_path / f"evil{ending}", "'evil'", "Lambda")
    assert not trace.exists()
    # The file is armed: Keras itself runs it when told that it may.
    keras.saving.load_model(tmp_path / f"evil{ending}", safe_mode=False, compile=False)
    assert trace.exists()
    trace.unlink()


def test_lambda_inside_a_nested_model_is_refused(lambda_net, tmp_path):
    inner, trace = lambda_net
    outer = keras.Sequential([keras.Input(SHAPE), layers.Dropout(0.1), inner])
    outer.save(tmp_path / "outer.keras")
    trace.unlink(missing_ok=True)
    refused(tmp_path / "outer.keras", "'evil'", "Lambda")
    assert not trace.exists()
    with pytest.raises(UnsafeNetError, match="Lambda"):
        describe(outer)


@keras.saving.register_keras_serializable("somebody")
class Dense(layers.Dense):
    """A custom layer that calls itself by the name of a plain one."""


@keras.saving.register_keras_serializable("somebody")
def own_activation(x):
    return x


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_custom_layer_that_poses_as_a_plain_one(ending, tmp_path):
    net([layers.Flatten(), Dense(CLASSES, name="mine")]).save(tmp_path / f"net{ending}")
    refused(tmp_path / f"net{ending}", "'mine'", "somebody>Dense")


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_custom_activation(ending, tmp_path):
    model = net([layers.Flatten(), layers.Dense(CLASSES, own_activation, name="mine")])
    model.save(tmp_path / f"net{ending}")
    refused(tmp_path / f"net{ending}", "'mine'", "activation", "own_activation")


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_augmentation_layers_are_refused_with_what_to_do(ending, tmp_path):
    model = net([layers.RandomFlip(name="flip"), layers.Flatten(), layers.Dense(CLASSES)])
    model.save(tmp_path / f"net{ending}")
    refused(tmp_path / f"net{ending}", "'flip'", "in training only; save the model without")


def test_layers_of_other_modules(h5):
    change_config(h5, lambda by_name, _: by_name["conv"].update(module="os.path"))
    refused(h5, "'conv'", "os.path")


def test_the_package_never_hands_a_file_to_keras():
    forbidden = {"load_model", "clone_model", "model_from_json", "from_config", "deserialize"}
    forbidden |= {"enable_unsafe_deserialization", "load_weights", "loads_pickle", "eval", "exec"}
    for path in (ROOT / "badnet_defense").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = getattr(node, "attr", None) or getattr(node, "id", None)
            assert name not in forbidden, f"{path.name} uses {name}"


def test_reading_a_net_needs_no_tensorflow(h5):
    code = (
        "import sys; from badnet_defense.nets import read_net; import numpy as np;"
        "read_net(sys.argv[1]).numpy_proba(np.zeros((1, 12, 10, 3)));"
        "print([m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(h5)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
