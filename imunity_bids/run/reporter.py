"""Tables and reports of persons, as soon as their images are done: a run that is killed leaves those of what it did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from imunity_bids.bids.outputs import anat_folder
from imunity_bids.bids.scan import T1w
from imunity_bids.bids.tables import write_scans_table
from imunity_bids.plan.crash import Failure
from imunity_bids.plan.plan import Plan
from imunity_bids.qc.measures import COLUMNS


@dataclass
class Reporter:
    """Writes each person's report once; `unreported` are those whose report could not be written."""

    plan: Plan
    methods: str
    told: set[str] = field(default_factory=set)
    unreported: list[str] = field(default_factory=list)

    def report(self, images: Iterable[T1w], failures: Sequence[Failure]) -> None:
        """Of whom these images are, with all other images of theirs; nothing of theirs may be left to do."""
        from imunity_bids.reports.participant import write_reports

        persons = {image.person for image in images} - self.told
        theirs = [image for image in (*self.plan.images, *self.plan.done) if image.person in persons]
        for anat, person in sorted({(anat_folder(self.plan.settings.output_dir, one), one.person) for one in theirs}):
            write_scans_table(anat, person, COLUMNS)
        failed = {failure.image.stem: failure for failure in failures}
        self.unreported += write_reports(self.plan, theirs, failed, self.methods)
        self.told |= persons
