"""Scanners: a protocol (`sequences`), the tissue parameters at its field strength, fields, resolution and noise.

Six typical ones for evaluation; training draws its own (`visit_volumes`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from imunity_bids.simulation.sequences import decayed, inversion_delay, mprage, recovery_time, spgr

TISSUES = ("csf", "gray", "white")


@dataclass(frozen=True)
class Relaxation:
    """T1 and T2* in ms and relative proton density of `TISSUES`, at one field strength."""

    t1: tuple[float, float, float]
    t2_star: tuple[float, float, float]
    density: tuple[float, float, float] = (1.0, 0.82, 0.70)


AT_1_5_T = Relaxation((4000, 1050, 640), (1200, 84, 66))
AT_3_T = Relaxation((4300, 1331, 832), (900, 60, 48))


@dataclass(frozen=True)
class Scanner:
    """A protocol and what the machine adds. Times in ms, angles in degrees."""

    name: str
    tissue: Relaxation
    tr: float
    te: float
    flip: float
    ti: float | None = None  # with an inversion the sequence is an MPRAGE, else an SPGR
    readouts: int = 0
    spacing: float = 0.0
    transmit: float = 0.0  # relative excess of the flip angle in the middle of the head over its rim
    receive: float = 0.2  # amplitude of the receive field
    fwhm_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of the blur beyond 1 mm voxels
    noise: float = 0.01  # standard deviation in each channel, white matter being at 0.7

    def signal(self, flip_scale: np.ndarray, scatter: np.ndarray) -> np.ndarray:
        """Signals (3, …) of `TISSUES` under a map of flip angles (…), T1 being scaled by `scatter` (3)."""
        shape = (3,) + (1,) * flip_scale.ndim
        t1, t2_star, density = (
            torch.tensor(values, dtype=torch.float32).reshape(shape)
            for values in (np.multiply(self.tissue.t1, scatter), self.tissue.t2_star, self.tissue.density)
        )
        flip = torch.from_numpy(self.flip * flip_scale).float()[None]
        if self.ti is None:
            signal = spgr(t1, torch.tensor(self.tr), flip)
        else:
            delay = inversion_delay(self.ti, self.readouts, self.spacing)
            times = (delay, self.readouts, self.spacing, recovery_time(self.tr, delay, self.readouts, self.spacing))
            signal = mprage(t1, *(torch.tensor(float(time)) for time in times), flip)
        return decayed(signal, density, torch.tensor(self.te), t2_star).numpy()


# Typical of protocols in use; training draws its own and none of these.
SCANNERS = (
    Scanner("SPGR-1.5T", AT_1_5_T, 24, 5.0, 30, transmit=0.04, receive=0.15, fwhm_mm=(1.2, 0.0, 0.0), noise=0.012),
    Scanner("SPGR-3T", AT_3_T, 9.6, 4.6, 11, transmit=0.18, receive=0.30, fwhm_mm=(0.8, 0.8, 0.8), noise=0.010),
    Scanner("MPRAGE-1.5T", AT_1_5_T, 2400, 3.5, 8, 1000, 160, 8.9, 0.04, 0.15, (0.8, 0.0, 0.8), 0.014),
    Scanner("MPRAGE-3T", AT_3_T, 2300, 3.0, 9, 900, 176, 7.1, 0.18, 0.30, (0.0, 0.0, 0.0), 0.008),
    Scanner("MPRAGE-3T-long", AT_3_T, 2400, 2.1, 8, 1100, 256, 7.6, 0.15, 0.25, (0.0, 0.8, 0.0), 0.010),
    Scanner("IR-SPGR-3T", AT_3_T, 1900, 3.0, 12, 700, 100, 7.0, 0.18, 0.30, (0.0, 1.0, 0.0), 0.012),
)

# With fields that surface coils make: to be named to be used.
STRONG = tuple(replace(s, name=f"{s.name}-strong", receive=0.7) for s in SCANNERS if s.name in ("SPGR-3T", "MPRAGE-3T"))
