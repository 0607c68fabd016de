"""What no GPU, no fast path and no way of keeping weights may change: latents, of the small folders and of 1.3B."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from run import LONG, PROMPT, ROOT, UNGUIDED, Row, Run
from talkie import PLAIN, Broken, Film, Late, apart, levels

BARS = {"f32": "≤ 1e-4", "bf16": "≤ 2e-2"}


def models() -> list[tuple[str, list[str]]]:
    """Every folder of the fixtures and the model in the box, with and without a first picture, and weights in fewer bits."""
    found = []
    for index in sorted([*(ROOT / "tests" / "fixtures").rglob("model_index.json"), ROOT / "models/toybox/model_index.json"]):
        folder, kind = index.parent, json.loads(index.read_text())["_class_name"]
        arguments, picture = ["-m", str(folder)], folder / "first.png"
        if kind != "WanImageToVideoPipeline":
            found.append((folder.name, arguments))
        if picture.is_file():
            found.append((f"{folder.name} from a picture", [*arguments, "--image", str(picture)]))
    layouts = ROOT / "tests" / "fixtures" / "layouts"
    for file in sorted((layouts / "packed").glob("*-*.*")):
        part = "--text-encoder" if file.name.startswith("umt5") else "--transformer"
        found.append((file.name, ["-m", str(layouts / "diffusers"), part, str(file)]))
    return found


def unguided(arguments: list[str]) -> list[str]:
    """One pass a step: guidance multiplies what bf16 rounds away by six, in any program."""
    kind = json.loads((Path(arguments[1]) / "model_index.json").read_text())["_class_name"]
    return ["--guidance", "1"] + [word for value in UNGUIDED if kind.startswith("LTX2") for word in ("--set", value)]


def parity(run: Run) -> Iterator[Row]:
    def one(model: tuple[str, list[str]]) -> list[Row]:
        name, arguments = model
        arguments = [*arguments, "--size", "64x64", "--frames", "9", "--steps", "2"]
        rows: list[Row] = []

        def compare(label: str, dtype: str, wanted: Film, given: list[str], environment: dict) -> None:
            found = run.talkie.film(PROMPT, [*given, *run.talkie.dtype(dtype)], environment)
            off = levels(found, wanted)
            detail = "" if off is None else f"frames at most {off} apart"
            rows.append(Row("parity", f"{name}: {label}", apart(found, wanted), BARS[dtype], detail, parity=True))

        try:
            wanted = run.talkie.film(PROMPT, [*arguments, *run.talkie.dtype("f32", "cpu")])
            compare("f32", "f32", wanted, arguments, {})
            compare("f32, plain", "f32", wanted, arguments, PLAIN)
            arguments += unguided(arguments)
            wanted = run.talkie.film(PROMPT, [*arguments, *run.talkie.dtype("f32", "cpu")])
            compare("bf16, guidance 1", "bf16", wanted, arguments, {})
        except Late:
            raise
        except Exception as why:  # noqa: BLE001, the other models are to be checked
            rows.append(Row("parity", name, None, "", str(why), parity=True))
        return rows

    with ThreadPoolExecutor(max(2, min(8, len(os.sched_getaffinity(0)) // 2))) as threads:
        for rows in threads.map(one, models()):
            yield from rows


def plain(run: Run) -> Iterator[Row]:
    """1.3B with and without its fast paths: the same latents, in less time."""
    arguments = ["-m", str(run.folder("wan-1.3b")), *run.film(512, 288, 33), "--steps", "2", "--guidance", "1"]
    films = {}
    for dtype in BARS:
        for label, environment in (("fast", {}), ("plain", PLAIN)):
            films[dtype, label] = run.talkie.film(LONG, [*arguments, *run.talkie.dtype(dtype)], environment)
    truth = films["f32", "plain"]
    yield Row("plain", "f32, fast against plain", apart(films["f32", "fast"], truth), BARS["f32"], parity=True)
    yield Row("plain", "bf16 fast against f32 plain", apart(films["bf16", "fast"], truth), BARS["bf16"], parity=True)
    yield Row("plain", "bf16 plain against f32 plain", apart(films["bf16", "plain"], truth))
    for dtype in BARS:
        fast, slow = (films[dtype, label].steps[-1] for label in ("fast", "plain"))
        yield Row("plain", f"{dtype}, time of a step over plain's", fast / slow, "", f"{fast:.3f} s against {slow:.3f} s")


def streamed(run: Run) -> Iterator[Row]:
    """1.3B with its blocks brought from the file: not a bit may differ."""
    arguments = ["-m", str(run.folder("wan-1.3b")), *run.film(256, 256, 17), "--steps", "2", *run.talkie.dtype("bf16")]
    stages = run.talkie.json(["generate", PROMPT, *arguments, "--plan", "--json"])["stages"]
    peaks = {stage["stage"]: stage["weights"] + stage["scratch"] for stage in stages}
    memory = ["--memory", str(peaks["denoise"] - 1)]
    with_less = run.talkie.json(["generate", PROMPT, *arguments, *memory, "--plan", "--json"])
    if not with_less["streams"]["transformer"]:
        raise Broken(f"with {' '.join(memory)} the plan streams no transformer, where {peaks['denoise']} bytes hold it")
    held, brought = (run.talkie.film(PROMPT, [*arguments, *more]) for more in ([], memory))
    detail = f"{' '.join(memory)}; a step {brought.steps[-1]:.3f} s against {held.steps[-1]:.3f} s"
    yield Row("streamed", "latents, against those of held weights", apart(brought, held), "≤ 0", detail, parity=True)
