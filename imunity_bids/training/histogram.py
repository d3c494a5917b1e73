"""Train the histogram network: from the histograms of a brain and of another person on the target scanner, what the
brain's own histogram would be there. Minutes on one core."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from joblib import Parallel, delayed
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from imunity_bids.bids.outputs import write_atomically
from imunity_bids.image.template import white_core_of
from imunity_bids.models.histogram import HistogramNet
from imunity_bids.simulation.persons import Person, take_apart
from imunity_bids.simulation.visit_histograms import Visits, partner, simulate_visits, truth
from imunity_bids.training.checkpoints import keep, load_kept
from imunity_bids.training.dataset import Brain

log = logging.getLogger(__name__)

BATCH = 128
LEAST_ERROR, ERROR_WEIGHT = 1e-3, 1e-3
SAME_SCANNER = 0.25  # of the pairs: there the brain shall stay as it is
VALIDATION_VISITS, VALIDATION_PAIRS = 600, 4000


def train_histogram(
    brains: list[Brain],
    held_out: list[Brain],
    folder: Path,
    visits: int = 20_000,
    steps: int = 10_000,
    rate: float = 1e-3,
    seed: int = 1,
    jobs: int = 1,
) -> tuple[HistogramNet, dict[str, float]]:
    """The network, and its mean error on held-out persons beside that of plain matching and of doing nothing.

    Persons are made from the brains once and kept in `folder`, as is the network: a run that goes on finds them there.
    """
    file = folder / "network.pt"
    if file.exists():
        network = HistogramNet()
        return network, load_kept(file, network)["errors"]
    people, unseen = (make_people(part, folder, jobs) for part in (brains, held_out))
    known = simulate_visits(people, visits, seed)
    torch.manual_seed(seed)
    network = HistogramNet()
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.05)
    g = torch.Generator().manual_seed(seed)
    for _ in tqdm(range(steps), desc="histogram", mininterval=5):
        source, reference = _draw(known, BATCH, g)
        predicted = network(known.quantiles[source], known.quantiles[reference])
        loss = _loss(*predicted, *_target(known, source, reference))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    errors = _errors(network.eval(), simulate_visits(unseen, VALIDATION_VISITS, seed + 1))
    log.info("histogram network on unseen persons: %s", errors)
    keep(file, network, errors=errors)
    return network, errors


def _draw(visits: Visits, count: int, g: torch.Generator, same: float = SAME_SCANNER) -> tuple[Tensor, Tensor]:
    """Visits to harmonize and visits of other persons that are their references, a share of them on one scanner."""
    source = torch.randint(len(visits.person), (count,), generator=g)
    reference = torch.randint(len(visits.person), (count,), generator=g)
    reference = torch.where(torch.rand(count, generator=g) < same, partner(source), reference)
    another_person = visits.person[source] != visits.person[reference]
    return (source[another_person], reference[another_person]) if another_person.any() else (source, reference)


def _target(visits: Visits, source: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """The truth and its scatter; where scan and reference come from one scanner, the scan as it is, without scatter."""
    same = (partner(source) == reference)[:, None]
    mean, scatter = truth(visits, source, reference)
    return torch.where(same, visits.quantiles[source], mean), scatter.masked_fill(same, 0)


def _loss(predicted: Tensor, predicted_error: Tensor, mean: Tensor, scatter: Tensor) -> Tensor:
    """Of the quantiles, and of the logarithm of the error that a voxel there has on the average; all (B, Q)."""
    error = torch.hypot((predicted - mean).detach(), scatter).clamp(min=LEAST_ERROR)
    return F.smooth_l1_loss(predicted, mean, beta=0.01) + ERROR_WEIGHT * F.mse_loss(predicted_error.log(), error.log())


@torch.inference_mode()
def _errors(network: HistogramNet, visits: Visits) -> dict[str, float]:
    """Mean errors of quantiles where scanners differ."""
    source, reference = _draw(visits, VALIDATION_PAIRS, torch.Generator().manual_seed(0), same=0)
    scan, wanted = visits.quantiles[source], visits.quantiles[reference]
    target, _ = _target(visits, source, reference)
    predictions = {"network": network(scan, wanted)[0], "matching": wanted, "untouched": scan}
    return {name: round((values - target).abs().mean().item(), 5) for name, values in predictions.items()}


def make_people(brains: list[Brain], folder: Path, jobs: int) -> list[Person]:
    """Take brains apart into tissues and texture, once: what is in `folder` is read."""
    folder.mkdir(parents=True, exist_ok=True)
    return Parallel(n_jobs=jobs)(delayed(_person)(brain, folder) for brain in brains)


def _person(brain: Brain, folder: Path) -> Person:
    file = folder / f"{_content(brain)}.npz"
    affine = np.diag([*brain.zooms, 1.0]) if brain.affine is None else brain.affine
    mask = ndimage.binary_fill_holes((brain.volume > 0).numpy())  # the darkest CSF may be 0
    image = nib.Nifti1Image(brain.volume.float().numpy(), affine)
    core = white_core_of(brain.name, image)
    if file.exists():
        with np.load(file) as stored:
            fractions, texture = (stored[name].astype(np.float32) for name in ("fractions", "texture"))
        return Person(brain.name, affine, fractions, texture, mask, core)
    person = take_apart(brain.name, image, mask, core)
    arrays = {"fractions": person.fractions.astype(np.float16), "texture": person.texture.astype(np.float16)}
    write_atomically(file, lambda path: np.savez(path, **arrays))
    return person


def _content(brain: Brain) -> str:
    """Hash of intensities, shape and voxel size: two sites may have a sub-01 each, and one brain two names."""
    values = brain.volume.contiguous().numpy()
    about = f"texture without leftovers {values.shape} {values.dtype} {[float(zoom) for zoom in brain.zooms]}"
    return hashlib.sha256(about.encode() + values.tobytes()).hexdigest()[:32]
