"""Log-mel spectrograms in LTX-2's geometry: 16 kHz, a hop of 10 ms, 64 bands up to 8 kHz."""

import math

import torch

from world import RATE

HOP, BANDS, LENGTH, WINDOW = 160, 64, 1024, 512
FLOOR = 1e-2  # 66 dB below a full tone: what is quieter is silence


def _filters() -> torch.Tensor:
    """Triangles (513, 64), evenly spaced on the mel scale of HTK, each as high as the next."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, BANDS + 2, dtype=torch.float64) / 2595) - 1)
    hertz = torch.linspace(0, RATE / 2, LENGTH // 2 + 1, dtype=torch.float64)[:, None]
    width = (edges[1:] - edges[:-1]).clamp(min=RATE / LENGTH)
    rise, fall = (hertz - edges[:-2]) / width[:-1], (edges[2:] - hertz) / width[1:]
    return torch.minimum(rise, fall).clamp(min=0).float()


_FILTERS, _HANN = _filters(), torch.hann_window(WINDOW)


def log_mel(wave: torch.Tensor, frames: int) -> torch.Tensor:
    """Samples (..., n) at 16 kHz to natural logarithms (..., frames, 64); frame m is centred on sample 160 m."""
    flat = wave.reshape(-1, wave.shape[-1])
    flat = torch.nn.functional.pad(flat, (0, max((frames - 1) * HOP - flat.shape[-1], 0)))
    spectrum = torch.stft(flat, LENGTH, HOP, WINDOW, _HANN, center=True, pad_mode="constant", return_complex=True)
    mel = spectrum.abs().transpose(1, 2)[:, :frames] @ _FILTERS
    return mel.clamp(min=FLOOR).log().reshape(*wave.shape[:-1], frames, BANDS)
