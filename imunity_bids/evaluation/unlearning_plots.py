"""Pictures of features: do the sites lie apart?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

PERPLEXITY = 20


def plot_features(folder: Path, name: str, features: np.ndarray, sites: np.ndarray) -> Path:
    """tsne_NAME.png: t-SNE of features (n, F), a colour per site (Fig. 6)."""
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    places = TSNE(perplexity=perplexity, random_state=0).fit_transform(StandardScaler().fit_transform(features))
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.subplots()
    for site in np.unique(sites):
        axes.scatter(*places[sites == site].T, s=10, label=site)
    axes.set(xticks=[], yticks=[], title=name.replace("_", ": "))
    axes.legend(fontsize=7)
    path = folder / f"tsne_{name.replace(' ', '-')}.png"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    return path
