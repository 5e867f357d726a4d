"""Writes a guard for places where this package is not: plain Keras, and ONNX."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from badnet_defense.errors import InputError
from badnet_defense.guards.description import HARD
from badnet_defense.guards.disagreement import build_portable_guard, disagreement
from badnet_defense.guards.wiring import DESCRIPTION
from badnet_defense.io.files import atomic_write
from badnet_defense.nets.net import Net


def export_portable(suspect: Net, repaired: Net, path: str | Path) -> None:
    """Writes the disagreement guard of two nets as plain Keras or as ONNX, by the file's suffix.

    Args:
        suspect, repaired: `Net`s with the same image shape and classes; the file's metadata
            hold the guard's description, the suspect model's input range with it.
        path: `.keras`, which plain Keras 3 loads without this package, or `.onnx` (needs the extra
            `pip install .[onnx]`): input "pictures" (n, h, w, c) `float32` in the net's range,
            output (n,) `int32`, 0..N.

    Raises:
        InputError: another suffix, the extra is missing, or the nets don't fit together.
    """
    suffix = Path(path).suffix
    if suffix not in (".keras", ".onnx"):
        raise InputError(f"{path}: expected a file name that ends in .keras or .onnx.")
    guard = build_portable_guard(suspect, repaired)
    description = json.dumps(replace(HARD, input_range=suspect.input_range).as_dict())
    with atomic_write(path) as partial:
        if suffix == ".keras":
            guard.save(partial)
            _describe(partial, description)
        else:
            _write_onnx(guard, partial, description)


def _describe(path: Path, description: str) -> None:
    """Writes the description into a `.keras` file's metadata, which plain Keras passes over."""
    content = io.BytesIO(Path(path).read_bytes())
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            member = old.read(info)
            if info.filename == "metadata.json":
                member = json.dumps({**json.loads(member), DESCRIPTION: description}).encode()
            new.writestr(info, member)


def _write_onnx(guard: Any, path: Path, description: str) -> None:
    import tensorflow as tf

    try:
        import tf2onnx
    except ImportError:
        raise InputError(
            f"{path.suffix}: the package tf2onnx is missing; install it: pip install '.[onnx]'"
        ) from None
    suspect, repaired = guard.get_layer("suspect"), guard.get_layer("repaired")
    signature = [tf.TensorSpec((None, *guard.input_shape[1:]), tf.float32, name="pictures")]

    @tf.function(input_signature=signature)
    def answers(pictures: Any) -> Any:
        return disagreement([suspect(pictures), repaired(pictures)])

    model, _ = tf2onnx.convert.from_function(answers, input_signature=signature, opset=15)
    note = model.metadata_props.add()
    note.key, note.value = DESCRIPTION, description
    Path(path).write_bytes(model.SerializeToString())
