"""Signal equations of T1-weighted gradient-echo sequences: what a protocol makes of T1, T2* and proton density.

Times in ms, angles in degrees; every argument may be a tensor, and they broadcast. Signals are relative to the
equilibrium magnetisation of pure water.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def spgr(t1: Tensor, tr: Tensor, flip: Tensor) -> Tensor:
    """Spoiled gradient echo in its steady state (Ernst), without proton density and T2* decay."""
    angle = torch.deg2rad(flip)
    e1 = torch.exp(-tr / t1)
    return torch.sin(angle) * (1 - e1) / (1 - torch.cos(angle) * e1)


def mprage(t1: Tensor, delay: Tensor, readouts: Tensor, spacing: Tensor, recovery: Tensor, flip: Tensor) -> Tensor:
    """Inversion, `delay`, `readouts` pulses `spacing` apart, `recovery`, and again: signal in the middle of the train.

    The magnetisation before the inversion is that of the steady state over repetitions. The usual TI is
    delay + readouts / 2 · spacing, the usual TR delay + readouts · spacing + recovery.
    """
    angle = torch.deg2rad(flip)
    e_delay, e_spacing, e_recovery = (torch.exp(-time / t1) for time in (delay, spacing, recovery))
    decay = torch.cos(angle) * e_spacing  # of the difference to the train's own steady state, per pulse
    steady = (1 - e_spacing) / (1 - decay)
    whole, half = decay**readouts, decay ** (readouts / 2)
    # m before the inversion: 1 - e_recovery + e_recovery · (end of the train), which starts at 1 - (1 + m) e_delay
    m = 1 - e_recovery + e_recovery * (whole * (1 - e_delay) + steady * (1 - whole))
    m = m / (1 + e_recovery * whole * e_delay)
    middle = half * (1 - (1 + m) * e_delay) + steady * (1 - half)
    return torch.sin(angle) * middle.abs()


def decayed(signal: Tensor, density: Tensor, te: Tensor, t2_star: Tensor) -> Tensor:
    """With proton density and the decay until the echo."""
    return signal * density * torch.exp(-te / t2_star)


def inversion_delay(ti: float, readouts: float, spacing: float) -> float:
    """`delay` of a protocol that is given by its TI."""
    delay = ti - readouts / 2 * spacing
    if delay <= 0:
        raise ValueError(f"TI {ti} ms is shorter than half of {readouts} readouts of {spacing} ms")
    return delay


def recovery_time(tr: float, delay: float, readouts: float, spacing: float) -> float:
    """`recovery` of a protocol that is given by its TR."""
    recovery = tr - delay - readouts * spacing
    if not math.isfinite(recovery) or recovery < 0:
        raise ValueError(f"TR {tr} ms is shorter than delay and readouts")
    return recovery
