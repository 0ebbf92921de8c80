"""What is where in the body: the numbers are mm and HU (frame and depth: see the package)."""

from __future__ import annotations

import numpy as np

from .canvas import EVERYWHERE, FAT, FLUID, GAS, LUNG, MUSCLE, Ellipsoid, Patient, Tube, norm


def _spine_y(z: np.ndarray) -> np.ndarray:
    """Where the middle of a vertebral body is (mm): the lumbar lordosis."""
    return -58 + 11 * np.exp(-np.square((z + 60) / 75))


def _bone(depth: np.ndarray, marrow: float | np.ndarray) -> np.ndarray:
    """HU: a dense cortex over the marrow."""
    return marrow + 400 * np.exp(-np.clip(depth, 0, None) / 1.6)


def _trunk(p: Patient) -> None:
    """Skin, fat, muscle wall, cavity with fat, lungs; sets the surfaces that organs are clipped by."""
    x, y, z = p.x, p.y, p.z
    fat, muscle, belly = p.rng.uniform(9, 24), p.rng.uniform(10, 14), p.rng.uniform(92, 108)
    behind = (y < 0).astype(np.float32)
    width = 131 - 7 * np.exp(-np.square((z + 45) / 45))
    height = 88 + (belly - 88 - np.square((z + 30) / 34)) * (1 - behind)
    u, v = np.square(x / width), np.square(y / height)
    ellipse = np.sqrt(x * x + y * y) * (1 / (np.sqrt(np.sqrt(u * u + v * v + 1.4 * u * v)) + 1e-3) - 1)
    groove = 6 * np.exp(-np.square(x / 13)) * behind
    dent = 43 * np.exp(-np.square(np.square(x / 46))) * behind  # the spine and its muscles protrude into the cavity
    p.cavity = ellipse - dent + 4 * np.exp(-np.square(x / 7)) * (1 - behind)
    wall = ellipse + muscle - groove
    skin = wall + 3 + fat * (1 + 0.18 * p.noise(80) + 0.35 / (1 + np.exp(y / 25)))
    grain = p.noise(12)
    p.paint(EVERYWHERE, skin, 15.0)
    p.paint(EVERYWHERE, skin - 2.5, FAT + 5 * grain)
    marbling = np.minimum(13 * grain, 6) - 55 * behind * np.clip(1 - np.abs(p.noise(24)) / 0.09, 0, 1)
    sheets = 45 * np.exp(-np.square((p.cavity + 0.45 * muscle) / 1.6)) * (np.abs(x) > 55) * (z < 20)
    p.paint(EVERYWHERE, wall, MUSCLE + marbling - sheets)
    p.paint(EVERYWHERE, p.cavity, FAT + 4 * grain)
    dome = 1 - np.square(1 - np.clip(p.cavity / 58, 0, 1))
    low, high = 22 + 34 / (1 + np.exp(-y / 18)), 88 + 14 / (1 + np.exp(-x / 15)) + 3 * p.noise(60)
    p.diaphragm = low + (high - low) * dome - z
    p.paint(EVERYWHERE, np.minimum(p.cavity, 3 - 0.6 * np.abs(p.diaphragm)), MUSCLE)
    lung = np.minimum(p.cavity - 2, -0.6 * p.diaphragm - 1)
    p.paint(EVERYWHERE, lung, LUNG + 15 * grain - 0.5 * y)
    for radius, length in ((2.6, 30), (1.5, 17)):
        p.paint(EVERYWHERE, np.minimum(lung - 4, radius - p.strands(length)), 40.0)


def _loops(p: Patient) -> None:
    """Small bowel, packed cells of a warped lattice, and mesenteric vessels, in the lower front of the cavity."""
    floor = p.y - _spine_y(p.z) - 36 + 4 * p.noise(50)
    room = np.minimum.reduce([p.cavity - 5, 6 - p.z + 8 * p.noise(60), floor, p.diaphragm])
    p.paint(EVERYWHERE, np.minimum(room + 14, 1.7 - p.strands(24)), 130.0)
    lattice = ((p.x - 0.5 * p.z, 66), (p.z + 0.5 * p.x + 0.5 * p.y, 30), (p.y - 0.5 * p.z, 30))
    a, b, c = (np.abs(np.cos(np.pi / step * (axis + 17 * p.noise(55)))) for axis, step in lattice)
    loop = np.minimum(15 * np.sqrt(a) * b * c - 3 + 2 * p.noise(45), room)
    p.paint(EVERYWHERE, loop, 92 + 12 * p.noise(10))
    p.paint(EVERYWHERE, loop - 2.5, 32 + 24 * p.noise(24))
    p.paint(EVERYWHERE, np.minimum.reduce([loop - 4, p.y - 40, 14 * p.noise(40) - 12]), GAS)


def _colon(p: Patient) -> None:
    """A frame round the loops, with haustra, stool and gas."""
    sag = p.rng.uniform(-95, -55)
    right, left = (84, 18, -42, 18), (-104, -22, 2, 15)
    ascending = ((96, -20, -150, 25), (100, -22, -95, 23), (97, -18, -52, 20), right)
    transverse = (right, (50, 66, -58, 19), (0, 76, sag, 18), (-50, 66, -45, 17), (-88, 22, -8, 17), left)
    descending = (left, (-108, -34, -50, 13), (-106, -28, -110, 13), (-92, -10, -150, 14))
    for path, gas in ((ascending, -7), (transverse, 46), (descending, -20)):
        box, depth = p.solid(p.tube(*path, by=3), rough=2.0)
        depth = np.minimum(depth - 2 + 2.5 * np.sin((p.x[box] + p.z[box]) / 4.5), p.cavity[box] - 2)
        stool = 20 + 35 * p.noise(12, box) - 260 * np.clip(p.noise(9, box) - 1.1, 0, 1.5)
        p.hollow(box, depth, 3.0, stool, gas + p.rng.uniform(0, 14))


def _chest(p: Patient) -> None:
    """Mediastinum, heart and oesophagus."""
    p.paint(*p.solid(Ellipsoid((-6, -14, 140), (27, 40, 62))), FAT)
    box, depth = p.solid(Ellipsoid(p.vary((-24, 34, 132), 4), p.vary((62, 46, 40), 4), (0.0, 0.2)), rough=3.0)
    depth = np.minimum(depth, p.cavity[box] - 3)
    septum = np.abs(p.x[box] + 20 - 0.5 * (p.y[box] - 30)) - 5
    p.paint(box, depth + 5, FAT)
    p.paint(box, depth, 105.0)
    p.paint(box, np.minimum(depth - 9, septum), 165.0)
    p.paint(*p.solid(p.tube((-6, -14, 160, 8), (-10, -12, 100, 8), (-34, -8, 72, 9))), 48.0)


def _liver(p: Patient) -> None:
    """Liver with its vessels, and gallbladder."""
    right = Ellipsoid(p.vary((62, -4, 40), 4), p.vary((82, 88, 64), 5))
    left = Ellipsoid(p.vary((0, 48, 55), 6), p.vary((62, 34, 32), 5), (0.0, 0.25))
    tip = Ellipsoid(p.vary((92, 4, -8), 6), p.vary((36, 50, 48), 8), (-0.1, 0.0))
    box, depth = p.solid(right, left, tip, rough=3.5, blend=22)
    x, y, z = p.x[box], p.y[box], p.z[box]
    crus = norm((x + 6) / 1.1, y - _spine_y(z) - 12) - 46 + 5 * p.noise(45, box) - 0.25 * np.abs(z - 40)
    hilum = norm(x - 22, y - 12, (z - 4) / 1.2) - 17
    fissure = norm(0.9 * (x - 14) - 0.22 * (y - 50), np.clip(45 - y, 0, None)) - 3 + 0.4 * np.clip(z - 45, 0, None)
    fissure += 2 * p.noise(25, box)
    depth = np.minimum.reduce([depth, p.cavity[box] - 2.5, 0.6 * p.diaphragm[box] - 3, crus, hilum, fissure])
    hu = p.rng.uniform(98, 120)
    p.paint(box, depth + 2.5, FAT)
    p.paint(box, depth, hu + 3 * p.noise(15, box), "liver")
    portal, hepatic = (22, 14, 8, 6), (22, -8, 88, 6)
    for path, bright in (
        (((22, 0, -30, 6), portal, (44, 12, 28, 6), (78, 14, 30, 4), (104, 6, 24, 1)), 52),
        (((44, 12, 28, 5), (66, -16, 50, 4), (92, -36, 58, 1)), 52),
        ((portal, (8, 42, 40, 3), (-28, 56, 52, 1)), 52),
        ((hepatic, (52, -4, 72, 5), (92, 4, 52, 1)), 42),
        ((hepatic, (42, 28, 70, 4), (60, 58, 44, 1)), 42),
        ((hepatic, (6, 26, 76, 4), (-22, 54, 64, 1)), 42),
    ):
        box, depth = p.solid(p.tube(*path, by=4), rough=1.5)
        p.paint(box, np.minimum(depth, p.cavity[box] - 8), hu + bright, keep=True)
    box, depth = p.solid(Ellipsoid(p.vary((52, 46, -12), 5), p.vary((14, 16, 28), 4), (0.1, -0.4)), rough=1.5)
    p.paint(box, depth, 70.0)
    p.paint(box, depth - 2, FLUID)


def _spleen(p: Patient) -> None:
    box, depth = p.solid(Ellipsoid(p.vary((-94, -36, 42), 4), p.vary((39, 52, 51), 6), (0.15, -0.2)), rough=3.0)
    dent = norm(p.x[box] + 52, p.y[box] + 18, (p.z[box] - 34) / 1.5) - 33
    depth = np.minimum.reduce([depth, p.cavity[box] - 3.5, 0.6 * p.diaphragm[box] - 4, dent])
    p.paint(box, depth, p.rng.uniform(112, 128) + 3 * p.noise(15, box), "spleen")


def _pancreas(p: Patient) -> None:
    path = ((34, 22, -18, 14), (16, 26, -4, 11), (-10, 28, 8, 9), (-44, 2, 18, 10), (-68, -22, 26, 9))
    box, depth = p.solid(p.tube(*path, by=3), rough=2.0)
    p.paint(box, depth + 2.5 * p.noise(10, box), 92.0)


def _stomach(p: Patient) -> None:
    size = p.rng.uniform(0.9, 1.08)
    path = ((-58, -14, 62, 32), (-58, 22, 28, 30), (-42, 48, -6, 25), (-2, 56, -24, 19), (28, 44, -14, 12))
    box, depth = p.solid(p.tube(*((x, y, z, r * size) for x, y, z, r in path), by=4), rough=2.5)
    depth = np.minimum.reduce([depth, p.cavity[box] - 4, 0.6 * p.diaphragm[box] - 4])
    p.hollow(box, depth, 4.0, 22 + 14 * p.noise(16, box), p.rng.uniform(18, 38), "stomach")


def _kidneys(p: Patient) -> None:
    """Beans in their fat, with a sinus of fat and pelvis, renal vessels."""
    hu = p.rng.uniform(158, 182)
    for name, side, height in (("right kidney", 1, -32), ("left kidney", -1, -18)):
        x0, y0, z0 = p.vary((side * 61, -44, height), 5)
        lean = (-0.2 * side, -0.14)
        box, depth = p.solid(Ellipsoid((x0, y0, z0), p.vary((30, 27, 54), 3), lean), rough=2.2)
        up = p.z[box] - z0
        inwards, forwards = (x0 + lean[0] * up - p.x[box]) * side, p.y[box] - y0 - lean[1] * up
        mouth = norm(0.75 * inwards + 0.45 * forwards - 22, 0.8 * forwards - 0.5 * inwards + 3, up / 2.3) - 10
        sinus = norm(inwards - 7, forwards - 2, up / 2.4) - 11 + 2.5 * p.noise(13, box)
        clear = p.cavity[box]
        medulla = 22 * np.clip((depth - 7) / 3, 0, 1) * np.clip(p.noise(13, box), 0, 1)
        p.paint(box, np.minimum(depth + 8, clear), FAT + 5 * p.noise(14, box))
        p.paint(box, np.minimum.reduce([depth, mouth, sinus, clear - 3]), hu - medulla, name)
        p.paint(box, np.minimum(-sinus - 5, 9 - np.abs(up) / 2), 60.0)
        hilum = (x0 - 12 * side, y0 + 8, z0, 5)
        p.paint(*p.solid(Tube([hilum, (x0 - 30 * side, y0 + 18, z0 + 4, 5), (6, -16, z0 + 10, 5)])), 150.0)


def _vessels(p: Patient) -> None:
    """Aorta (labelled), iliac arteries and vena cava (not)."""
    r, hu, bend = p.rng.uniform(9.5, 11.5), p.rng.uniform(142, 160), p.rng.uniform(-4, 4)
    fork = (-7, -13, -102, 7)
    cava = ((22, -6, 105, 11), (22, -12, 70, 11), (21, -18, 10, 10), (19, -16, -60, 9), (16, -18, -104, 10))
    chest = ((-20, -29, 165, r + 1), (-17, -28, 90, r + 1))
    aorta = (*chest, (-12 + bend, -25, 30, r), (-9 - bend, -16, -40, r - 1), (-7, -13, -102, r - 2))
    for path, label in (
        ((*cava, (40, -34, -160, 8)), ""),
        ((fork, (-34, -22, -160, 6.5)), ""),
        ((fork, (24, -18, -160, 6.5)), ""),
        (aorta, "aorta"),
    ):
        box, depth = p.solid(Tube(path), rough=0.8)
        p.paint(box, depth + 3, FAT)
        p.paint(box, depth, hu if label else hu - 14, label)


def _spine(p: Patient) -> None:
    """Psoas muscles, vertebrae, discs, canal."""
    box, _ = p.solid(Ellipsoid((0, -70, 0), (62, 62, 400)))
    x, z = p.x[box], p.z[box]
    y = p.y[box] - _spine_y(z)
    size = np.clip(2 + (30 - z) * 0.19, 0, 21)  # of the psoas, which grows downwards
    belly = (1 - norm((np.abs(x) - 29 - 0.55 * size) / (0.85 * size + 0.1), (y - 2) / (size + 0.1))) * size
    p.paint(box, np.minimum(belly, size - 4), MUSCLE + 3)
    half = 16.5  # of the distance from disc to disc
    phase = np.abs((z - p.rng.uniform(0, 2 * half) + 0.07 * y) % (2 * half) - half)  # 0 mid-vertebra, half mid-disc
    waist = 1 - 0.1 * np.cos(np.pi * phase / half)
    centrum = (1 - norm(x / (24 * waist), y / (17.5 * waist))) * 19
    canal = (1 - norm(x / 11.5, (y + 26) / 9)) * 9
    body = np.minimum(centrum, half - 4 - phase)
    arch = np.minimum.reduce([canal + 7, 10 - phase, 34 + y + 12 * (phase < 7)])
    spinous = np.minimum.reduce([4.5 - np.abs(x), y + 57, -30 - y, 9.5 - np.abs(phase - 4)])
    ridge = 4.5 - np.abs(y + 19 + 0.1 * np.abs(x))
    transverse = np.minimum.reduce([ridge, 40 - np.abs(x), np.abs(x) - 10, 6 - phase])
    processes = np.maximum.reduce([arch, spinous, transverse])
    grain, marrow = 28 * p.noise(7, box), p.rng.uniform(120, 200)
    p.paint(box, np.minimum(centrum - 1, phase - half + 10), 88.0, "spine")
    p.paint(box, body, _bone(body, marrow + grain), "spine")
    p.paint(box, processes, _bone(processes, 260 + grain), "spine")
    p.paint(box, canal, 25.0)
    p.paint(box, canal - 4, 42.0)


def _ribs(p: Patient) -> None:
    """Oblique rings in the wall of the cavity; in its lower part the (unlabelled) iliac wings."""
    around = np.arctan2(np.abs(p.x), -(p.y + 30))  # 0 behind, pi in front
    thick, tall = np.maximum((3.8, 5.6), (0.5 * p.spacing[0], 0.5 * p.spacing[2])).tolist()  # no thinner than a voxel
    height = p.z + 105 * np.square(np.sin(around / 2)) - 24  # over the root of the twelfth rib
    rank = np.clip(np.rint(height / 27), 0, 11)
    rib = (1 - norm((p.cavity + 0.5 + thick) / thick, (height - 27 * rank) / tall)) * thick
    rib = np.minimum.reduce([rib, 90 * (np.minimum(1.15 + 0.42 * rank, 2.35) - around), np.abs(p.x) - 30])
    p.paint(EVERYWHERE, rib, _bone(rib, 300), "ribs")
    crest = -106 - 90 * np.square(around - 1.15) - p.z
    wing = np.minimum.reduce([4.5 - np.abs(p.cavity + 3 - 0.1 * crest), crest, np.abs(p.x) - 44])
    p.paint(EVERYWHERE, wing, _bone(wing, 230))


# fmt: off
ANATOMY = (_trunk, _loops, _colon, _chest, _liver, _spleen, _pancreas, _stomach, _kidneys, _vessels, _spine, _ribs)
# fmt: on
