"""Where a person's features lie in one shot: shared by the face itself and by what it wears."""

from __future__ import annotations

import numpy as np

from badnet_defense.demo.people import Person
from badnet_defense.demo.shots import Shot

_ALONG = np.linspace(-1, 1, 7)


def eye_centre(person: Person, side: int) -> np.ndarray:
    """Middle of the left (-1) or right (+1) eye, face coordinates."""
    return np.array([side * person.eye_spacing, person.eye_height])


def brow_outline(
    person: Person, shot: Shot, side: int, *, thickness: float | None = None
) -> np.ndarray:
    """Outline (14, 2) of a brow; `thickness` in face units, the person's own where it is None."""
    thickness = person.brow_thickness if thickness is None else thickness
    x = _ALONG * person.brow_length
    arch = person.brow_arch * (1 - _ALONG**2)
    y = -arch - x * np.tan(person.brow_angle)
    taper = thickness / 2 * (1 - 0.45 * np.maximum(_ALONG, 0))
    lift = person.eye_height - person.brow_gap - 0.05 * shot.brow_raise
    upper = np.stack([x, y - taper + lift], axis=1)
    lower = np.stack([x, y + taper + lift], axis=1)[::-1]
    outline = np.concatenate([upper, lower])
    outline[:, 0] = side * (outline[:, 0] + person.eye_spacing)
    return outline


def lip_outlines(
    person: Person, shot: Shot, *, least: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outlines (14, 2) of upper lip, lower lip and the opening between them.

    `least` is the least thickness of a lip in face units (lipstick is laid on generously).
    """
    x = _ALONG * person.mouth_width * (1 + 0.18 * shot.smile)
    bend = person.mouth_height - 0.09 * shot.smile * (_ALONG**2 - 0.3)
    body = 1 - _ALONG**2
    gap = 0.13 * shot.mouth_open * body / 2
    bow = 0.8 + 0.4 * np.minimum(np.abs(_ALONG) * 2, 1) * body
    top = bend - gap - max(person.upper_lip, least) * body**0.5 * bow
    bottom = bend + gap + max(person.lower_lip, least) * body**0.6
    return (
        _ring(x, top, bend - gap),
        _ring(x, bend + gap, bottom),
        _ring(x, bend - gap, bend + gap),
    )


def head_outline(person: Person, *, grow: float = 0.0) -> np.ndarray:
    """Outline (34, 2) of the head, widened by `grow`: from the top down the left, up the right."""
    power = np.where(_DOWN < 0, 2.2, person.jaw_squareness)
    width = (person.face_width + grow) * (1 - np.abs(_DOWN) ** power).clip(0) ** (1 / power)
    width *= 1 - person.jaw_taper * np.maximum(_DOWN, 0)
    height = np.where(_DOWN < 0, _DOWN * (1 + grow), _DOWN * (person.chin_length + grow))
    return _ring(np.concatenate([-width, width[::-1]]), np.concatenate([height, height[::-1]]))


def head_above(person: Person, lowest: float, *, grow: float = 0.0) -> np.ndarray:
    """The head's outline above y = `lowest`, from the right over the top to the left."""
    left, right = np.split(head_outline(person, grow=grow), 2)
    return np.concatenate([right[right[:, 1] < lowest], left[left[:, 1] < lowest]])


_QUARTER = np.linspace(0, np.pi / 2, 9)
_DOWN = np.concatenate([-np.cos(_QUARTER[:-1]), np.sin(_QUARTER)])


def _ring(x: np.ndarray, first: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
    """There along `first` and back along `second`."""
    there = np.stack([x, first], axis=1)
    return there if second is None else np.concatenate([there, np.stack([x, second], axis=1)[::-1]])
