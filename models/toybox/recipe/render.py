"""Renders clips of the little world, with prompts and the truth about them, for the instruments to be measured against.

    python render.py FOLDER [--in 200] [--held 100] [--seed 1]

writes FOLDER/scenes.json and, for every clip, a safetensors file with `frames` (33, 64, 64, 3) of bytes and `sound`
(2, 33000) of float32 at 16 kHz.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import grammar
import world


def scene(rng: np.random.Generator, held: bool) -> world.Scene:
    """A scene of a combination that was trained on, or of one that was held out."""
    while True:
        drawn = world.draw(rng)
        if world.held_out(drawn) == held:
            return drawn


def truth(drawn: world.Scene, prompt: str, held: bool) -> dict:
    """What the instruments should find."""
    return dict(
        prompt=prompt,
        held_out=held,
        event=drawn.event,
        material=drawn.material,
        wall=drawn.wall,
        background=drawn.background,
        things=[dict(colour=t.colour, shape=t.shape, size=t.size) for t in drawn.things],
        contacts=[dict(time=round(c.time, 4), speed=round(c.speed, 1), sound=c.material) for c in drawn.contacts],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--in", dest="inside", type=int, default=200, help="clips of combinations that were trained on")
    parser.add_argument("--held", type=int, default=100, help="clips of combinations that were held out")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    scenes = []
    for index in range(arguments.inside + arguments.held):
        held = index >= arguments.inside
        rng = np.random.default_rng((arguments.seed, 99, index))
        drawn = scene(rng, held)
        prompt = grammar.describe(drawn, rng)
        name = f"{index:04}.safetensors"
        save_file(dict(frames=world.picture(drawn)[0], sound=world.sound(drawn)), arguments.folder / name)
        scenes.append(dict(file=name, **truth(drawn, prompt, held)))
    (arguments.folder / "scenes.json").write_text(json.dumps(scenes, indent=1) + "\n")


if __name__ == "__main__":
    main()
