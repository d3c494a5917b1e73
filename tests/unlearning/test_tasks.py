from __future__ import annotations

import math

import pytest
import torch

from imunity_bids.errors import Usage
from imunity_bids.unlearning.tasks import Task, column_task, dice


def test_regression_is_standardised_and_answers_in_its_unit() -> None:
    task, target, known = column_task("age", "regression", ["20", None, "40"])
    assert known.tolist() == [True, False, True]
    assert target[known].mean().item() == pytest.approx(0)
    assert task.answers(target[:, None]) == pytest.approx([20, 30, 40])
    output = torch.tensor([[(25 - task.mean) / task.std]])
    assert task.error(output, target[:1]) == pytest.approx(5)
    assert task.loss(output, target[:1]).item() == pytest.approx((5 / task.std) ** 2)


def test_classification_by_hand() -> None:
    task, target, _ = column_task("sex", "classification", ["F", "M", "F", None])
    assert (task.classes, task.outputs, target[:3].tolist()) == (("F", "M"), 2, [0, 1, 0])
    logits = torch.tensor([[math.log(3), 0.0]])
    assert task.loss(logits, torch.tensor([0])).item() == pytest.approx(-math.log(3 / 4))
    assert task.answers(logits) == ["F"]
    says = torch.tensor([[1.0, 0], [1.0, 0], [0, 1.0], [1.0, 0]])
    assert task.error(says, torch.tensor([0, 0, 0, 1])) == pytest.approx(1 - (2 / 3 + 0) / 2)


def test_dice_by_hand() -> None:
    found, target = torch.tensor([[1, 1, 0, 2]]), torch.tensor([[1, 0, 0, 2]])
    assert dice(found, target, 4) == pytest.approx([2 / 3, 1, 1])
    task = Task("dseg", "segmentation", ("background", "csf", "gray"))
    logits = 50 * torch.nn.functional.one_hot(target.repeat(2, 1)[None], 3).movedim(-1, 1).float()
    assert task.error(logits, target.repeat(2, 1)[None]) == pytest.approx(0)
    assert task.loss(logits, target.repeat(2, 1)[None]).item() == pytest.approx(0, abs=1e-6)
    wrong = task.loss(logits, torch.zeros(1, 2, 4, dtype=torch.long)).item()
    assert wrong == pytest.approx(1 - 1 / 3)  # two voxels of each tissue where there is none: (0 + 1) / (2 + 1)


def test_a_task_goes_through_its_card() -> None:
    task, *_ = column_task("sex", "classification", ["F", "M"])
    stored = task.to_dict()
    assert Task(**{**stored, "classes": tuple(stored["classes"])}) == task


@pytest.mark.parametrize(
    ("kind", "values", "says"), [("regression", ["old", "new"], "no number"), ("classification", ["F", None], "1 diff")]
)
def test_columns_that_are_no_task(kind: str, values: list, says: str) -> None:
    with pytest.raises(Usage, match=says):
        column_task("x", kind, values)
