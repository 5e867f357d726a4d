"""A data set as text and as one page: numbers, a contact sheet by label, and answers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from badnet_defense.errors import one_line
from badnet_defense.io.dataset import Dataset
from badnet_defense.report.pages import encoded, write_template

PER_LABEL, MAX_LABELS, MAX_IMAGES = 8, 120, 48
"""Images of a label, labels, and images of a gallery that a page shows."""
MAX_NUMBERS = 12
"""Class numbers that a line names."""


def show_lines(result: Mapping[str, Any]) -> list[str]:
    r"""[line] of what is in a data set.

    Args:
        result: of `workflows.show`.

    Examples:
        >>> labels = {"counts": {"0": 2, "2": 1}, "missing": [1], "outside": [],
        ...           "outside_images": 0}
        >>> found = {"images": 3, "shape": [2, 2, 1], "dtype": "uint8", "range": [0.0, 9.0],
        ...          "labels": labels, "duplicates": {"images": 1, "contradicting": []}}
        >>> print(*show_lines(found), sep="\n")
        3 images of 2 x 2 pixels, 1 channel, uint8, values 0 to 9
        labels: 2 classes, 1 to 2 images per class
        no image of 1 class: 1
        1 image is a copy of another
    """
    height, width, channels = result["shape"]
    low, high = result["range"]
    lines = [
        f"{result['images']:,} images of {height} x {width} pixels, {channels} "
        f"channel{'s' if channels > 1 else ''}, {result['dtype']}, values {low:g} to {high:g}"
    ]
    labels = result["labels"]
    if labels is None:
        lines.append("no labels")
    else:
        counts = list(labels["counts"].values())
        low, high = min(counts), max(counts)
        each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        lines.append(
            f"labels: {len(counts):,} class{'es' if len(counts) > 1 else ''}, {each} images per "
            "class"
        )
        if labels["missing"]:
            count = len(labels["missing"])
            plural = "es" if count > 1 else ""
            lines.append(f"no image of {count:,} class{plural}: {_numbers(labels['missing'])}")
        if labels["outside"]:
            lines.append(
                f"{labels['outside_images']:,} images with labels outside the model's classes: "
                f"{_numbers(labels['outside'])}"
            )
    copies = result["duplicates"]["images"]
    if copies:
        lines.append(f"{copies:,} image{'s are copies' if copies > 1 else ' is a copy'} of another")
    if result["duplicates"]["contradicting"]:
        groups = result["duplicates"]["contradicting"]
        lines.append(f"copies with different labels: images {_numbers(groups[0])}, ..")
    return lines + _answer_lines(result)


def _answer_lines(result: Mapping[str, Any]) -> list[str]:
    """[line] of what the model and its repair answer."""
    lines = []
    model, repaired = result.get("model"), result.get("repaired")
    if model and model.get("note"):
        lines.append(one_line(model["note"]))
    if model and "accuracy" in model:
        low, high = model["accuracy_interval"]
        lines.append(
            f"the model answers {100 * model['accuracy']:.1f} % with their label (95 %: "
            f"{100 * low:.1f} to {100 * high:.1f} %), {model['wrong_images']:,} otherwise"
        )
    if model:
        label, count = next(iter(model["answers"].items()))
        lines.append(f"its most frequent answer is class {label}: {count:,} images")
    if repaired:
        low, high = repaired["fraction_interval"]
        lines.append(
            f"model and repair differ on {repaired['differ']:,} images, "
            f"{100 * repaired['fraction']:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f} %)"
        )
    return lines


def _numbers(values: Sequence[int]) -> str:
    more = f" and {len(values) - MAX_NUMBERS:,} more" if len(values) > MAX_NUMBERS else ""
    return ", ".join(map(str, values[:MAX_NUMBERS])) + more


def write_show_page(
    path: str | Path, result: Mapping[str, Any], data: Dataset, *, command: str
) -> None:
    """Writes the page.

    Args:
        path: the `.html` file.
        result: of `workflows.show`.
        data: the images.
        command: what was called.

    Raises:
        InputError: nothing can be written at `path`.
    """
    model, repaired = result.get("model") or {}, result.get("repaired") or {}
    labels = result["labels"]
    write_template(
        path,
        "show.html.j2",
        title=one_line(Path(result["data"]["file"]).name),
        lines=show_lines(result),
        rows=[] if labels is None else _rows(data, labels["counts"]),
        unshown=0 if labels is None else max(0, len(labels["counts"]) - MAX_LABELS),
        images=_gallery(data, range(min(len(data), MAX_IMAGES))) if labels is None else [],
        wrong=_answered(data, model.get("wrong", ())),
        wrong_images=model.get("wrong_images", 0),
        differ=_answered(data, repaired.get("listed", ())),
        differ_images=repaired.get("differ", 0),
        trigger_labels=repaired.get("trigger_labels"),
        data=result["data"],
        model=model,
        command=command,
    )


def _rows(data: Dataset, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """A strip of images for each label."""
    assert data.labels is not None
    rows = []
    for label, count in list(counts.items())[:MAX_LABELS]:
        places = np.flatnonzero(data.labels == int(label))[:PER_LABEL]
        rows.append({"label": label, "count": count, "images": _gallery(data, places)})
    return rows


def _answered(data: Dataset, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Images with their label and what was answered."""
    entries = entries[:MAX_IMAGES]
    pictures = _gallery(data, [entry["image"] for entry in entries])
    return [{**entry, "png": png["png"]} for entry, png in zip(entries, pictures, strict=True)]


def _gallery(data: Dataset, places: Sequence[int] | np.ndarray | range) -> list[dict[str, Any]]:
    return [{"image": int(place), "png": _png(data.images[place])} for place in places]


def _png(image: np.ndarray) -> str | None:
    """An image (h, w, channels), pixels 0-255, as text for a `data:` address."""
    from PIL import Image

    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    shown = pixels[..., 0] if pixels.shape[-1] not in (3, 4) else pixels
    with io.BytesIO() as buffer:
        Image.fromarray(shown).save(buffer, "PNG")
        return encoded(buffer.getvalue())
