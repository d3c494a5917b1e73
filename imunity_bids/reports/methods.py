"""The paragraph to paste into a paper."""

from __future__ import annotations

from importlib import metadata

from imunity_bids import version
from imunity_bids.plan.plan import Plan

_EXTRACTION = {
    "auto": "a 3D network trained on simulated heads (scans published without their skull were recognised and kept)",
    "network": "a 3D network trained on simulated heads",
    "ants": "deformable registration of a template with ANTs",
    "synthstrip": "SynthStrip (Hoopes et al. 2022)",
    "none": "the tool that was used before publication (the scans came without their skull)",
}


def citation(plan: Plan) -> str:
    """Methods text and references of a run, as Markdown."""
    settings = plan.settings
    references = ", ".join(f"{r.label} ({r.kind})" for r in plan.references)
    return f"""# Methods

T1-weighted images were harmonized with ImUnity-BIDS {version()}, an implementation of ImUnity
(Cackowski et al. 2023). Each image was reoriented to RAS; the brain was extracted with
{_EXTRACTION[settings.skull_strip]}; intensity
non-uniformity was corrected with N4 (Tustison et al. 2010) and the brain was registered to {settings.template} with
ANTs ({settings.registration}; antspyx {metadata.version("antspyx")}). Intensities were normalised by the white-matter
peak (white stripe; Shinohara et al. 2014), placed at 0.7. The models of the bundle {plan.card["name"]}
{plan.card["version"]}, a histogram network and one model per anatomical axis, gave each image the contrast of the
reference ({references}); the results of the three axes were fused by the voxelwise median. The uncertainty is
the absolute error that the networks of the bundle expect at each voxel, given the standard deviation of the three axes.

# References

- Cackowski S, Barbier EL, Dojat M, Christen T. ImUnity: a generalizable VAE-GAN solution for multicenter MR image
  harmonization. Medical Image Analysis 88, 2023. doi:10.1016/j.media.2023.102799
- Tustison NJ et al. N4ITK: improved N3 bias correction. IEEE Transactions on Medical Imaging 29(6), 2010.
  doi:10.1109/TMI.2010.2046908
- Shinohara RT et al. Statistical normalization techniques for magnetic resonance imaging. NeuroImage: Clinical 6, 2014.
  doi:10.1016/j.nicl.2014.08.008
- Hoopes A et al. SynthStrip: skull-stripping for any brain image. NeuroImage 260, 2022.
  doi:10.1016/j.neuroimage.2022.119474
- Tustison NJ et al. The ANTsX ecosystem for quantitative biological and medical imaging. Scientific Reports 11, 2021.
  doi:10.1038/s41598-021-87564-6
"""
