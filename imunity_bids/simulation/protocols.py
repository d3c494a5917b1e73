"""Random T1-weighted protocols, together with the tissue parameters that they meet, and the signals that they give."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from imunity_bids.image.white_stripe import WHITE_MATTER
from imunity_bids.simulation.sequences import decayed, mprage, spgr


class Protocols(NamedTuple):
    """`n` protocols, each with the tissue parameters at its field strength; tissues are CSF, gray, white matter.

    Times are in ms, angles in degrees. An SPGR has a TR; an MPRAGE has delay, readouts, spacing and recovery
    (`sequences.mprage`). Each row has values for both, of which it uses its own.
    """

    t1: Tensor  # (n, 3)
    t2_star: Tensor  # (n, 3)
    density: Tensor  # of protons, relative to water, (n, 3)
    is_spgr: Tensor  # 1 for SPGR, 0 for MPRAGE, (n,)
    te: Tensor  # (n,)
    flip: Tensor  # angle, (n,)
    tr: Tensor  # (n,)
    delay: Tensor  # from inversion to the first readout, (n,)
    readouts: Tensor  # per inversion, (n,)
    spacing: Tensor  # between readouts, (n,)
    recovery: Tensor  # from the last readout to the next inversion, (n,)

    def rows(self, index: Tensor | slice) -> Protocols:
        """Some of the protocols."""
        return Protocols(*(column[index] for column in self))


def t1_weighted(count: int, g: torch.Generator) -> Protocols:
    """Draw `count` protocols and keep those that show white brighter than gray brighter than CSF."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=g)

    white_t1 = uniform(560, 1150)
    t1 = torch.stack([uniform(3500, 4800), white_t1 * uniform(1.4, 1.9), white_t1], dim=1)
    t2_star = torch.stack([uniform(500, 1500), uniform(45, 95), uniform(40, 75)], dim=1)
    density = torch.stack([torch.ones(count), uniform(0.77, 0.87), uniform(0.65, 0.75)], dim=1)
    is_spgr = (torch.rand(count, generator=g) < 0.4).float()
    drawn = Protocols(
        t1,
        t2_star,
        density,
        is_spgr,
        te=uniform(1.5, 8),
        flip=torch.where(is_spgr > 0, uniform(8, 40), uniform(5, 16)),
        tr=uniform(6, 35),
        delay=uniform(50, 700),
        readouts=uniform(80, 260).round(),
        spacing=uniform(5, 10),
        recovery=uniform(0, 1200),
    )
    csf, gray, white = signals(drawn, torch.ones(count, 1, 1)).squeeze(dim=(2, 3)).unbind(dim=1)
    return drawn.rows((gray > 0.45 * white) & (gray < 0.95 * white) & (csf < 0.85 * gray))


def draw_protocols(count: int, g: torch.Generator) -> Protocols:
    """So many T1-weighted protocols.

    Raises
    ------
    RuntimeError
        Of eight times as many that were drawn too few were T1-weighted.
    """
    drawn = t1_weighted(8 * count + 64, g).rows(slice(count))
    if len(drawn.te) < count:
        raise RuntimeError("fewer random sequences were T1-weighted than expected")
    return drawn


def signals(protocols: Protocols, flip_scale: Tensor) -> Tensor:
    """Signals of the tissues (n, 3, h, w) under a map of relative flip angles, (n, h, w) or (n, 1, 1)."""
    t1, t2_star, density = (tissue[..., None, None] for tissue in protocols[:3])
    is_spgr, te, flip, tr, delay, readouts, spacing, recovery = (
        column[:, None, None, None] for column in protocols[3:]
    )
    flip = flip * flip_scale[:, None]
    signal = torch.where(is_spgr > 0, spgr(t1, tr, flip), mprage(t1, delay, readouts, spacing, recovery, flip))
    return decayed(signal, density, te, t2_star)


def tissue_levels(protocols: Protocols, relative_t1: Tensor, flip_scales: Tensor) -> Tensor:
    """Signals of CSF, gray and white matter with white matter at 0.7, as N4 and white stripe bring it: (n, 3, F).

    Parameters
    ----------
    relative_t1
        T1 of a person's tissues, relative to the usual, (n, 3).
    flip_scales
        Relative flip angles, (F,); white matter is at 0.7 at each of them.
    """
    persons = protocols._replace(t1=protocols.t1 * relative_t1)
    signal = signals(persons, flip_scales.expand(len(relative_t1), 1, -1)).squeeze(2)
    return WHITE_MATTER * signal / signal[:, 2:]
