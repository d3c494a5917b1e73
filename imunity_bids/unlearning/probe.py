"""How much of a site is left in features: told by fresh classifiers on persons that they have not seen.

The adversary of a training cannot tell: it has lost on purpose. A frozen classifier cannot either: it was trained for
other features (an audit of harmonizers found 0.25 by a frozen one where a fresh one found 0.77).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SEEDS = 5
FEWEST = 4  # persons of a site: fewer say nothing
FOLDS = 5
RESAMPLINGS = 1000
LEAST = 1e-9  # standard deviation of a feature that says something


@dataclass(frozen=True)
class Probe:
    """Balanced accuracy of the stronger of the fresh classifiers."""

    accuracy: float  # mean over seeds; lower means that less is left
    low: float  # 95 % interval, persons resampled
    high: float
    chance: float  # 1 / sites
    shuffled: float  # the same with shuffled labels, the control: close to chance, or the probe itself is at fault
    seeds: tuple[float, ...]  # accuracy of each seed
    classifier: str
    sites: int
    samples: int
    persons: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def probe(features: np.ndarray, sites: np.ndarray, persons: np.ndarray, seeds: int = SEEDS) -> Probe:
    """Train classifiers anew and judge them on persons left out.

    A logistic regression and a network with one hidden layer, both to convergence; five folds, persons never on both
    sides; once per seed, which decides folds and starts. The stronger one counts, and the control is chosen alike.

    Parameters
    ----------
    features
        (n, F) of persons that the features were not trained on.
    sites
        Class of each row, (n,).
    persons
        Who each row is of, (n,).

    Raises
    ------
    ValueError
        Fewer than two sites, or a site with fewer than two persons.
    """
    from threadpoolctl import threadpool_limits

    classes, labels = np.unique(sites, return_inverse=True)
    _, who = np.unique(persons, return_inverse=True)
    fewest = min(len(np.unique(who[labels == c])) for c in range(len(classes)))
    if len(classes) < 2 or fewest < 2:
        raise ValueError("a probe needs two sites at least, with two persons in each")
    folds = min(FOLDS, fewest)
    with threadpool_limits(1):  # matrices so small that more threads only wait for each other
        right, name = _strongest(features, labels, who, folds, seeds, shuffle=False)
        control, _ = _strongest(features, labels, who, folds, seeds, shuffle=True)
    low, high = interval(right.mean(axis=0), labels, who)
    by_seed = [balanced(row, labels) for row in right]
    return Probe(
        accuracy=float(np.mean(by_seed)),
        low=low,
        high=high,
        chance=1 / len(classes),
        shuffled=float(np.mean([balanced(row, labels) for row in control])),
        seeds=tuple(by_seed),
        classifier=name,
        sites=len(classes),
        samples=len(labels),
        persons=int(who.max()) + 1,
    )


def probe_in_order(features: np.ndarray, sites: np.ndarray, persons: np.ndarray, seeds: int = SEEDS) -> Probe | None:
    """`probe` of the rows sorted by site and person, so that the same images give the same folds and the same figures
    in whatever order a command reads them, and whatever it puts before a person's label.

    Sites with fewer than `FEWEST` persons are left out; None where fewer than two sites are left.
    """
    names, which = np.unique(sites, return_inverse=True)
    enough = [len(np.unique(persons[sites == name])) >= FEWEST for name in names]
    if sum(enough) < 2:
        return None
    rows = np.array(enough)[which]
    features, sites, persons = features[rows], sites[rows], persons[rows]
    order = np.lexsort((persons, sites))
    _, first, which = np.unique(persons[order], return_index=True, return_inverse=True)
    numbers = np.argsort(np.argsort(first))[which]  # of each person, by where it comes first
    return probe(features[order], sites[order], numbers, seeds)


def _strongest(
    features: np.ndarray, labels: np.ndarray, who: np.ndarray, folds: int, seeds: int, shuffle: bool
) -> tuple[np.ndarray, str]:
    """Whether each row was told right, (seeds, n), and the name of the classifier that did best.

    With shuffled labels, right is what fits the shuffled ones, put back to the rows whose labels they were, so that
    the shares of the classes stay.
    """
    best: tuple[float, np.ndarray, str] | None = None
    for name, make in CLASSIFIERS.items():
        rows = []
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(labels)) if shuffle else np.arange(len(labels))
            right = _told(make, features[np.argsort(order)], labels, who[np.argsort(order)], folds, seed)
            rows.append(right)
        score = float(np.mean([balanced(row, labels) for row in rows]))
        if best is None or score > best[0]:
            best = (score, np.array(rows), name)
    return best[1], best[2]


def _told(
    make: Callable[[int], Any], features: np.ndarray, labels: np.ndarray, who: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold

    features = features[:, features.std(axis=0) > LEAST]
    if not features.shape[1]:
        return labels == 0  # nothing to see: always the same answer
    right = np.zeros(len(labels), bool)
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for known, judged in split.split(features, labels, who):
        right[judged] = guessed(make(seed), features[known], labels[known], features[judged]) == labels[judged]
    return right


def guessed(classifier: Any, known: np.ndarray, labels: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """What a fresh classifier says of features (m, F), after it has seen others (k, F) and their labels (k,)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(labels)) < 2:  # few persons, some at two sites: whoever knows one site says that one
        return np.full(len(judged), labels[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # far beyond what the folds can gain
        return make_pipeline(StandardScaler(), classifier).fit(known, labels).predict(judged)


def _logistic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.3, max_iter=2000, class_weight="balanced", random_state=seed)


def _network(seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((32,), solver="lbfgs", alpha=1.0, max_iter=1000, tol=1e-3, random_state=seed)


CLASSIFIERS: dict[str, Callable[[int], Any]] = {"logistic regression": _logistic, "network": _network}


def balanced(right: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the share that is right."""
    return float((np.bincount(labels, right) / np.bincount(labels)).mean())


def interval(right: np.ndarray, labels: np.ndarray, who: np.ndarray) -> tuple[float, float]:
    """2.5 and 97.5 % of the balanced accuracy when persons are drawn with replacement."""
    rng = np.random.default_rng(0)
    people, classes = who.max() + 1, labels.max() + 1
    hits, counts = np.zeros((people, classes)), np.zeros((people, classes))
    np.add.at(hits, (who, labels), right)
    np.add.at(counts, (who, labels), 1)
    drawn = rng.multinomial(people, np.full(people, 1 / people), size=RESAMPLINGS)
    shares = (drawn @ hits) / np.maximum(drawn @ counts, 1e-9)
    low, high = np.percentile(shares.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
