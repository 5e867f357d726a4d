"""Translates the layer configurations of Keras 1 into those of Keras 2."""

from __future__ import annotations

from typing import Any

from badnet_defense.errors import UnsafeNetError

_CLASSES = {"Convolution2D": "Conv2D", "Model": "Functional"}
_SETTINGS = {
    "nb_filter": "filters",
    "output_dim": "units",
    "border_mode": "padding",
    "subsample": "strides",
    "bias": "use_bias",
    "p": "rate",
}
_MERGES = {"sum": "Add", "mul": "Multiply", "concat": "Concatenate"}
# Keras 1 settings that say how a layer was trained or built, not what it answers.
_TRAINING = frozenset(
    "init W_regularizer b_regularizer W_constraint b_constraint beta_init gamma_init input_dim "
    "input_dtype create_input_layer gamma_regularizer beta_regularizer weights".split()
)


def translate_layer(kind: str, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(class name, configuration) in Keras 2's words; those of Keras 2 and 3 pass unchanged."""
    if kind == "Merge":
        return _translate_merge(config)
    kind = _CLASSES.get(kind, kind)
    if config.get("dim_ordering") not in (None, "default", "tf"):
        raise UnsafeNetError(f"layer {config.get('name')!r} keeps channels first; expected last.")
    plain = {}
    for given, value in config.items():
        name = _SETTINGS.get(given, given)
        if name in plain:
            raise UnsafeNetError(f"layer {config.get('name')!r} has the setting {name!r} twice.")
        if name not in _TRAINING and name != "dim_ordering":
            plain[name] = value
    if kind == "Conv2D" and "nb_row" in plain:
        plain["kernel_size"] = [plain.pop("nb_row"), plain.pop("nb_col")]
    if kind == "ZeroPadding2D" and isinstance(plain.get("padding"), dict):
        sides = plain["padding"]
        plain["padding"] = [
            [sides.get("top_pad", 0), sides.get("bottom_pad", 0)],
            [sides.get("left_pad", 0), sides.get("right_pad", 0)],
        ]
    return kind, plain


def _translate_merge(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    mode = config.get("mode")
    if mode not in _MERGES or config.get("mode_type", "raw") != "raw":
        raise UnsafeNetError(
            f"layer {config.get('name')!r} merges by {str(mode)[:40]!r}; expected sum, mul, concat."
        )
    plain = {"name": config.get("name")}
    if mode == "concat":
        plain["axis"] = config.get("concat_axis", -1)
    return _MERGES[mode], plain
