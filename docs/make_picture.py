"""Write docs/before_after.png from the results of `make demo`:  python docs/make_picture.py demo/derivatives"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure


def main(derivatives: Path) -> None:
    """One axial slice of the traveling head: scanners A and B, before and after, and their differences."""
    rows = {}
    for label, desc in (("before", "preproc"), ("after", "harmonized")):
        pair = []
        for session in "AB":
            anat = derivatives / "sub-02" / f"ses-{session}" / "anat"
            path = next(anat.glob(f"*_space-*_res-1_desc-{desc}_T1w.nii.gz"))
            volume = np.asarray(nib.load(path).dataobj)
            pair.append(volume[20:-20, 20:-20, volume.shape[2] // 2].T[::-1])
        rows[label] = [*pair, pair[1] - pair[0]]
    figure = Figure(figsize=(9, 7), facecolor="black")
    axes = figure.subplots(2, 3, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    titles = ("scanner A", "scanner B", "difference (±0.3)")
    for row, (label, pictures) in zip(axes, rows.items(), strict=True):
        for panel, picture, title in zip(row, pictures, titles, strict=True):
            signed = title.startswith("diff")
            look = {"cmap": "RdBu_r", "vmin": -0.3, "vmax": 0.3} if signed else {"cmap": "gray", "vmin": 0, "vmax": 1}
            panel.imshow(picture, **look)
            panel.set_xticks([])
            panel.set_yticks([])
            if label == "before":
                panel.set_title(title, color="white")
        row[0].set_ylabel(label, color="white")
    figure.savefig(Path(__file__).with_name("before_after.png"), dpi=90, bbox_inches="tight")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
