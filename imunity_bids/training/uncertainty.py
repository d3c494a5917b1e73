"""Train the error network: a finished bundle harmonizes travelers whose truth is known."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor

from imunity_bids.harmonize.inference import Compute, harmonize_parts
from imunity_bids.harmonize.references import reference_scan
from imunity_bids.metrics.similarity import rank_correlation
from imunity_bids.models.bundle import Bundle
from imunity_bids.models.uncertainty import EXPECTED, LEAST, SPREAD, ErrorNet, describe
from imunity_bids.simulation import contrast
from imunity_bids.simulation.histograms import BLUR, NOISE, TRANSMIT
from imunity_bids.simulation.persons import Person
from imunity_bids.simulation.scanners import Relaxation, Scanner
from imunity_bids.simulation.visits import FWHM, Visit, visit
from imunity_bids.training.run import keep, load_kept

VISITS = 3  # of every person, each on another scanner
DIRECTIONS = 3  # of those between them and of the scans to their own scanner that are learned from
VOXELS = 4000  # of each harmonized brain
RECEIVE = 0.3  # largest amplitude of the receive field, before N4
STEPS, BATCH, RATE = 8000, 1024, 3e-3


def train_error(
    people: list[Person], judges: list[Person], bundle: Bundle, folder: Path, seed: int = 1, jobs: int = 1
) -> tuple[ErrorNet, dict[str, float]]:
    """The network, and Spearman's correlation of what it says and the true error, the mean over brains of the judges.

    It is kept in `folder`: a run that goes on finds it there.
    """
    file = folder / "network.pt"
    if file.exists():
        network = ErrorNet()
        return network, load_kept(file, network)["ranks"]
    folder.mkdir(parents=True, exist_ok=True)
    known = travels(people, bundle, seed, jobs)
    features, errors = (torch.from_numpy(np.concatenate(column)) for column in zip(*known, strict=True))
    network = _fit(features, errors, seed)
    ranks = _ranks(network, travels(judges, bundle, seed + 1, jobs))
    keep(file, network, ranks=ranks)
    return network, ranks


def travels(people: list[Person], bundle: Bundle, seed: int, jobs: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    """Features (n, F) and absolute errors (n,) of harmonized brains, the reference being another person's scan.

    On its own scanner a scan is to stay as it is. Who is alone is his own reference.
    """
    rng = np.random.default_rng(seed)
    count = max(VISITS, len(people) * VISITS // 4)  # so that most scanners see several persons
    scanners = random_scanners(count, rng)
    chosen = [rng.choice(count, VISITS, replace=False) for _ in people]
    parallel = Parallel(n_jobs=jobs)
    visits = parallel(
        delayed(_visits)(someone, [scanners[s] for s in mine], seed)
        for someone, mine in zip(people, chosen, strict=True)
    )
    plans = _plan(people, chosen, visits, rng)
    return parallel(delayed(_example)(*plan, bundle, seed + number) for number, plan in enumerate(plans))


def _plan(
    people: list[Person], chosen: list[np.ndarray], visits: list[list[Visit]], rng: np.random.Generator
) -> list[tuple[np.ndarray, ...]]:
    """Scan, truth, mask and the reference to harmonize to; a scanner that nobody else visits is left out."""
    scans = defaultdict(list)
    for index, mine in enumerate(chosen):
        for number, s in enumerate(mine):
            scans[s].append((index, visits[index][number].scan))
    plans = []
    for index, mine in enumerate(chosen):
        pairs = [(a, b) for a in range(VISITS) for b in range(VISITS)]
        for pair in rng.permutation(len(pairs))[:DIRECTIONS]:
            source, target = pairs[pair]
            others = [scan for other, scan in scans[mine[target]] if other != index or len(people) == 1]
            if others:
                reference = others[rng.integers(len(others))]
                scan = visits[index][source].scan
                truth = scan if source == target else visits[index][target].truth
                plans.append((scan, truth, people[index].mask, reference))
    return plans


def random_scanners(count: int, rng: np.random.Generator) -> list[Scanner]:
    """Protocols and fields as `contrast.t1_weighted` and `visits` draw them; none of the judge's."""
    g = torch.Generator().manual_seed(int(rng.integers(2**31)))
    scanners = []
    for number, row in enumerate(contrast.sequences(count, g).tolist()):
        tissue = Relaxation(tuple(row[:3]), tuple(row[3:6]), tuple(row[6:9]))
        is_spgr, te, flip, tr, delay, readouts, spacing, recovery = row[9:]
        fields = {
            "transmit": rng.uniform(0, TRANSMIT),
            "receive": rng.uniform(0, RECEIVE),
            "fwhm_mm": tuple(FWHM * rng.uniform(0, BLUR, 3) * rng.integers(0, 2, 3)),
            "noise": rng.uniform(*NOISE),
        }
        plain = Scanner(f"random-{number}", tissue, tr, te, flip, **fields)
        train = readouts * spacing
        inversion = {"tr": delay + train + recovery, "ti": delay + train / 2}
        scanners.append(plain if is_spgr else replace(plain, **inversion, readouts=int(readouts), spacing=spacing))
    return scanners


def _visits(someone: Person, scanners: list[Scanner], seed: int) -> list[Visit]:
    found = [visit(someone, scanner, seed) for scanner in scanners]
    return [Visit(*(volume.astype(np.float16) for volume in (one.scan, one.truth))) for one in found]


def _example(
    scan: np.ndarray, truth: np.ndarray, mask: np.ndarray, other: np.ndarray, bundle: Bundle, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    scan, truth, other = (volume.astype(np.float32) for volume in (scan, truth, other))
    made, spread, expected = harmonize_parts(scan * mask, mask, bundle, reference_scan(other, bundle), Compute())
    some = np.random.default_rng(seed).choice(int(mask.sum()), min(VOXELS, int(mask.sum())), replace=False)
    return describe(scan * mask, made, spread, expected, mask)[some], np.abs(made - truth)[mask][some]


def _fit(features: Tensor, errors: Tensor, seed: int) -> ErrorNet:
    torch.manual_seed(seed)
    network = ErrorNet()
    network.mean.copy_(features.mean(dim=0))
    network.std.copy_(features.std(dim=0).clamp(min=1e-6))
    network.layers[-1].bias.data.fill_((errors.mean() + LEAST).log())
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS)
    g = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        some = torch.randint(len(features), (BATCH,), generator=g)
        said = network.log_error(features[some])
        loss = (said + (errors[some] + LEAST) * (-said).exp()).mean()  # least where the mean of the errors is said
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def _ranks(network: ErrorNet, brains: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Beside that of the spread alone, and of the histogram network alone."""
    found = []
    for features, errors in brains:
        said = (network(torch.from_numpy(features)).numpy(), *features[:, [SPREAD, EXPECTED]].T)
        found.append([rank_correlation(one, errors) for one in said])
    return dict(zip(("network", "spread", "histogram"), np.round(np.mean(found, axis=0), 3).tolist(), strict=True))
