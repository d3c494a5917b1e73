"""Train the error network: a finished bundle harmonizes simulated traveling subjects, whose truth is known."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor

from imunity_bids.harmonize.inference import Compute, harmonize_parts
from imunity_bids.harmonize.references import reference_scan
from imunity_bids.metrics.similarity import rank_correlation
from imunity_bids.models.bundle import Bundle
from imunity_bids.models.uncertainty import EXPECTED, LEAST, SPREAD, ErrorNet, describe
from imunity_bids.simulation.persons import Person
from imunity_bids.simulation.scanners import Scanner, random_scanners
from imunity_bids.simulation.visits import Visit, visit
from imunity_bids.training.checkpoints import keep, load_kept

VISITS = 3  # of every person, each to another scanner
DIRECTIONS = 3  # of those between them and of the scans to their own scanner that are learned from
VOXELS = 4000  # of each harmonized brain
STEPS, BATCH, RATE = 8000, 1024, 3e-3


class Direction(NamedTuple):
    """A scan to harmonize; volumes (X, Y, Z), 0 outside the brain."""

    scan: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    reference: np.ndarray  # a scan on the target scanner


class VoxelErrors(NamedTuple):
    """Voxels of one harmonized brain."""

    features: np.ndarray  # (n, F) as `models.uncertainty.FEATURES`
    errors: np.ndarray  # absolute, (n,)


def train_error(
    people: list[Person],
    held_out: list[Person],
    bundle: Bundle,
    folder: Path,
    seed: int = 1,
    jobs: int = 1,
    steps: int = STEPS,
) -> tuple[ErrorNet, dict[str, float]]:
    """The network, and the rank correlations of `rank_correlations` on persons that it was not trained on.

    It is kept in `folder`: a run that goes on finds it there.
    """
    file = folder / "network.pt"
    if file.exists():
        network = ErrorNet()
        return network, load_kept(file, network)["ranks"]
    folder.mkdir(parents=True, exist_ok=True)
    known = harmonized_travelers(people, bundle, seed, jobs)
    features, errors = (torch.from_numpy(np.concatenate(column)) for column in zip(*known, strict=True))
    network = fit_error_network(features, errors, seed, steps)
    ranks = rank_correlations(network, harmonized_travelers(held_out, bundle, seed + 1, jobs))
    keep(file, network, ranks=ranks)
    return network, ranks


def harmonized_travelers(people: list[Person], bundle: Bundle, seed: int, jobs: int = 1) -> list[VoxelErrors]:
    """Errors of harmonized brains; the reference is another person's scan on the target scanner.

    The truth of a scan that is sent to its own scanner is the scan itself. A person who is alone is his or her own
    reference.
    """
    rng = np.random.default_rng(seed)
    count = max(VISITS, len(people) * VISITS // 4)  # so that most scanners see several persons
    scanners = random_scanners(count, rng)
    visited = [rng.choice(count, VISITS, replace=False) for _ in people]
    parallel = Parallel(n_jobs=jobs)
    visits = parallel(
        delayed(_visits)(person, [scanners[number] for number in numbers], seed)
        for person, numbers in zip(people, visited, strict=True)
    )
    directions = _directions(people, visited, visits, rng)
    return parallel(delayed(_harmonized)(way, bundle, seed + number) for number, way in enumerate(directions))


def _directions(
    people: list[Person], visited: list[np.ndarray], visits: list[list[Visit]], rng: np.random.Generator
) -> list[Direction]:
    """Some of every person's directions; one to a scanner that nobody else visits is left out."""
    scans = defaultdict(list)  # of every scanner: number of the person, scan
    for person, scanners in enumerate(visited):
        for number, scanner in enumerate(scanners):
            scans[scanner].append((person, visits[person][number].scan))
    directions = []
    for person, scanners in enumerate(visited):
        pairs = [(source, target) for source in range(VISITS) for target in range(VISITS)]
        for pair in rng.permutation(len(pairs))[:DIRECTIONS]:
            source, target = pairs[pair]
            references = [scan for who, scan in scans[scanners[target]] if who != person or len(people) == 1]
            if references:
                reference = references[rng.integers(len(references))]
                scan = visits[person][source].scan
                truth = scan if source == target else visits[person][target].truth
                directions.append(Direction(scan, truth, people[person].mask, reference))
    return directions


def _visits(person: Person, scanners: list[Scanner], seed: int) -> list[Visit]:
    """In half precision: there are many of them."""
    visits = [visit(person, scanner, seed) for scanner in scanners]
    return [Visit(scan.astype(np.float16), truth.astype(np.float16)) for scan, truth in visits]


def _harmonized(direction: Direction, bundle: Bundle, seed: int) -> VoxelErrors:
    """At `VOXELS` random voxels of the brain."""
    scan, truth, reference = (
        volume.astype(np.float32) for volume in (direction.scan, direction.truth, direction.reference)
    )
    mask = direction.mask
    target = reference_scan(reference, bundle)
    harmonized, spread, expected = harmonize_parts(scan * mask, mask, bundle, target, Compute())
    count = int(mask.sum())
    voxels = np.random.default_rng(seed).choice(count, min(VOXELS, count), replace=False)
    features = describe(scan * mask, harmonized, spread, expected, mask)
    return VoxelErrors(features[voxels], np.abs(harmonized - truth)[mask][voxels])


def fit_error_network(features: Tensor, errors: Tensor, seed: int, steps: int = STEPS) -> ErrorNet:
    """Fit to features (n, F) and absolute errors (n,), so that the network says the mean error at such voxels.

    The loss log(e) + error / e is that of an exponential distribution: least where e is the mean of the errors.
    """
    torch.manual_seed(seed)
    network = ErrorNet()
    network.mean.copy_(features.mean(dim=0))
    network.std.copy_(features.std(dim=0).clamp(min=1e-6))
    network.layers[-1].bias.data.fill_((errors.mean() + LEAST).log())
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps)
    g = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        voxels = torch.randint(len(features), (BATCH,), generator=g)
        log_error = network.log_error(features[voxels])
        loss = (log_error + (errors[voxels] + LEAST) * (-log_error).exp()).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def rank_correlations(network: ErrorNet, brains: list[VoxelErrors]) -> dict[str, float]:
    """Spearman's, of predicted and true error, mean over brains: of the network, the spread of the three axes alone,
    and the histogram network alone."""
    by_brain = []
    for features, errors in brains:
        predictions = (network(torch.from_numpy(features)).numpy(), *features[:, [SPREAD, EXPECTED]].T)
        by_brain.append([rank_correlation(prediction, errors) for prediction in predictions])
    means = np.round(np.mean(by_brain, axis=0), 3).tolist()
    return dict(zip(("network", "spread", "histogram"), means, strict=True))
