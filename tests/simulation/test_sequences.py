"""Signal equations against closed forms and against a simulation pulse by pulse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imunity_bids.simulation.sequences import decayed, inversion_delay, mprage, recovery_time, spgr

T = torch.tensor


def test_spgr_at_the_ernst_angle_is_largest() -> None:
    t1, tr = T(1000.0), T(20.0)
    angles = torch.linspace(1, 90, 891)
    ernst = torch.rad2deg(torch.arccos(torch.exp(-tr / t1)))
    assert angles[spgr(t1, tr, angles).argmax()] == pytest.approx(float(ernst), abs=0.1)


def test_mprage_is_its_simulation_pulse_by_pulse() -> None:
    t1, delay, readouts, spacing, recovery, flip = 900.0, 300.0, 100, 7.0, 500.0, 9.0
    angle = np.deg2rad(flip)
    m = 1.0
    for _ in range(30):  # repetitions until the steady state
        m = 1 - (1 + m) * np.exp(-delay / t1)  # inversion, then recovery
        for pulse in range(readouts):
            if pulse == readouts // 2:
                signal = abs(m) * np.sin(angle)
            m = 1 - (1 - m * np.cos(angle)) * np.exp(-spacing / t1)
        m = 1 - (1 - m) * np.exp(-recovery / t1)
    closed = mprage(T(t1), T(delay), T(float(readouts)), T(spacing), T(recovery), T(flip))
    assert float(closed) == pytest.approx(signal, rel=1e-4)


def test_spgr_of_a_full_recovery_is_the_sine_of_the_angle() -> None:
    angles = T([5.0, 30.0, 90.0])
    torch.testing.assert_close(spgr(T(800.0), T(1e6), angles), torch.sin(torch.deg2rad(angles)))


def test_mprage_without_readouts_before_the_middle_is_inversion_recovery() -> None:
    """One readout, all recovered before the inversion: |1 - 2 exp(-TI / T1)|, times the sine of the angle."""
    t1, delay = T(900.0), T([200.0, 623.8, 2000.0])  # before, at and after the null point T1 · log 2
    signal = mprage(t1, delay, T(0.0), T(7.0), T(1e6), T(9.0))
    expected = (1 - 2 * torch.exp(-delay / t1)).abs() * torch.sin(torch.deg2rad(T(9.0)))
    torch.testing.assert_close(signal, expected, atol=1e-5, rtol=1e-4)


def test_decay_halves_the_signal_after_t2_star_log_2() -> None:
    assert decayed(T(2.0), T(0.8), T(50 * np.log(2)), T(50.0)).item() == pytest.approx(0.8)


def test_ti_and_tr_are_those_of_a_protocol_card() -> None:
    delay = inversion_delay(900, 176, 7.1)
    assert delay + 176 / 2 * 7.1 == pytest.approx(900)
    assert delay + 176 * 7.1 + recovery_time(2300, delay, 176, 7.1) == pytest.approx(2300)


def test_protocols_that_no_scanner_can_play_are_refused() -> None:
    with pytest.raises(ValueError, match="TI 500 ms is shorter than half of 176 readouts"):
        inversion_delay(500, 176, 7.1)
    with pytest.raises(ValueError, match="TR 1000 ms is shorter"):
        recovery_time(1000, 275, 176, 7.1)
