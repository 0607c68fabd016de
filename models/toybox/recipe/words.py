"""What the text encoder learns first: to say of a prompt what is in the scene."""

from pathlib import Path

import numpy as np
import torch

import grammar
import networks
import text
import world
from optimiser import Training

# What is asked of a prompt, and how many answers there are. Of every colour: is it there, as a ball or as a block; is it
# small or big. So which adjective belongs to which thing is part of every answer.
QUESTIONS = dict(
    event=len(world.EVENTS),
    material=len(world.MATERIALS) + 1,
    wall=3,
    background=len(world.BACKGROUNDS),
    **{f"{colour} kind": 1 + len(world.SHAPES) for colour in world.COLOURS},
    **{f"{colour} size": 1 + len(world.RADII) for colour in world.COLOURS},
)


def answers(scene: world.Scene) -> list[int]:
    """One for each question, in their order."""
    there = {thing.colour: thing for thing in scene.things}
    return [
        world.EVENTS.index(scene.event),
        (*world.MATERIALS, "stone").index(scene.material),
        (None, "left", "right").index(scene.wall),
        list(world.BACKGROUNDS).index(scene.background),
        *(1 + world.SHAPES.index(there[c].shape) if c in there else 0 for c in world.COLOURS),
        *(1 + list(world.RADII).index(there[c].size) if c in there else 0 for c in world.COLOURS),
    ]


def draw(rng: np.random.Generator) -> world.Scene:
    """A scene of a combination that is trained on; what it would do is not simulated."""
    while True:
        scene = world.arrange(rng)
        if not world.held_out(scene):
            return scene


def train(work: Path, reader: "text.Reader", device: str, plan: dict) -> None:
    """Text encoder and connectors, with a linear question on the last row of a prompt, which is that of `<eos>`.

    From then on that row says the scene, as a sum of what it consists of, and the transformer need not learn to read.
    """
    torch.manual_seed(5)
    ask = torch.nn.ModuleList([torch.nn.Linear(networks.TEXT_WIDTH, sum(QUESTIONS.values())) for _ in range(2)]).to(device)

    def loss(step: int):
        rng = np.random.default_rng((15, step))
        scenes = [draw(rng) for _ in range(plan["batch"])]
        said = [grammar.describe(scene, rng) for scene in scenes]
        truth = torch.tensor([answers(scene) for scene in scenes], device=device)
        *rows, _, last = reader(said)
        value, right = 0.0, []
        for row, head in zip(rows, ask):
            at = row[torch.arange(len(said), device=device), last]
            for k, logits in enumerate(head(at).split(list(QUESTIONS.values()), 1)):
                value = value + torch.nn.functional.cross_entropy(logits, truth[:, k])
                right.append((logits.argmax(1) == truth[:, k]).float().mean())
        shares = torch.stack(right).view(2, -1)[0].tolist()
        line = "  ".join(f"{name} {share:.2f}" for name, share in zip(QUESTIONS, shares) if " " not in name)
        kinds = [share for name, share in zip(QUESTIONS, shares) if name.endswith("kind")]
        return value, lambda: f"loss {value.item():.3f}  {line}  kinds {sum(kinds) / len(kinds):.4f}"

    Training("words", dict(reader.models(), ask=ask), plan["steps"], work, plan["lr"]).run(loss)
    _oppose(reader)


@torch.no_grad()
def _oppose(reader: "text.Reader") -> None:
    """Registers become the opposite of what ends a prompt, so that a thousand of them do not drown it."""
    rng = np.random.default_rng(16)
    *rows, _, last = reader([grammar.describe(draw(rng), rng) for _ in range(256)])
    for row, connector in zip(rows, (reader.connectors.video_connector, reader.connectors.audio_connector)):
        end = row[torch.arange(len(last), device=row.device), last].mean(0)
        connector.learnable_registers.copy_(-end + 0.05 * connector.learnable_registers)
