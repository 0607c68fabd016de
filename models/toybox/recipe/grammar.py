"""What people say of the little world: scenes put into English in many wordings, and the tokenizer that reads them."""

import numpy as np

from world import Scene, Thing

SMALL, BIG = ("small", "little", "tiny"), ("big", "large", "huge")
BLOCK, BALL = ("block", "cube", "box"), ("ball", "ball", "sphere")
FLOORS = {
    "wood": ("a wooden floor", "the wooden floor", "wood", "a floor of wood", "wooden planks"),
    "metal": ("a metal floor", "the metal floor", "metal", "a floor of metal", "a steel plate"),
    "rubber": ("a rubber floor", "the rubber floor", "rubber", "a rubber mat", "black rubber"),
}
WALLS = {
    "wood": ("a wooden wall", "the wooden wall", "a wall of wood"),
    "metal": ("a metal wall", "the metal wall", "a steel wall"),
    "rubber": ("a rubber wall", "the rubber wall", "a wall of rubber"),
}
SOUNDS = {
    "wood": ("a woody knock", "a dull knock", "wood being hit"),
    "metal": ("a metallic ring", "a bright clang", "metal ringing"),
    "rubber": ("a soft thud", "a low thump", "a muffled bump"),
    "water": ("a splash", "a wet plop", "water splashing"),
    "glass": ("a glassy click", "a sharp clink", "a click of glass"),
}
PLACES = {
    "grey": ("in front of a grey wall", "against a grey background", "in a grey room"),
    "night": ("at night", "in the dark", "against a dark background"),
    "sand": ("on a sandy afternoon", "against a sand-coloured background", "in warm light"),
    "sage": ("in a pale green room", "against a sage background", "in front of a sage curtain"),
}
OPENINGS = (
    "a short film of ", "a film in which ", "we see how ", "look, ", "seen from the side, ", "in this scene ", "video: ",
    "one take, no cuts: ", "here ",
)
ENDINGS = (
    ", filmed from the side", ", nobody is there", ", simple and clean", ", in two seconds", ", the camera does not move",
    ", and that is all", ", nothing else happens", ", a quiet scene", ", while no one speaks",
)


def _one(rng: np.random.Generator, options) -> str:
    return str(options[rng.integers(len(options))])


def _name(rng: np.random.Generator, thing: Thing, article: str | None = None) -> str:
    words = [thing.colour, _one(rng, BALL if thing.shape == "ball" else BLOCK)]
    if rng.random() < 0.5:
        words.insert(0, _one(rng, SMALL if thing.size == "small" else BIG))
    return " ".join([article or _one(rng, ("a", "a", "the", "one")), *words])


def _both(rng: np.random.Generator, things: list[Thing]) -> str:
    """Two things in one phrase: named one after the other, or, where they are of a kind, counted."""
    first, second = things if rng.random() < 0.5 else things[::-1]
    if first.shape == second.shape and rng.random() < 0.4:
        many = {"ball": ("balls", "balls", "spheres"), "block": ("blocks", "cubes", "boxes")}[first.shape]
        kind = _one(rng, many)
        return _one(rng, (
            f"two {kind}, one {first.colour} and one {second.colour},", f"two {kind}, {first.colour} and {second.colour},",
            f"a {first.colour} and a {second.colour} {kind[:-1] if kind != 'boxes' else 'box'}",
        ))
    return f"{_name(rng, first)} and {_name(rng, second)}"


def _bounce(rng: np.random.Generator, scene: Scene) -> str:
    name = _name(rng, scene.things[0])
    if scene.material == "water":
        return _one(rng, (
            f"{name} falls into water", f"{name} drops into the water", f"{name} plunges into a pool of water",
            f"{name} falls and lands in water with a splash", f"{name} is dropped into a pool",
        ))
    floor = _one(rng, FLOORS[scene.material])
    return _one(rng, (
        f"{name} bounces on {floor}", f"{name} falls on {floor}", f"{name} drops onto {floor} and bounces",
        f"{name} falls and bounces on {floor}", f"{name} hits {floor}", f"{name} is dropped onto {floor}",
        f"on {floor}, {name} bounces", f"{name} lands on {floor}",
    ))


def _pair(rng: np.random.Generator, scene: Scene) -> str:
    both = _both(rng, scene.things)
    if scene.material == "water":
        return _one(rng, (f"{both} fall into water", f"{both} drop into the water", f"{both} plunge into a pool of water"))
    floor = _one(rng, FLOORS[scene.material])
    return _one(rng, (
        f"{both} bounce on {floor}", f"{both} fall on {floor}", f"{both} drop onto {floor}",
        f"two things fall on {floor}: {both.rstrip(',')}",
    ))


def _wall(rng: np.random.Generator, scene: Scene) -> str:
    thing = scene.things[0]
    name, wall = _name(rng, thing), _one(rng, WALLS[scene.material])
    moves = "rolls" if thing.shape == "ball" else "slides"
    start = "left" if scene.wall == "right" else "right"
    return _one(rng, (
        f"{name} {moves} from the {start} and strikes {wall}", f"{name} {moves} into {wall} on the {scene.wall}",
        f"coming from the {start}, {name} hits {wall}", f"{name} {moves} to the {scene.wall} and bumps into {wall}",
        f"{name} comes from the {start} and bounces off {wall}",
    ))


def _collide(rng: np.random.Generator, scene: Scene) -> str:
    names = [_name(rng, thing) for thing in scene.things]
    if rng.random() < 0.5:
        names.reverse()
    both = _both(rng, scene.things)
    return _one(rng, (
        f"{both} collide", f"{both} run into each other", f"{names[0]} hits {names[1]}", f"{both} bump into each other",
        f"{both} meet in the middle and collide", f"{names[0]} collides with {names[1]}",
    ))


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """One of the many sentences that are true of a scene."""
    sentence = {"bounce": _bounce, "pair": _pair, "wall": _wall, "collide": _collide}[scene.event](rng, scene)
    if rng.random() < 0.4:
        sentence += " " + _one(rng, PLACES[scene.background])
    if rng.random() < 0.3:
        heard = _one(rng, SOUNDS["glass" if scene.event == "collide" else scene.material])
        sentence += _one(rng, (f"; we hear {heard}", f", with {heard}", f", and {heard} is heard"))
    if rng.random() < 0.25:
        sentence = _one(rng, OPENINGS) + sentence
    if rng.random() < 0.25:
        sentence += _one(rng, ENDINGS)
    if rng.random() < 0.3:
        sentence = sentence[0].upper() + sentence[1:]
    if rng.random() < 0.3:
        sentence += "."
    return sentence
