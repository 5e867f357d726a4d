"""One person's face in one shot, from the backdrop to the glasses."""

from __future__ import annotations

import numpy as np
from PIL import Image

from badnet_defense.demo.features import (
    brow_outline,
    eye_centre,
    head_above,
    head_outline,
    lip_outlines,
)
from badnet_defense.demo.people import Colour, Person
from badnet_defense.demo.shots import HEIGHT, WIDTH, Shot
from badnet_defense.demo.sketch import CANVAS_SIZE, SUPERSAMPLING, Sketch, ellipse_outline

SIDES = (-1, 1)


def draw_face(person: Person, shot: Shot) -> np.ndarray:
    """The face before a backdrop, (55, 47, 3) `uint8`, before light and camera (`develop`)."""
    image = _backdrop(shot)
    sketch = Sketch(image, shot)
    _hair_behind(sketch, person)
    _head(sketch, person, shot)
    _beard(sketch, person)
    _nose(sketch, person)
    _mouth(sketch, person, shot)
    for side in SIDES:
        _eye(sketch, person, shot, side)
    _hair_in_front(sketch, person)
    for side in SIDES:
        sketch.polygon(brow_outline(person, shot, side), person.brow, depth=0.8)
    _glasses(sketch, person)
    return np.asarray(image.reduce(SUPERSAMPLING))


def _shade(colour: Colour, factor: float) -> Colour:
    return tuple(min(255, int(channel * factor)) for channel in colour)


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    return tuple(int(a + (b - a) * share) for a, b in zip(one, other, strict=True))


def _backdrop(shot: Shot) -> Image.Image:
    upper, lower, _ = shot.backdrop
    down = np.linspace(0, 1, HEIGHT)[:, None, None] * 0.6
    across = np.linspace(0, 1, WIDTH)[None, :, None] * 0.4
    scene = upper + (lower - upper) * (down + across)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    for x, y, radius, step in shot.blobs:
        scene[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] += step
    scene = Image.fromarray(scene.clip(0, 255).astype(np.uint8))
    return scene.resize(CANVAS_SIZE, Image.Resampling.NEAREST)


def _hair_behind(sketch: Sketch, person: Person) -> None:
    width, volume = person.face_width, person.hair_volume
    dark = _shade(person.hair, 0.82)
    if person.hair_style in ("bob", "long"):
        bottom = 0.35 + 0.5 * person.hair_length if person.hair_style == "bob" else 1.6
        side = width + 0.10 + 0.6 * volume
        arch = ellipse_outline((0, -0.25), (side, 0.80 + volume))
        fall = [(side, -0.3), (side + 0.04, bottom), (-side - 0.04, bottom), (-side, -0.3)]
        sketch.polygon(arch, dark, depth=-0.3)
        sketch.polygon(fall, dark, depth=-0.3)
    elif person.hair_style == "curly":
        radius = 0.16 + 0.5 * volume
        for angle in np.linspace(-0.25 * np.pi, 1.25 * np.pi, 13):
            place = np.array([np.cos(angle) * (width + 0.05), -0.2 - np.sin(angle) * 0.82])
            sketch.ellipse(place, (radius, radius), dark, depth=-0.2)
    elif person.hair_style == "bun":
        radius = 0.18 + 0.6 * volume
        sketch.ellipse((person.parting, -1.05 - 0.4 * volume), (radius, radius * 0.8), dark)
    elif person.hair_style == "wreath":
        for side in SIDES:
            sketch.ellipse((side * width * 0.94, -0.2), (0.08 + 0.5 * volume, 0.36), dark)


def _head(sketch: Sketch, person: Person, shot: Shot) -> None:
    skin, clothes = person.skin, tuple(shot.backdrop[2].astype(int).tolist())
    sketch.polygon(
        [(-1.2, 2), (-0.9, 1.32), (-0.3, 1.12), (0.3, 1.12), (0.9, 1.32), (1.2, 2)], clothes
    )
    neck = 0.36 + 0.2 * (person.face_width - 0.6)
    sketch.polygon(
        [(-neck, 0.5), (neck, 0.5), (neck, 1.2), (0, 1.4), (-neck, 1.2)], _shade(skin, 0.74)
    )
    if person.hair_style not in ("bob", "long"):
        for side in SIDES:
            place = (side * (person.face_width + 0.01), person.ear_height)
            radii = np.array([0.55, 1.0]) * person.ear_size
            sketch.ellipse(place, radii, _shade(skin, 0.9), depth=-0.4)
            sketch.ellipse(place, radii * 0.5, _shade(skin, 0.74), depth=-0.4)
    sketch.polygon(head_outline(person), skin)
    blush = _mix(skin, (222, 110, 100), 0.5 * person.cheeks)
    for side in SIDES:
        sketch.ellipse((side * 0.4 * person.face_width / 0.7, 0.28), (0.17, 0.13), blush, depth=0.6)
    for mark in person.marks:
        sketch.ellipse(mark, (0.045, 0.045), _shade(skin, 0.5), depth=0.7)


def _beard(sketch: Sketch, person: Person) -> None:
    if person.beard in ("none", "moustache"):
        return
    strength = 0.45 if person.beard == "stubble" else 0.9
    colour = _mix(person.skin, _shade(person.hair, 0.85), strength)
    if person.beard == "goatee":
        radii = (0.16 + 0.12 * person.beard_size, 0.30)
        sketch.ellipse((0, person.chin_length - 0.22), radii, colour, depth=0.5)
        return
    head = head_outline(person)
    inner = person.face_width * (0.80 - 0.25 * person.beard_size)
    start = 0.10 + 0.15 * (1 - person.beard_size)
    outer = head[head[:, 1] > start - 0.15]
    upper = person.mouth_height - 0.18
    rim = [(inner, start), (inner * 0.7, upper + 0.04), (0, upper), (-inner * 0.7, upper + 0.04)]
    sketch.polygon(np.concatenate([outer, rim, [(-inner, start)]]), colour, depth=0.15)


def _nose(sketch: Sketch, person: Person) -> None:
    shadow, light = _shade(person.skin, person.nose_shade), _shade(person.skin, 1.07)
    top, bottom = person.eye_height + 0.05, person.eye_height + 0.08 + person.nose_length
    width = person.nose_width
    sketch.polygon(
        [(0.02, top), (width * 0.5, top), (width, bottom), (0, bottom)], shadow, depth=1.0
    )
    sketch.polygon(
        [(-width * 0.3, top), (0.04, top), (0.06, bottom), (-width, bottom)], light, depth=1.0
    )
    sketch.ellipse((0, bottom), (width, 0.06), shadow, depth=1.2)
    for side in SIDES:
        place = (side * width * 0.55, bottom + 0.02)
        sketch.ellipse(place, (0.035, 0.03), _shade(person.skin, 0.42), depth=1.2)


def _mouth(sketch: Sketch, person: Person, shot: Shot) -> None:
    if person.beard in ("moustache", "full"):
        hair = _mix(person.skin, _shade(person.hair, 0.8), 0.9)
        top = person.mouth_height - 0.10 - 0.05 * person.beard_size
        wide = 0.75 * person.mouth_width + 0.12 * person.beard_size
        outline = [(0, top - 0.06), (wide, top + 0.04), (wide * 0.9, top + 0.13), (0, top + 0.06)]
        outline += [(-wide * 0.9, top + 0.13), (-wide, top + 0.04)]
        sketch.polygon(outline, hair, depth=1.0)
    upper, lower, opening = lip_outlines(person, shot)
    sketch.polygon(upper, _shade(person.lips, 0.86), depth=1.0)
    sketch.polygon(lower, person.lips, depth=1.0)
    if shot.mouth_open > 0.1:
        sketch.polygon(opening, (232, 226, 220) if shot.smile > 0.4 else (70, 28, 30), depth=0.9)
    else:
        sketch.line(upper[7:], _shade(person.lips, 0.55), 0.5, depth=1.0)


def _eye(sketch: Sketch, person: Person, shot: Shot, side: int) -> None:
    centre = eye_centre(person, side)
    opening = person.eye_openness * shot.eye_open
    tilt = -side * person.eye_tilt
    socket = (person.eye_width * 1.25, opening + 0.07)
    sketch.ellipse(centre, socket, _shade(person.skin, 0.84), tilt=tilt, depth=0.8)
    lash = (person.eye_width * 1.06, opening * 1.12)
    sketch.ellipse(np.add(centre, (0, -0.02)), lash, (40, 28, 26), tilt=tilt, depth=0.8)
    white = (person.eye_width, opening)
    sketch.ellipse(centre, white, (238, 236, 230), tilt=tilt, depth=0.8)
    sketch.ellipse(centre, (0.075, min(opening, 0.08)), person.iris, depth=0.85)
    sketch.ellipse(centre, (0.034, min(opening, 0.036)), (12, 10, 10), depth=0.85)


def _hair_in_front(sketch: Sketch, person: Person) -> None:
    style = person.hair_style
    if style in ("bald", "wreath"):
        return
    short = style == "crew"
    outer = head_above(
        person, -0.05 if short else 0.05, grow=0.04 if short else 0.04 + 0.5 * person.hair_volume
    )
    along = np.linspace(-1, 1, 11)
    line = person.hairline + person.hairline_curve * along**2
    if style == "parting":
        line = line + person.parting * (along - np.sign(person.parting))
    elif style in ("fringe", "curly"):
        line = line + 0.10 + 0.05 * np.cos(along * 5 * np.pi)
    # Between the highest place that is still forehead and just above the eyes.
    line = np.clip(line, -0.88, person.eye_height - 0.12)
    temple = 0.97 * person.face_width * (1 - np.abs(line) ** 2.2) ** (1 / 2.2)
    sideburn = [0.92 * person.face_width, 0.0]
    inner = [[-sideburn[0], 0.0], *np.stack([along * temple, line], axis=1), sideburn]
    sketch.polygon(np.concatenate([outer, inner]), person.hair, depth=0.25)
    if not short:
        shine = (person.parting, -0.88)
        sketch.ellipse(shine, (0.26, 0.05), _shade(person.hair, 1.14), tilt=0.1, depth=0.25)


def _glasses(sketch: Sketch, person: Person) -> None:
    if person.glasses == "none":
        return
    size, y = person.frame_size, person.eye_height + 0.02
    colour, width = person.frame, person.frame_thickness
    for side in SIDES:
        x = side * max(person.eye_spacing, size + 0.05)
        rim = (
            ellipse_outline((x, y), (size, size)) if person.glasses == "round" else _box(x, y, size)
        )
        sketch.line(np.concatenate([rim, rim[:2]]), colour, width, depth=0.9)
        reach = [(x + side * size, y - 0.04), (side * person.face_width, y - 0.06)]
        sketch.line(reach, colour, width, depth=0.5)
    gap = max(person.eye_spacing - size, 0.05)
    sketch.line([(-gap, y - 0.03), (gap, y - 0.03)], colour, width, depth=1.0)


def _box(x: float, y: float, size: float) -> np.ndarray:
    wide, tall = np.array([-1, 1, 1, -1]) * size, np.array([-1, -1, 1, 1]) * size * 0.72
    return np.stack([x + wide, y + tall], axis=1)
