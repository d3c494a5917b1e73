"""Whose turn it is with a participant."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from imunity_bids.run.turns import turn


def test_a_run_waits_for_the_one_that_is_at_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second begins when the first has ended, and knows that it has waited; others do not wait."""
    caplog.set_level(logging.INFO, "imunity_bids")
    order, begun = [], threading.Event()

    def second() -> None:
        begun.set()
        with turn(tmp_path, ["02", "01"]) as waited:
            order.append(("second", waited))

    with turn(tmp_path, ["01"]) as waited:
        assert not waited
        other = threading.Thread(target=second)
        other.start()
        begun.wait()
        with turn(tmp_path, ["03"]) as elsewhere:
            assert not elsewhere
        other.join(timeout=0.3)
        assert other.is_alive()
        order.append(("first", waited))
    other.join()
    assert order == [("first", False), ("second", True)]
    assert "another run is at work on sub-01" in caplog.text


def test_where_nothing_can_be_locked_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("imunity_bids.run.turns.FileLock.acquire", no_locks)
    with turn(tmp_path, ["01"]) as waited:
        assert not waited
