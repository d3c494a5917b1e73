"""Evaluation with traveling subjects: persons on simulated scanners, every direction, beside the baselines.

The reference is always a scan of ANOTHER person on the target scanner: one's own would give the anatomy away.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import ndimage, stats

from imunity_bids.errors import InputMissing, Usage
from imunity_bids.evaluation import baselines
from imunity_bids.evaluation.sites import intensity_and_texture, site_accuracy
from imunity_bids.harmonize.inference import Compute, harmonize, intensity_quantiles
from imunity_bids.harmonize.references import reference_scan
from imunity_bids.hashes import sha256
from imunity_bids.image.template import white_core_of
from imunity_bids.metrics import similarity
from imunity_bids.metrics.volumes import tissue_volumes
from imunity_bids.models.bundle import load_bundle
from imunity_bids.simulation.persons import take_apart
from imunity_bids.simulation.scanners import SCANNERS, Scanner
from imunity_bids.simulation.visits import Visit, visit

log = logging.getLogger(__name__)

OURS = "imunity"
BOUND = "best curve (knows the truth)"
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
    """Simulated scanners by name, in the order of `SCANNERS`; all of them where there is no name.

    Raises
    ------
    Usage
        A name is not known, or there is one scanner only.
    """
    known = {scanner.name: scanner for scanner in SCANNERS}
    if unknown := sorted(set(names) - set(known)):
        raise Usage(f"--scanners {' '.join(unknown)}: no such scanner; there are: {', '.join(known)}")
    if len(set(names)) == 1:
        raise Usage(f"--scanners {names[0]}: nobody can travel with one scanner; name two at least")
    return tuple(scanner for scanner in SCANNERS if not names or scanner.name in names)


def evaluate_travelers(
    brains: list[Path],
    model: Path,
    output: Path,
    seed: int = 1,
    jobs: int = 1,
    scanners: tuple[Scanner, ...] = SCANNERS,
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
    """
    output.mkdir(parents=True, exist_ok=True)
    parallel = Parallel(n_jobs=jobs, verbose=5)
    names = [f"{path.name.split('_')[0]}-{sha256(path)[:8]}" for path in brains]
    files = parallel(
        delayed(_make_visits)(path, name, output / "visits", seed, scanners)
        for path, name in zip(brains, names, strict=True)
    )
    done = parallel(
        delayed(_score_person)(file, files[:index] + files[index + 1 :], names[index], model, scanners)
        for index, file in enumerate(files)
    )
    table = pd.DataFrame([row for rows, _ in done for row in rows])
    features = pd.DataFrame([row for _, rows in done for row in rows])
    table.to_csv(output / "travelers.tsv", sep="\t", index=False, float_format="%.6f")
    features.to_csv(output / "sites.tsv", sep="\t", index=False, float_format="%.6g")
    summary = summarise(table) | {
        "site_accuracy": {method: site_accuracy(part) for method, part in features.groupby("method")},
        "site_chance": 1 / len(scanners),
        "model": str(model),
        "seed": seed,
        "persons": [str(path.name) for path in brains],
        "scanners": [scanner.name for scanner in scanners],
    }
    (output / "travelers.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return summary


def summarise(table: pd.DataFrame) -> dict[str, object]:
    """Means over every direction and person; margins of our method with a 95 % interval over persons (Student's t)."""
    between = table[table.source != table.target]
    travels, perfect = between[between.method != TRUTH], between[between.method == TRUTH]
    identity = table[(table.source == table.target) & (table.method == OURS)]
    ours = travels[travels.method == OURS]
    by_direction = travels.groupby(["source", "target", "method"]).ssim.mean().unstack()
    change = by_direction[OURS] - by_direction["raw"]
    margins = {}
    for method in travels.method.unique():
        if method == OURS:
            continue
        theirs = travels[travels.method == method]
        gain = ours.groupby("person").ssim.mean() - theirs.groupby("person").ssim.mean()
        half = stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain)
        margins[method] = {"mean": gain.mean(), "low": gain.mean() - half, "high": gain.mean() + half}
    scores = ["ssim", "psnr", "mae", "histogram_distance", "gradient_correlation"]
    return {
        "travels": travels.groupby("method")[scores].mean().to_dict("index"),
        "truth": {"gradient_correlation": perfect.gradient_correlation.mean()},
        "ssim_gain": margins,
        "worst_direction": {"direction": " → ".join(change.idxmin()), "gain_over_raw": change.min()},
        "identity": identity[["ssim", "mae", "gradient_correlation"]].mean().to_dict(),
        "volume_change": {
            name: {"mean": ours[name].abs().mean(), "worst": ours[name].abs().max()}
            for name in (tissue + of for tissue in ("gray", "white") for of in ("", "_to_truth", "_of_scanners"))
        },
        "uncertainty_rank_correlation": ours.uncertainty_rank.mean(),
    }


def evaluate_pairs(pairs: Path, model: Path, output: Path) -> pd.DataFrame:
    """Scores on real travelers: a TSV of white-striped brains on one grid, columns source, target, reference.

    `target` is the same person as `source` on the other scanner, `reference` another person there.
    """
    bundle, rows = load_bundle(model), []
    for number, row in enumerate(pd.read_csv(pairs, sep="\t").itertuples(), start=1):
        source, target, reference = (
            np.asarray(nib.load(path).dataobj, np.float32) for path in (row.source, row.target, row.reference)
        )
        mask = (source > 0) & (target > 0)
        harmonized, _ = harmonize(source, mask, bundle, reference_scan(reference, bundle), Compute())
        images = {"raw": source, **_baselines(source, mask, [reference]), OURS: harmonized}
        rows += [
            {"pair": number, "method": name, **_scores(image, target, source, mask)} for name, image in images.items()
        ]
    output.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(output / "pairs.tsv", sep="\t", index=False, float_format="%.6f")
    return table


def _make_visits(path: Path, name: str, folder: Path, seed: int, scanners: tuple[Scanner, ...]) -> Path:
    """Scans and truths of a person on all scanners, cropped to the brain; a file that has them all is left as it is."""
    file = folder / f"{name}_seed-{seed}.npz"
    if file.exists() and _holds_all(file, scanners):
        return file
    brain = nib.load(path)
    mask_path = path.with_name(path.name.replace("desc-preproc_T1w", "desc-brain_mask"))
    mask = np.asarray(nib.load(mask_path).dataobj) > 0
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    mask = mask[box]
    cut = brain.slicer[box]
    person = take_apart(name, cut, mask, white_core_of(path.name, cut))
    arrays = {"mask": mask}
    for scanner in scanners:
        scan, truth = visit(person, scanner, seed)
        arrays |= {f"{scanner.name}/scan": scan.astype(np.float16), f"{scanner.name}/truth": truth.astype(np.float16)}
    folder.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(".tmp.npz")
    np.savez(scratch, **arrays)
    scratch.replace(file)
    return file


def _holds_all(file: Path, scanners: tuple[Scanner, ...]) -> bool:
    with np.load(file) as stored:
        return all(f"{scanner.name}/truth" in stored for scanner in scanners)


def _load_visits(file: Path, scanners: tuple[Scanner, ...]) -> tuple[dict[str, Visit], np.ndarray]:
    """Visits by scanner, and the mask."""
    with np.load(file) as stored:
        visits = {
            scanner.name: Visit(*(stored[f"{scanner.name}/{kind}"].astype(np.float32) for kind in ("scan", "truth")))
            for scanner in scanners
        }
        return visits, stored["mask"]


def _load_scan(file: Path, scanner: str) -> np.ndarray:
    with np.load(file) as stored:
        return stored[f"{scanner}/scan"].astype(np.float32)


def _score_person(
    file: Path, others: list[Path], name: str, model: Path, scanners: tuple[Scanner, ...]
) -> tuple[list[dict], list[dict]]:
    """Rows of scores for every direction, and of features for what was sent to the first scanner's contrast."""
    import torch

    torch.set_num_threads(1)
    visits, mask = _load_visits(file, scanners)
    volumes = {scanner: tissue_volumes(scan, mask) for scanner, (scan, _) in visits.items()}
    true_volumes = {scanner: tissue_volumes(truth, mask) for scanner, (_, truth) in visits.items()}
    bundle, rows, features = load_bundle(model), [], []
    for target in visits:
        references = [_load_scan(other, target) for other in others]
        reference = reference_scan(references[0], bundle)
        for source, (scan, _) in visits.items():
            truth = scan if source == target else visits[target].truth
            harmonized, uncertainty = harmonize(scan, mask, bundle, reference, Compute())
            images = {"raw": scan, **_baselines(scan, mask, references), OURS: harmonized}
            images[BOUND] = baselines.best_curve(scan, mask, truth)
            about = {"person": name, "source": source, "target": target}
            for method, image in images.items():
                rows.append({**about, "method": method, **_scores(image, truth, scan, mask)})
                if method == OURS:
                    rows[-1] |= _volume_change(volumes[source], tissue_volumes(image, mask), true_volumes[target])
                    rows[-1]["uncertainty_rank"] = similarity.rank_correlation(
                        uncertainty[mask][::EVERY], np.abs(image - truth)[mask][::EVERY]
                    )
            changed = similarity.gradient_correlation(scan, truth, mask)
            rows.append({**about, "method": TRUTH, "gradient_correlation": changed})
            if target == scanners[0].name:
                features += [
                    {"person": name, "site": source, "method": method, **intensity_and_texture(image, mask)}
                    for method, image in {**images, TRUTH: truth}.items()
                ]
    return rows, features


def _baselines(scan: np.ndarray, mask: np.ndarray, references: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The same, first reference for all but Nyúl, which learns from all of them."""
    return {
        "histogram matching": baselines.histogram_matching(scan, mask, references[0]),
        "Nyúl": baselines.nyul(scan, mask, references),
        "tissue curve": baselines.tissue_curve(scan, mask, references[0]),
    }


def _scores(image: np.ndarray, truth: np.ndarray, scan: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Of an image against the truth; the gradients alone are compared with those of the scan."""
    quantiles = [intensity_quantiles(volume, mask).numpy() for volume in (image, truth)]
    return {
        "ssim": similarity.ssim(image, truth, mask),
        "psnr": similarity.psnr(image, truth, mask),
        "mae": similarity.mae(image, truth, mask),
        "histogram_distance": similarity.histogram_distance(*quantiles),
        "gradient_correlation": similarity.gradient_correlation(scan, image, mask),
    }


def _volume_change(before: dict[str, float], after: dict[str, float], truth: dict[str, float]) -> dict[str, float]:
    """Relative to the scan, to what the target scanner would show, and what the change of scanner alone makes."""
    changes = {}
    for tissue in ("gray", "white"):
        scanned, harmonized, true = (max(volumes[tissue], 1.0) for volumes in (before, after, truth))
        changes |= {tissue: harmonized / scanned - 1, f"{tissue}_to_truth": harmonized / true - 1}
        changes[f"{tissue}_of_scanners"] = true / scanned - 1
    return changes
