"""The little world: balls and blocks with physics, seen from the side and heard in stereo.

A clip is 33 frames of 64×64 pixels at 16 frames a second with 2.0625 s of sound at 16 kHz. `Scene` says what happens,
`simulate` makes it move and says when things touch, `picture` and `sound` render it, and `describe` puts it into English.
Everything follows from a seed.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

SIZE, FPS, FRAMES, RATE = 64, 16, 33, 16_000
SECONDS = FRAMES / FPS
FLOOR = 52.0  # the row of pixels where the floor begins
GRAVITY = 140.0  # pixels per second squared
STEPS = 30  # of the simulation, per frame
QUIET = 22.0  # an impact slower than this, in pixels per second, is neither heard nor a bounce

COLOURS = {
    "red": (222, 40, 44),
    "yellow": (246, 208, 40),
    "green": (38, 178, 66),
    "blue": (44, 92, 236),
    "purple": (164, 56, 206),
    "white": (246, 246, 246),
}
SHAPES = ("ball", "block")
RADII = {"small": 5.0, "big": 8.0}
MATERIALS = ("wood", "metal", "water", "rubber")
RESTITUTION = {"wood": 0.58, "metal": 0.68, "rubber": 0.84, "stone": 0.5}
BACKGROUNDS = {
    "grey": ((104, 106, 110), (132, 134, 138)),
    "night": ((16, 18, 36), (38, 40, 66)),
    "sand": ((142, 126, 102), (168, 152, 126)),
    "sage": ((84, 108, 94), (112, 134, 120)),
}
EVENTS = ("bounce", "pair", "wall", "collide")


@dataclass
class Thing:
    """A ball or a block: sizes in pixels, speeds in pixels per second, `y` downwards."""

    colour: str
    shape: str
    size: str
    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0

    @property
    def radius(self) -> float:
        return RADII[self.size]


@dataclass
class Contact:
    """One touch that is heard: when, in seconds, how hard, in pixels per second, where, and what it sounds of."""

    time: float
    speed: float
    x: float
    material: str
    size: str


@dataclass
class Scene:
    """What is to happen. `wall` is "left" or "right" where there is one; `material` is the floor's, or the wall's."""

    event: str
    material: str
    background: str
    things: list[Thing]
    wall: str | None = None
    tracks: np.ndarray | None = None  # (frames, things, 2), once simulated
    contacts: list[Contact] = field(default_factory=list)

    @property
    def floor(self) -> str:
        return self.material if self.event in ("bounce", "pair") else "stone"


# ---------------------------------------------------------------------------------------------------------------- held out


def held_out(scene: Scene) -> bool:
    """Whether the combination is kept from training, to measure composition: about one in seven."""
    colours = list(COLOURS)
    place = [colours.index(thing.colour) for thing in scene.things]
    if scene.event in ("bounce", "wall"):
        shape = SHAPES.index(scene.things[0].shape)
        return (place[0] * 2 + shape + 3 * MATERIALS.index(scene.material)) % 7 == 2
    return sum(place) % 7 == 3


# ------------------------------------------------------------------------------------------------------------------ scenes


def draw(rng: np.random.Generator, event: str | None = None) -> Scene:
    """A scene at random, simulated; a kind of event is not less frequent because it seldom fits into the picture."""
    event = event or _event(rng)
    while True:
        scene = arrange(rng, event)
        simulate(scene)
        edge = max(thing.radius for thing in scene.things) * 0.9
        x = scene.tracks[..., 0]
        if x.min() >= edge and x.max() <= SIZE - edge and scene.contacts:
            return scene


def _event(rng: np.random.Generator) -> str:
    return str(rng.choice(EVENTS, p=(0.46, 0.16, 0.2, 0.18)))


def arrange(rng: np.random.Generator, event: str | None = None) -> Scene:
    """How a scene begins: what is there, where, and how fast."""
    event = event or _event(rng)
    background = str(rng.choice(list(BACKGROUNDS)))
    colours = [str(c) for c in rng.choice(list(COLOURS), 2, replace=False)]
    shapes = [str(rng.choice(SHAPES, p=(0.55, 0.45))) for _ in range(2)]
    sizes = [str(rng.choice(list(RADII))) for _ in range(2)]
    if event in ("bounce", "pair"):
        material = str(rng.choice(MATERIALS))
        count = 1 if event == "bounce" else 2
        middle = [rng.uniform(18, 46)] if count == 1 else [rng.uniform(13, 20), rng.uniform(44, 51)]
        things = []
        for i in range(count):
            x = middle[i]
            y = rng.uniform(10, 26)
            vx = rng.uniform(-12, 12) if count == 1 else rng.uniform(-3, 3)
            things.append(Thing(colours[i], shapes[i], sizes[i], x, y, vx, rng.uniform(-24, 24)))
        return Scene(event, material, background, things)
    if event == "wall":
        material = str(rng.choice([m for m in MATERIALS if m != "water"]))
        side = str(rng.choice(["left", "right"]))
        radius = RADII[sizes[0]]
        x, speed = rng.uniform(10, 20), rng.uniform(34, 60)
        if side == "left":
            x, speed = SIZE - x, -speed
        return Scene(event, material, background, [Thing(colours[0], shapes[0], sizes[0], x, FLOOR - radius, speed)], side)
    things = []
    for i, (x, sign) in enumerate(((rng.uniform(9, 15), 1), (SIZE - rng.uniform(9, 15), -1))):
        radius = RADII[sizes[i]]
        things.append(Thing(colours[i], shapes[i], sizes[i], x, FLOOR - radius, sign * rng.uniform(14, 30)))
    return Scene(event, "stone", background, things)


WALL = 8.0  # its thickness, in pixels


def simulate(scene: Scene) -> None:
    """Fills in the tracks and contacts, with steps of a thirtieth of a frame."""
    dt = 1.0 / (FPS * STEPS)
    state = [[t.x, t.y, t.vx, t.vy] for t in scene.things]
    wet = [False] * len(state)
    rest = [False] * len(state)
    tracks = np.zeros((FRAMES, len(state), 2))
    scene.contacts = []
    touching = False
    for step in range(FRAMES * STEPS):
        if step % STEPS == 0:
            tracks[step // STEPS] = [s[:2] for s in state]
        now = step * dt
        for i, (thing, s) in enumerate(zip(scene.things, state)):
            bottom = FLOOR - thing.radius
            if scene.event in ("bounce", "pair"):
                _fall(scene, thing, s, i, wet, rest, bottom, now, dt)
            else:
                s[2] -= math.copysign(min(abs(s[2]), 9.0 * dt), s[2])  # friction
            s[0] += s[2] * dt
        if scene.event == "wall":
            _strike(scene, scene.things[0], state[0], now)
        elif scene.event == "collide":
            touching = _collide(scene, state, now, touching)
    scene.tracks = tracks
    scene.contacts.sort(key=lambda contact: contact.time)


def _fall(scene, thing, s, i, wet, rest, bottom, now, dt):
    if rest[i]:
        s[2] *= 1 - 3.0 * dt
        return
    if wet[i]:  # it floats, half under
        s[3] += (-(s[1] - (bottom + thing.radius * 0.9)) * 60.0 - s[3] * 5.0) * dt
        s[2] *= 1 - 1.5 * dt
        s[1] += s[3] * dt
        return
    s[3] += GRAVITY * dt
    s[1] += s[3] * dt
    if s[1] < bottom or s[3] <= 0:
        return
    speed = s[3]
    if scene.material == "water":
        scene.contacts.append(Contact(now, speed, s[0], "water", thing.size))
        wet[i] = True
        s[3] *= 0.35
        return
    s[1] = bottom
    if speed < QUIET:
        s[3], rest[i] = 0.0, True
        return
    scene.contacts.append(Contact(now, speed, s[0], scene.material, thing.size))
    s[3] = -speed * RESTITUTION[scene.material]


def _strike(scene, thing, s, now):
    reach = thing.radius + WALL
    hit = s[0] <= reach and s[2] < 0 if scene.wall == "left" else s[0] >= SIZE - reach and s[2] > 0
    if not hit:
        return
    speed = abs(s[2])
    if speed >= QUIET * 0.5:
        scene.contacts.append(Contact(now, max(speed * 1.6, 40.0), s[0], scene.material, thing.size))
    s[2] *= -RESTITUTION[scene.material]


def _collide(scene, state, now, touching):
    a, b = scene.things
    (x1, _, v1, _), (x2, _, v2, _) = state
    near = x2 - x1 <= a.radius + b.radius
    if near and not touching and v1 > v2:
        m1, m2, e = a.radius**2, b.radius**2, 0.9
        centre = (m1 * v1 + m2 * v2) / (m1 + m2)
        state[0][2] = centre - m2 * e * (v1 - v2) / (m1 + m2)
        state[1][2] = centre + m1 * e * (v1 - v2) / (m1 + m2)
        size = "small" if "small" in (a.size, b.size) else "big"
        scene.contacts.append(Contact(now, max((v1 - v2) * 1.5, 40.0), (x1 + x2) / 2, "glass", size))
    return near


# ----------------------------------------------------------------------------------------------------------------- pictures

_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


def _backdrop(name: str) -> np.ndarray:
    top, bottom = (np.array(c, np.float32) for c in BACKGROUNDS[name])
    return top + (bottom - top) * (_Y / FLOOR).clip(0, 1)[..., None]


def _solid(material: str, across: np.ndarray, along: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The look of a floor, or of a wall: `along` its face and `depth` into it, in pixels."""
    one = np.ones_like(across)
    if material == "wood":
        plank = np.where(np.abs(along % 16 - 8) > 7.2, 0.66, 1.0) * (1 + 0.07 * np.sin(depth * 2.2 + 0.15 * along))
        colour = np.stack([152 * plank, 106 * plank, 64 * plank], -1)
    elif material == "metal":
        sheen = 1 + 0.2 * np.cos((along + depth) * 0.5)
        rivet = np.where((along % 16 - 8) ** 2 + (depth - 5.5) ** 2 < 3.2, 0.6, 1.0)
        colour = np.stack([150 * sheen * rivet, 156 * sheen * rivet, 166 * sheen * rivet], -1)
    elif material == "rubber":
        stud = np.where(((along // 4).astype(int) + (depth // 4).astype(int)) % 2 == 0, 1.0, 0.55)
        colour = np.stack([52 * stud, 50 * stud, 54 * stud], -1)
    else:  # stone
        block = np.where((along % 21 < 1.2) | (np.abs(depth - 6) < 0.6), 0.72, 1.0)
        colour = np.stack([112 * block, 104 * block, 98 * block], -1)
    edge = np.where(depth < 1.3, 1.25, 1.0)[..., None] * one[..., None]
    return (colour * edge).astype(np.float32)


def _cover(thing: Thing, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    """How much of each pixel the thing covers, 0 to 1, and its shading."""
    dx, dy = _X - x, _Y - y
    r = thing.radius
    if thing.shape == "ball":
        distance = np.sqrt(dx * dx + dy * dy)
        light = 1.06 - 0.34 * (distance / r) ** 2 - 0.16 * (dx + dy) / r
        shine = np.clip(1.2 - np.hypot(dx + 0.35 * r, dy + 0.4 * r) / (0.3 * r), 0, 1)
        return np.clip(r + 0.5 - distance, 0, 1), np.clip(light, 0.45, 1.1) + 0.35 * shine
    half = r * 0.92
    inner = np.maximum(np.abs(dx), np.abs(dy + (half - r)))
    cover = np.clip(half + 0.5 - np.abs(dx), 0, 1) * np.clip(half + 0.5 - np.abs(dy + (half - r)), 0, 1)
    light = np.where(inner > half - 1.4, 0.72, 0.98 - 0.1 * (dx + dy) / r)
    return cover, light


def picture(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames (33, 64, 64, 3), what the things cover (33, 64, 64), and where each would cover something else if it were of
    the other shape: at its corners (33, 64, 64). All 0 to 255."""
    still = _backdrop(scene.background)
    if scene.floor != "water":
        inside = np.clip(_Y - FLOOR + 0.5, 0, 1)[..., None]
        still = still * (1 - inside) + _solid(scene.floor, _X, _X, np.maximum(_Y - FLOOR, 0)) * inside
    if scene.wall:
        depth = WALL - _X if scene.wall == "left" else _X - (SIZE - WALL)
        inside = np.clip(depth + 0.5, 0, 1) * np.clip(_Y - 13.5, 0, 1) * np.clip(FLOOR + 0.5 - _Y, 0, 1)
        face = _solid(scene.material, _X, _Y, np.maximum(depth, 0))
        still = still * (1 - inside[..., None]) + face * inside[..., None]
    frames = np.empty((FRAMES, SIZE, SIZE, 3), np.float32)
    covers, corners = np.zeros((2, FRAMES, SIZE, SIZE), np.float32)
    for f in range(FRAMES):
        image = still.copy()
        for thing, (x, y) in zip(scene.things, scene.tracks[f]):
            if scene.floor != "water":
                height = max(FLOOR - thing.radius - y, 0.0)
                reach = thing.radius * 0.9 + 0.05 * height
                dark = 0.5 * math.exp(-height / 14) * np.exp(-(((_X - x) / reach) ** 2)) * np.exp(-(((_Y - FLOOR - 1.5) / 1.6) ** 2))
                image *= (1 - dark * (_Y > FLOOR))[..., None]
            cover, light = _cover(thing, x, y)
            colour = np.array(COLOURS[thing.colour], np.float32) * light[..., None]
            image += (colour - image) * cover[..., None]
            covers[f] = np.maximum(covers[f], cover)
            other = replace(thing, shape=SHAPES[1 - SHAPES.index(thing.shape)])
            corners[f] = np.maximum(corners[f], np.abs(cover - _cover(other, x, y)[0]))
        if scene.floor == "water":
            image = _flood(scene, f, image)
        frames[f] = image
    return tuple(values.clip(0, 255).round().astype(np.uint8) for values in (frames, covers * 255, corners * 255))


def _flood(scene: Scene, frame: int, image: np.ndarray) -> np.ndarray:
    """Water over the picture: two thirds opaque, with a wave that runs from every splash."""
    now = frame / FPS
    surface = np.full(SIZE, FLOOR, np.float32)
    for contact in scene.contacts:
        since = now - contact.time
        if since > 0:
            away = np.abs(_X[0] - contact.x)
            wave = 2.6 * min(contact.speed / 90, 1.2) * math.exp(-since * 1.8) * min(since * 14, 1)
            surface -= wave * np.cos(away * 0.55 - since * 12) * np.exp(-np.maximum(away - 26 * since, 0) / 5)
    depth = _Y - surface[None]
    inside = np.clip(depth + 0.5, 0, 1)[..., None]
    tint = np.array((36, 92, 128), np.float32) * (1.1 - 0.045 * np.maximum(depth, 0))[..., None]
    crest = np.exp(-((depth - 0.8) ** 2))[..., None] * np.array((70, 74, 72), np.float32)
    return image * (1 - inside) + (0.3 * image + 0.7 * tint + crest) * inside


# -------------------------------------------------------------------------------------------------------------------- sound

# Partials: hertz, seconds until they have fallen to 1/e, share.
PARTIALS = {
    "wood": ((430, 0.040, 1.0), (1010, 0.022, 0.7), (1730, 0.012, 0.4)),
    "metal": ((1180, 0.300, 0.7), (2790, 0.220, 0.6), (4380, 0.150, 0.5), (6170, 0.090, 0.3)),
    "rubber": ((98, 0.075, 1.0), (205, 0.035, 0.5)),
    "glass": ((3350, 0.050, 0.8), (5480, 0.030, 0.6), (7100, 0.018, 0.3)),
}
PITCH = {"small": 1.12, "big": 0.9}
_HISS = np.random.default_rng(5).standard_normal(RATE // 2)


def strike(material: str, size: str) -> np.ndarray:
    """The sound of one touch at full strength, mono, half a second and a little more."""
    t = np.arange(int(0.9 * RATE)) / RATE
    out = np.zeros_like(t)
    if material == "water":
        rise = 2 * np.pi * (PITCH[size] * (340 * t + 0.5 * 5200 * np.minimum(t, 0.11) ** 2 + 572 * np.maximum(t - 0.11, 0)))
        out += 0.9 * np.sin(rise) * np.exp(-t / 0.055) * np.minimum(t / 0.004, 1)
        burst = np.convolve(_HISS, np.hanning(9) / 4, "same")
        out[: len(burst)] += 0.22 * burst * np.exp(-t[: len(burst)] / 0.07) * np.minimum(t[: len(burst)] / 0.006, 1)
        return out * 0.6
    for hertz, fall, share in PARTIALS[material]:
        out += share * np.sin(2 * np.pi * hertz * PITCH[size] * t) * np.exp(-t / fall)
    click = {"wood": 0.5, "metal": 0.25, "rubber": 0.06, "glass": 0.3}[material]
    length = RATE // 250
    out[:length] += click * _HISS[:length] * np.linspace(1, 0, length)
    return out * {"wood": 0.55, "metal": 0.36, "rubber": 0.75, "glass": 0.42}[material]


_STRIKES = {(m, s): strike(m, s).astype(np.float32) for m in (*PARTIALS, "water") for s in RADII}


def sound(scene: Scene) -> np.ndarray:
    """Samples (2, 33000), left and right, within -1 to 1; it comes from where the touch is seen."""
    samples = round(SECONDS * RATE)
    out = np.zeros((2, samples), np.float32)
    for contact in scene.contacts:
        strength = min(0.12 + 0.88 * (contact.speed / 105) ** 1.2, 1.1)
        angle = (0.25 + 0.5 * contact.x / SIZE) * np.pi / 2
        start = round(contact.time * RATE)
        wave = _STRIKES[contact.material, contact.size][: samples - start] * strength
        out[0, start : start + len(wave)] += wave * math.cos(angle)
        out[1, start : start + len(wave)] += wave * math.sin(angle)
    return np.tanh(out)
