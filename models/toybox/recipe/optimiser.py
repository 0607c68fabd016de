"""Muon for the matrices, AdamW for the rest, and a loop that survives interruption at any moment."""

import math
import os
import time
from pathlib import Path

import torch


def _orthogonal(g: torch.Tensor) -> torch.Tensor:
    """Of matrices (n, rows, columns), no higher than wide, the nearest half-orthogonal ones: five Newton-Schulz steps
    (Jordan et al. 2024)."""
    x = g.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.float()


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal; scaled so that AdamW's learning rates fit (Liu et al. 2025)."""

    def __init__(self, parameters, lr: float, momentum: float = 0.95):
        super().__init__(parameters, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self) -> None:
        """Matrices of one size are taken together: one by one they cost a quarter of a training step."""
        for group in self.param_groups:
            learnt = [p for p in group["params"] if p.grad is not None]
            grads = [p.grad for p in learnt]
            buffers = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in learnt]
            torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
            alike: dict[tuple[int, int], list] = {}
            for p, step in zip(learnt, torch._foreach_lerp(grads, buffers, group["momentum"])):
                step = step.reshape(p.shape[0], -1)
                step = step.T if step.shape[0] > step.shape[1] else step
                alike.setdefault(tuple(step.shape), []).append((p, step))
            for (_, wide), pairs in alike.items():
                steps = _orthogonal(torch.stack([step for _, step in pairs]))
                turned = [step.T if p.shape[0] > p[0].numel() else step for (p, _), step in zip(pairs, steps)]
                shaped = [step.reshape(p.shape) for (p, _), step in zip(pairs, turned)]
                torch._foreach_add_([p for p, _ in pairs], shaped, alpha=-group["lr"] * 0.2 * math.sqrt(wide))


class Average:
    """The exponential moving average of a model's parameters; it begins quickly and slows down to `decay`."""

    def __init__(self, models: dict[str, torch.nn.Module], decay: float):
        self.models, self.decay = models, decay
        self.shadow = {name: {k: v.detach().clone() for k, v in m.named_parameters()} for name, m in models.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, model in self.models.items():
            shadow = self.shadow[name]
            torch._foreach_lerp_([shadow[k] for k, _ in model.named_parameters()], list(model.parameters()), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges average and model: call it before measuring, and again after."""
        for name, model in self.models.items():
            for key, value in model.named_parameters():
                other = self.shadow[name][key].clone()
                self.shadow[name][key].copy_(value)
                value.copy_(other)


def rate(step: int, steps: int, fall: float, warm: int = 60) -> float:
    """Up in `warm` steps, flat, and down to nothing over the last share of `fall`."""
    return min((step + 1) / warm, 1.0, max((steps - step) / (steps * fall), 0.0))


class Training:
    """Runs `loss(step)` for `steps` steps over the parameters of some models; goes on where it was stopped.

    `twins` are copies of models in half precision: they compute the loss, and follow what is learned in full.
    """

    def __init__(
        self,
        name: str,
        models: dict[str, torch.nn.Module],
        steps: int,
        work: Path,
        lr: float,
        decay: float = 0.998,
        twins: dict[str, torch.nn.Module] | None = None,
        fall: float = 1 / 3,
    ):
        self.name, self.models, self.steps, self.file, self.lr = name, models, steps, work / f"{name}.pt", lr
        self.fall = fall
        pairs = [(models[k].parameters(), twin.parameters()) for k, twin in (twins or {}).items()]
        self.twins = [pair for one in pairs for pair in zip(*one)]
        parameters = [p for model in models.values() for p in model.parameters() if p.requires_grad]
        self.parameters = parameters
        matrices = [p for p in parameters if p.ndim >= 2 and min(p.shape[0], p[0].numel()) > 8]
        chosen = {id(p) for p in matrices}
        rest = [p for p in parameters if id(p) not in chosen]
        self.optimisers = [Muon(matrices, lr=lr), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)]
        self.average = Average(models, decay)
        self.step = 0
        if self.file.exists():
            self._load()
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        if self.twins:
            own, twins = zip(*self.twins)
            torch._foreach_copy_(twins, own)

    def _load(self) -> None:
        state = torch.load(self.file, weights_only=True)
        for name, model in self.models.items():
            model.load_state_dict(state["models"][name])
        for optimiser, values in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(values)
        self.average.shadow, self.step = state["average"], state["step"]

    def save(self) -> None:
        part = self.file.with_suffix(".part")
        torch.save(
            dict(
                models={name: model.state_dict() for name, model in self.models.items()},
                optimisers=[optimiser.state_dict() for optimiser in self.optimisers],
                average=self.average.shadow,
                step=self.step,
            ),
            part,
        )
        os.replace(part, self.file)

    def run(self, loss, report=None, every: int = 200) -> None:
        """Leaves the averaged weights in the models.

        `loss(step)` gives a loss and what makes a line of figures; `report(step)` is called with the averaged weights.
        """
        saved = time.monotonic()
        began, at = saved, self.step
        while self.step < self.steps:
            value, line = loss(self.step)
            value.backward()
            for own, twin in self.twins:
                own.grad, twin.grad = twin.grad.float(), None
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = self.lr * rate(self.step, self.steps, self.fall)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            self._follow()
            self.step += 1
            self.average.update(self.step)
            if self.step % 25 == 0:
                pace = (time.monotonic() - began) / (self.step - at)
                print(f"{self.name} {self.step}/{self.steps}  {line()}  {pace:.3f} s/step", flush=True)
            if time.monotonic() - saved > 120 or self.step == self.steps:
                self.save()
                saved = time.monotonic()
            if report and (self.step % every == 0 or self.step == self.steps):
                self.average.swap()
                report(self.step)
                self.average.swap()
        self.average.swap()  # what is used from now on is the average
