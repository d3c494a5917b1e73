"""Evaluation with traveling subjects: persons on simulated scanners, every direction, beside the baselines.

The reference is always made of OTHER persons on the target scanner: one's own scan would give the anatomy away.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import delayed
from scipy import ndimage, stats

from imunity_bids.errors import InputMissing, Usage
from imunity_bids.evaluation import baselines
from imunity_bids.evaluation.sites import site_accuracy
from imunity_bids.harmonize.inference import Compute, harmonize, intensity_quantiles
from imunity_bids.harmonize.references import reference_of
from imunity_bids.hashes import digest, sha256
from imunity_bids.image.template import white_core_of
from imunity_bids.metrics import similarity
from imunity_bids.metrics.textures import intensity_and_texture
from imunity_bids.models.bundle import load_bundle
from imunity_bids.parallel import in_parallel
from imunity_bids.simulation.persons import take_apart
from imunity_bids.simulation.scanners import SCANNERS, STRONG, Scanner
from imunity_bids.simulation.visits import perfect, relative_t1, visit

OURS = "imunity"
BOUND = "best curve (knows the truth)"
FLOOR = "reference's tissue levels, even and without noise"  # what a reference of other persons can tell at most
TRUTH = "the truth itself"  # a perfect answer, for the scores that do not compare with the truth
EVERY = 50  # voxels of which one is taken for the rank correlation of the uncertainty


def brains_below(folder: Path, chosen: list[str]) -> list[Path]:
    """White-striped brains of a derivative dataset that match one of the glob patterns (all where there is none).

    Raises
    ------
    InputMissing
        None, or fewer than the two that a reference from another person needs.
    """
    paths = [
        path
        for path in sorted(Path(folder).glob("**/*_space-*_desc-preproc_T1w.nii.gz"))
        if not chosen or any(path.match(pattern) for pattern in chosen)
    ]
    if len(paths) < 2:
        raise InputMissing(
            f"{folder}: {len(paths)} matching *_space-*_desc-preproc_T1w.nii.gz; two are needed at least"
        )
    return paths


def scanners_named(names: list[str]) -> tuple[Scanner, ...]:
    """Simulated scanners by name, in the order of `SCANNERS` and `STRONG`; without names all of `SCANNERS`.

    Raises
    ------
    Usage
        A name is not known, or there is one scanner only.
    """
    known = {scanner.name: scanner for scanner in (*SCANNERS, *STRONG)}
    if unknown := sorted(set(names) - set(known)):
        raise Usage(f"--scanners {' '.join(unknown)}: no such scanner; there are: {', '.join(known)}")
    if len(set(names)) == 1:
        raise Usage(f"--scanners {names[0]}: nobody can travel with one scanner; name two at least")
    return tuple(known[name] for name in known if name in names) if names else SCANNERS


def evaluate_travelers(
    brains: list[Path],
    model: Path,
    output: Path,
    seed: int = 1,
    jobs: int = 1,
    scanners: tuple[Scanner, ...] = SCANNERS,
    sources: int = 0,
    references: int = 0,
) -> dict[str, object]:
    """All scores into `output`: travelers.tsv (a line per image and method), sites.tsv, travelers.json.

    Parameters
    ----------
    brains
        White-striped brains, each with its mask beside it; two at least.
    model
        Folder of a bundle.
    seed
        Of the visits, which are kept in `output/visits` and used again by the next evaluation with the same seed.
    jobs
        Persons that are done at the same time.
    scanners
        Where every person is scanned.
    sources
        Of every person so many random scanners are travelled from, each to two others and to itself; 0: all ways.
    references
        So many other persons on the target scanner are the reference, of every method; 0: all others.
    """
    output.mkdir(parents=True, exist_ok=True)
    names = [f"{path.name.split('_')[0]}-{sha256(path)[:8]}" for path in brains]
    others = [[n for n in range(len(brains)) if n != own][: references or None] for own in range(len(brains))]
    shown = [[names[n] for n in numbers] for numbers in others]  # as the reference of each person
    to_make = [
        delayed(_make_visits)(path, name, who, output / "visits", seed, scanners)
        for path, name, who in zip(brains, names, shown, strict=True)
    ]
    files = in_parallel(to_make, jobs, "visits")
    to_score = [
        delayed(_score_person)(
            file, [files[n] for n in others[own]], names[own], shown[own], model, _ways(scanners, sources, seed + own)
        )
        for own, file in enumerate(files)
    ]
    done = in_parallel(to_score, jobs, "persons")
    table = pd.DataFrame([row for rows, _ in done for row in rows])
    features = pd.DataFrame([row for _, rows in done for row in rows])
    table.to_csv(output / "travelers.tsv", sep="\t", index=False, float_format="%.6f")
    features.to_csv(output / "sites.tsv", sep="\t", index=False, float_format="%.6g")
    summary = summarise(table) | {
        **(_site_scores(features, scanners) if not sources else {}),
        "model": str(model),
        "seed": seed,
        "persons": [str(path.name) for path in brains],
        "scanners": [scanner.name for scanner in scanners],
        "sources": sources,
        "references": len(others[0]),
    }
    (output / "travelers.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return summary


def summarise(table: pd.DataFrame) -> dict[str, object]:
    """Means over every direction and person; margins of our method with a 95 % interval over persons (Student's t).

    On its own scanner a scan has the same truth as elsewhere, even and noiseless.
    """
    between = table[table.source != table.target]
    own = table[table.source == table.target]
    travels, perfect = between[between.method != TRUTH], between[between.method == TRUTH]
    ours = travels[travels.method == OURS]
    by_direction = travels.groupby(["source", "target", "method"]).ssim.mean().unstack()
    change = by_direction[OURS] - by_direction["raw"]
    by_image = table[table.method.isin([OURS, "raw"])].pivot_table(
        index=["person", "source", "target"], columns="method", values="ssim"
    )
    worst = by_image[OURS] - by_image["raw"]
    scores = ["ssim", "psnr", "mae", "histogram_distance", "gradient_correlation"]
    return {
        "travels": travels.groupby("method")[scores].mean().to_dict("index"),
        "own_scanner": own[own.method != TRUTH].groupby("method")[["ssim", "mae"]].mean().to_dict("index"),
        "truth": {"gradient_correlation": perfect.gradient_correlation.mean()},
        "ssim_gain": _margins(travels, "ssim"),
        "mae_gain": _margins(travels, "mae"),
        "worst_direction": {"direction": " → ".join(change.idxmin()), "gain_over_raw": change.min()},
        "worst_image": {"image": " ".join(worst.idxmin()), "gain_over_raw": worst.min()},
        "worse_than_raw": {"by_more_than_0.002": int((worst < -0.002).sum()), "of": len(worst)},
        "exchange_slope": {
            "mean": ours.exchange_slope.mean(),
            "low": ours.exchange_slope.quantile(0.05),
            "high": ours.exchange_slope.quantile(0.95),
        },
        "uncertainty": {
            "rank_correlation": ours.uncertainty_rank.mean(),
            "expected": ours.expected_error.mean(),
            "found": ours.mae.mean(),
        },
    }


def _site_scores(features: pd.DataFrame, scanners: tuple[Scanner, ...]) -> dict[str, object]:
    """Whether a classifier tells the scanners by what was sent to the first one's contrast."""
    return {
        "site_accuracy": {method: site_accuracy(part) for method, part in features.groupby("method")},
        "site_chance": 1 / len(scanners),
    }


def _margins(travels: pd.DataFrame, score: str) -> dict[str, dict[str, float]]:
    """By how much our score is higher than that of every other method, over persons."""
    by_person = travels.groupby(["method", "person"])[score].mean()
    margins = {}
    for method in travels.method.unique():
        if method != OURS:
            gain = by_person[OURS] - by_person[method]
            half = stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain)
            margins[method] = {"mean": gain.mean(), "low": gain.mean() - half, "high": gain.mean() + half}
    return margins


def _make_visits(
    path: Path, name: str, references: list[str], folder: Path, seed: int, scanners: tuple[Scanner, ...]
) -> Path:
    """Scans and truths of a person on all scanners, cropped to the brain; a file that has them all is left as it is.

    `references` are the names of the persons whose scans will be the reference: what they can tell is kept, too.
    """
    file = folder / f"{name}_seed-{seed}.npz"
    floor = _floor(references)
    if file.exists() and _holds_all(file, scanners, floor):
        return file
    brain = nib.load(path)
    mask_path = path.with_name(path.name.replace("desc-preproc_T1w", "desc-brain_mask"))
    mask = np.asarray(nib.load(mask_path).dataobj) > 0
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    mask = mask[box]
    cut = brain.slicer[box]
    person = take_apart(name, cut, mask, white_core_of(path.name, cut))
    arrays = {"mask": mask}
    scatter = np.mean([relative_t1(reference, seed) for reference in references], axis=0)
    for scanner in scanners:
        scan, truth = visit(person, scanner, seed)
        volumes = {"scan": scan, "truth": truth, floor: np.clip(perfect(person, scanner, scatter), 0, 1)}
        arrays |= {f"{scanner.name}/{kind}": volume.astype(np.float16) for kind, volume in volumes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(".tmp.npz")
    np.savez(scratch, **arrays)
    scratch.replace(file)
    return file


def _floor(references: list[str]) -> str:
    """Name of the volumes that say what these persons can tell at most."""
    return f"floor-{digest(references)[:8]}"


def _holds_all(file: Path, scanners: tuple[Scanner, ...], floor: str) -> bool:
    with np.load(file) as stored:
        return all(f"{scanner.name}/{floor}" in stored for scanner in scanners)


def _load(file: Path, scanner: str, kind: str) -> np.ndarray:
    """A volume: the scan, the truth or the floor on a scanner."""
    with np.load(file) as stored:
        return stored[f"{scanner}/{kind}"].astype(np.float32)


def _score_person(
    file: Path, others: list[Path], name: str, shown: list[str], model: Path, ways: dict[str, list[str]]
) -> tuple[list[dict], list[dict]]:
    """Rows of scores for every source and its targets, and of features for what was sent to the first target.

    `others` are the visits of the persons `shown` as the reference.
    """
    import torch

    torch.set_num_threads(1)
    with np.load(file) as stored:
        mask = stored["mask"]
    bundle, rows, features = load_bundle(model), [], []
    targets = {target for ends in ways.values() for target in ends}
    truths = {target: _load(file, target, "truth") for target in targets}
    references = {target: [_load(other, target, "scan") for other in others] for target in targets}
    contrasts = {target: reference_of(scans, bundle) for target, scans in references.items()}
    for source, ends in ways.items():
        scan, before = _load(file, source, "scan"), None
        for target in ends:
            truth = truths[target]
            ours = harmonize(scan, mask, bundle, contrasts[target], Compute())
            images = {"raw": scan, **baseline_images(scan, mask, references[target]), OURS: ours.image}
            images |= {BOUND: baselines.best_curve(scan, mask, truth), FLOOR: _load(file, target, _floor(shown))}
            about = {"person": name, "source": source, "target": target}
            for method, image in images.items():
                rows.append({**about, "method": method, **scores_of(image, truth, scan, mask)})
                if method == OURS:
                    error = np.abs(image - truth)[mask]
                    rows[-1]["uncertainty_rank"] = similarity.rank_correlation(
                        ours.uncertainty[mask][::EVERY], error[::EVERY]
                    )
                    rows[-1]["expected_error"] = float(ours.uncertainty[mask].mean())
                    if before is not None:
                        difference = truth[mask] - before[1]
                        rows[-1]["exchange_slope"] = _slope(image[mask] - before[0], difference)
            before = ours.image[mask], truth[mask]
            changed = similarity.gradient_correlation(scan, truth, mask)
            rows.append({**about, "method": TRUTH, "gradient_correlation": changed})
            if target == next(iter(ways.values()))[0]:
                features += [
                    {"person": name, "site": source, "method": method, **intensity_and_texture(image, mask)}
                    for method, image in {**images, TRUTH: truth}.items()
                ]
    return rows, features


def baseline_images(scan: np.ndarray, mask: np.ndarray, references: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Each with the same references."""
    return {
        "histogram matching": baselines.histogram_matching(scan, mask, references),
        "Nyúl": baselines.nyul(scan, mask, references),
        "tissue curve": baselines.tissue_curve(scan, mask, references),
    }


def scores_of(image: np.ndarray, truth: np.ndarray, scan: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Of an image against the truth; the gradients alone are compared with those of the scan."""
    quantiles = [intensity_quantiles(volume, mask).numpy() for volume in (image, truth)]
    return {
        "ssim": similarity.ssim(image, truth, mask),
        "psnr": similarity.psnr(image, truth, mask),
        "mae": similarity.mae(image, truth, mask),
        "histogram_distance": similarity.histogram_distance(*quantiles),
        "gradient_correlation": similarity.gradient_correlation(scan, image, mask),
    }


def _ways(scanners: tuple[Scanner, ...], sources: int, seed: int) -> dict[str, list[str]]:
    """Targets by source: all of them, or of so many random sources two others and the source itself."""
    names = [scanner.name for scanner in scanners]
    if not sources:
        return dict.fromkeys(names, names)
    rng, ways = np.random.default_rng(seed), {}
    for source in rng.choice(names, min(sources, len(names)), replace=False).tolist():
        others = [name for name in names if name != source]
        ways[source] = [*rng.choice(others, min(2, len(others)), replace=False).tolist(), source]
    return ways


def _slope(change: np.ndarray, difference: np.ndarray) -> float:
    """Regression through the origin of what changes with the reference on what should change, both (n,)."""
    return float(change @ difference / max(difference @ difference, 1e-9))
