"""The judge: persons on simulated scanners, every direction, reference from ANOTHER person, beside the baselines."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats

from imunity_bids.errors import InputMissing
from imunity_bids.evaluation import baselines
from imunity_bids.evaluation.sites import intensity_and_texture, site_accuracy
from imunity_bids.harmonize.inference import Compute, harmonize, intensity_quantiles
from imunity_bids.harmonize.references import reference_scan
from imunity_bids.hashes import sha256
from imunity_bids.metrics import similarity
from imunity_bids.metrics.volumes import tissue_volumes
from imunity_bids.models.bundle import load_bundle
from imunity_bids.simulation.persons import person
from imunity_bids.simulation.scanners import SCANNERS, Scanner
from imunity_bids.simulation.visits import Visit, visit

log = logging.getLogger(__name__)

OURS = "imunity"
BOUND = "best curve (knows the truth)"
TRUTH = "the truth itself"  # what no method can beat: of scores that do not compare with the truth


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


def evaluate_travelers(
    brains: list[Path],
    model: Path,
    output: Path,
    seed: int = 1,
    jobs: int = 1,
    scanners: tuple[Scanner, ...] = SCANNERS,
) -> dict[str, object]:
    """All scores into `output`: travelers.tsv (a line per image and method), sites.tsv, travelers.json.

    The visits are kept in `output/visits` and used again by the next evaluation with the same seed.
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
        other = travels[travels.method == method]
        gain = ours.groupby("person").ssim.mean() - other.groupby("person").ssim.mean()
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
        made, _ = harmonize(source, mask, bundle, reference_scan(reference, bundle), Compute())
        images = {"raw": source, **_baselines(source, mask, [reference]), OURS: made}
        rows += [
            {"pair": number, "method": name, **_scores(image, target, source, mask)} for name, image in images.items()
        ]
    output.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(output / "pairs.tsv", sep="\t", index=False, float_format="%.6f")
    return table


def _make_visits(path: Path, name: str, folder: Path, seed: int, scanners: tuple[Scanner, ...]) -> Path:
    file = folder / f"{name}_seed-{seed}.npz"
    if file.exists():
        return file
    brain = nib.load(path)
    mask_path = path.with_name(path.name.replace("desc-preproc_T1w", "desc-brain_mask"))
    mask = np.asarray(nib.load(mask_path).dataobj) > 0
    box = tuple(slice(used.min(), used.max() + 1) for used in np.nonzero(mask))
    mask = mask[box]
    someone = person(name, brain.slicer[box], mask)
    arrays = {"mask": mask}
    for scanner in scanners:
        scan, truth = visit(someone, scanner, seed)
        arrays |= {f"{scanner.name}/scan": scan.astype(np.float16), f"{scanner.name}/truth": truth.astype(np.float16)}
    folder.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(".tmp.npz")
    np.savez(scratch, **arrays)
    scratch.replace(file)
    return file


def _load_visits(file: Path, scanners: tuple[Scanner, ...]) -> tuple[dict[str, Visit], np.ndarray]:
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
    volumes = {name: tissue_volumes(stay.scan, mask) for name, stay in visits.items()}
    true_volumes = {name: tissue_volumes(stay.truth, mask) for name, stay in visits.items()}
    bundle, rows, features = load_bundle(model), [], []
    for target in (scanner.name for scanner in scanners):
        theirs = [_load_scan(other, target) for other in others]
        contrast = reference_scan(theirs[0], bundle)
        for source, stay in visits.items():
            truth = stay.scan if source == target else visits[target].truth
            made, spread = harmonize(stay.scan, mask, bundle, contrast, Compute())
            images = {"raw": stay.scan, **_baselines(stay.scan, mask, theirs), OURS: made}
            images[BOUND] = baselines.best_curve(stay.scan, mask, truth)
            about = {"person": name, "source": source, "target": target}
            for method, image in images.items():
                rows.append({**about, "method": method, **_scores(image, truth, stay.scan, mask)})
                if method == OURS:
                    rows[-1] |= _volume_change(volumes[source], tissue_volumes(image, mask), true_volumes[target])
                    rows[-1]["uncertainty_rank"] = similarity.rank_correlation(
                        spread[mask][::50], np.abs(image - truth)[mask][::50]
                    )
            changed = similarity.gradient_correlation(stay.scan, truth, mask)
            rows.append({**about, "method": TRUTH, "gradient_correlation": changed})
            if target == scanners[0].name:
                features += [
                    {"person": name, "site": source, "method": method, **intensity_and_texture(image, mask)}
                    for method, image in {**images, TRUTH: truth}.items()
                ]
    return rows, features


def _baselines(source: np.ndarray, mask: np.ndarray, others: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The same reference for all but Nyúl, which learns from all other persons on the target scanner."""
    return {
        "histogram matching": baselines.histogram_matching(source, mask, others[0]),
        "Nyúl": baselines.nyul(source, mask, others),
        "tissue curve": baselines.tissue_curve(source, mask, others[0]),
    }


def _scores(image: np.ndarray, truth: np.ndarray, source: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    quantiles = [intensity_quantiles(volume, mask).numpy() for volume in (image, truth)]
    return {
        "ssim": similarity.ssim(image, truth, mask),
        "psnr": similarity.psnr(image, truth, mask),
        "mae": similarity.mae(image, truth, mask),
        "histogram_distance": similarity.histogram_distance(*quantiles),
        "gradient_correlation": similarity.gradient_correlation(source, image, mask),
    }


def _volume_change(before: dict[str, float], after: dict[str, float], truth: dict[str, float]) -> dict[str, float]:
    """Relative to the scan, to what the target scanner would show, and what the change of scanner alone makes."""
    changes = {}
    for tissue in ("gray", "white"):
        scanned, made, true = (max(volumes[tissue], 1.0) for volumes in (before, after, truth))
        changes |= {tissue: made / scanned - 1, f"{tissue}_to_truth": made / true - 1}
        changes[f"{tissue}_of_scanners"] = true / scanned - 1
    return changes
