"""The paragraph to paste into a paper."""

from __future__ import annotations

from imunity_bids import version

_PAPERS = {
    "Cackowski": "Cackowski S, Barbier EL, Dojat M, Christen T. ImUnity: a generalizable VAE-GAN solution for "
    "multicenter MR image harmonization. Medical Image Analysis 88, 2023. doi:10.1016/j.media.2023.102799",
    "N4": "Tustison NJ et al. N4ITK: improved N3 bias correction. IEEE Transactions on Medical Imaging 29(6), 2010. "
    "doi:10.1109/TMI.2010.2046908",
    "Dawant": "Dawant BM et al. Correction of intensity variations in MR images for computer-aided tissue "
    "classification. IEEE Transactions on Medical Imaging 12(4), 1993. doi:10.1109/42.251128",
    "Wells": "Wells WM et al. Adaptive segmentation of MRI data. IEEE Transactions on Medical Imaging 15(4), 1996. "
    "doi:10.1109/42.511747",
    "white stripe": "Shinohara RT et al. Statistical normalization techniques for magnetic resonance imaging. "
    "NeuroImage: Clinical 6, 2014. doi:10.1016/j.nicl.2014.08.008",
    "SynthStrip": "Hoopes A et al. SynthStrip: skull-stripping for any brain image. NeuroImage 260, 2022. "
    "doi:10.1016/j.neuroimage.2022.119474",
    "Manjon": "Manjon JV et al. Adaptive non-local means denoising of MR images with spatially varying noise levels. "
    "Journal of Magnetic Resonance Imaging 31(1), 2010. doi:10.1002/jmri.22003",
    "Buades": "Buades A, Coll B, Morel JM. A non-local algorithm for image denoising. CVPR 2005. "
    "doi:10.1109/CVPR.2005.38",
    "ANTs": "Tustison NJ et al. The ANTsX ecosystem for quantitative biological and medical imaging. Scientific "
    "Reports 11, 2021. doi:10.1038/s41598-021-87564-6",
}


def citation(methods: str) -> str:
    """Methods text and the papers that it names, as Markdown.

    Parameters
    ----------
    methods
        What the run did: the sentences of the workflows' steps.
    """
    text = (
        f"T1-weighted images were harmonized with ImUnity-BIDS {version()}, an implementation of ImUnity (Cackowski et "
        f"al. 2023). {methods}"
    )
    papers = "".join(f"- {paper}\n" for name, paper in _PAPERS.items() if name in text)
    return f"# Methods\n\n{text}\n\n# References\n\n{papers}"
