"""diffusers on the same device with the same weights: its networks in this process, and its cold start in one of its own.

    python benches/gpu/reference.py FOLDER WIDTH HEIGHT FRAMES DEVICE     says when it has done the first step, and ends

Needs diffusers, and transformers for the cold start.
"""

import gc
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.backends import cudnn
from torch.nn.attention import SDPBackend, sdpa_kernel

PROMPT = "a fox in the snow"


def dtype(device: str) -> torch.dtype:
    """What is computed in: as talkie, a CPU in float32."""
    return torch.float32 if device == "cpu" else torch.bfloat16


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def free(device: str) -> None:
    """Gives back what no tensor needs: talkie runs on the same device, beside this."""
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()


def ceiling(device: str) -> float:
    """Operations a second of PyTorch's own product of two large matrices, beside which talkie's ceiling is to be no lower."""
    side, seconds = (2048 if device == "cpu" else 8192), []
    a, b = (torch.rand(side, side, device=device).mul(2).sub(1).to(dtype(device)) for _ in range(2))
    for _ in range(5):
        wait(device)
        begin = time.perf_counter()
        a @ b
        wait(device)
        seconds.append(time.perf_counter() - begin)
    return 2 * side**3 / min(seconds)


# The ways that a network can be computed in, of which the fastest counts.
ATTENTION = {
    "cuDNN attention": lambda: sdpa_kernel(SDPBackend.CUDNN_ATTENTION),
    "FlashAttention": lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION),
}
CONVOLUTION = {
    "cuDNN's choice": lambda: cudnn.flags(enabled=True, benchmark=False),
    "cuDNN's benchmark": lambda: cudnn.flags(enabled=True, benchmark=True),
}


class Network:
    """A network of diffusers, its weights on the device, and one call of it."""

    def __init__(self, folder: Path, network: str, shape: list[int], device: str, compiled: bool = False):
        """`shape` is that of the latents."""
        # A compiled network is compiled again in its second call.
        self.device, self.unmeasured = device, 2 if compiled else 1
        free(device)
        self.before = torch.cuda.memory_allocated() if device != "cpu" else 0
        load, self.ways = {"transformer": (self.transformer, ATTENTION), "vae": (self.vae, CONVOLUTION)}[network]
        latents = torch.randn(shape, device=device, dtype=dtype(device))
        self.call = load(folder / network, latents, compiled)

    def transformer(self, folder: Path, latents: torch.Tensor, compiled: bool):
        """512 rows of text."""
        from diffusers import WanTransformer3DModel

        network = WanTransformer3DModel.from_pretrained(folder, torch_dtype=latents.dtype).to(self.device).eval()
        rows = torch.randn(1, 512, network.config.text_dim, device=self.device, dtype=latents.dtype)
        time_ = torch.tensor([500.0], device=self.device)
        if compiled:
            # Blocks are all alike: compiling one of them is as good as compiling all, and is done in time.
            network.compile_repeated_blocks()
        return lambda: network(latents, time_, rows, return_dict=False)

    def vae(self, folder: Path, latents: torch.Tensor, _: bool):
        from diffusers import AutoencoderKLWan

        network = AutoencoderKLWan.from_pretrained(folder, torch_dtype=latents.dtype).to(self.device).eval()
        return lambda: network.decode(latents, return_dict=False)

    @torch.inference_mode()
    def measure(self, calls: int) -> dict[str, dict]:
        """The seconds of calls and the largest memory, by way; first calls are left out. A way that fails says why."""
        return {way: self.timed(begin, calls) for way, begin in self.ways.items()}

    def timed(self, way, calls: int) -> dict:
        seconds = []
        if self.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        try:
            with way():
                for _ in range(self.unmeasured + calls):
                    wait(self.device)
                    begin = time.perf_counter()
                    self.call()
                    wait(self.device)
                    seconds.append(time.perf_counter() - begin)
        except RuntimeError as why:
            return {"failed": str(why).strip().splitlines()[0][:200]}
        told = {"seconds": statistics.median(seconds[self.unmeasured :]), "all": seconds, "allocated": None, "reserved": None}
        if self.device != "cpu":
            told["allocated"] = torch.cuda.max_memory_allocated() - self.before
            told["reserved"] = torch.cuda.max_memory_reserved()
        free(self.device)
        return told


def cold(folder: Path, width: int, height: int, frames: int, device: str) -> None:
    """From nothing to the first step, as a script of a few lines would do it."""
    from diffusers import WanPipeline

    def step(*_):
        wait(device)
        print("step", flush=True)
        os._exit(0)

    pipeline = WanPipeline.from_pretrained(folder, torch_dtype=dtype(device)).to(device)
    given = dict(width=width, height=height, num_frames=frames, num_inference_steps=2, guidance_scale=1.0)
    pipeline(PROMPT, **given, callback_on_step_end=step)


if __name__ == "__main__":
    cold(Path(sys.argv[1]), *map(int, sys.argv[2:5]), sys.argv[5])
