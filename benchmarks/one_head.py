"""Seconds and share of each step from raw to harmonized, in one process, and its peak memory.

python benchmarks/one_head.py sub-01_T1w.nii.gz [more images]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--model", default="imunity")
    parser.add_argument("--template", default="MNI152NLin2009aSym")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    import os

    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(options.threads)
    start = time.perf_counter()
    import ants  # noqa: F401
    import torch

    from imunity_bids.interfaces import preprocess as steps
    from imunity_bids.interfaces.harmonize import Harmonize
    from imunity_bids.models.card import find_bundle

    torch.set_num_threads(options.threads)
    print(f"{'imports':>10}: {time.perf_counter() - start:6.1f} s, once per process")
    bundle = str(find_bundle(options.model))
    for image in options.images:
        with tempfile.TemporaryDirectory() as scratch:
            seconds: dict[str, float] = {}

            def timed(name: str, interface, seconds=seconds, scratch=scratch) -> dict:
                interface.inputs.threads = options.threads
                begin = time.perf_counter()
                outputs = interface.work(Path(scratch))
                seconds[name] = time.perf_counter() - begin
                return outputs

            conformed = timed("conform", steps.Conform(in_file=str(image)))["out_file"]
            mask = timed("brain", steps.ExtractBrain(in_file=conformed))["out_file"]
            moved = timed("register", steps.Register(in_file=conformed, mask=mask, template=options.template))
            where = {name: moved[name] for name in ("forward", "backward", "overlap")} | {
                "template_mask": moved["mask"]
            }
            bias = timed("bias", steps.CorrectBias(in_file=conformed, mask=mask, template=options.template, **where))
            stripe = steps.WhiteStripe(in_file=bias["moved"], mask=moved["mask"], template=options.template)
            striped = timed("stripe", stripe)
            models = Harmonize(in_file=striped["out_file"], mask=moved["mask"], model=bundle, reference_label="default")
            timed("models", models)
            total = sum(seconds.values())
            print(f"{image.name}: {total:.1f} s")
            for name, value in seconds.items():
                print(f"{name:>10}: {value:6.1f} s {value / total:6.1%}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.2f} GB")


if __name__ == "__main__":
    main()
