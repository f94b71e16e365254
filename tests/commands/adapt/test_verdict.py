"""Closing summary of `adapt`, from the monitor and the guards."""

from src.commands.adapt.verdict import verdict
from src.monitoring.feature_metrics import MetricPair
from src.monitoring.guards import Guards, Kept
from src.monitoring.monitor import Monitor


def test_numbers_stand_frozen_beside_adapted_and_only_those_that_were_measured() -> None:
    monitor = Monitor()
    monitor.signs = {
        "rank/patches": MetricPair(150.25, 201.5),
        "agreement": MetricPair(0.5, 0.25),
        "usage/local": MetricPair(9.0, 8.0),
    }
    monitor.step = 440
    first, head, *rows, last = verdict([monitor, Guards()])
    assert first.startswith("step 440") and head.split() == ["features", "frozen", "adapted"]
    assert [row.split()[-2:] for row in rows] == [["202", "150"], ["0.25", "0.5"]]
    assert "not whether adaptation helped" in last
    monitor.signs["knn"] = MetricPair(0.4512, 0.4)
    assert list(verdict([monitor]))[-1].split()[-2:] == ["0.4", "0.451"]


def test_a_guard_that_fired_is_told_first() -> None:
    guard = Guards()
    assert list(verdict([Monitor(), guard])) == []
    guard.warnings = ["step 30 of 440, spike: the loss is 31"]
    (line,) = verdict([guard])
    assert line == "a guard warned once at step 30 of 440, spike: the loss is 31"
    guard.warnings.insert(0, "step 20 of 440, spike: the loss is 30")
    (line,) = verdict([guard])
    assert line == "a guard warned 2 times, the last time at step 30 of 440, spike: the loss is 31"
    guard.stopped, guard.good = "stopped at step 40 of 440, collapse: rank/cls is 1.0", Kept(20, 0.3)
    (line,) = verdict([guard])
    assert (
        line.startswith("stopped at step 40 of 440, collapse")
        and "; saved adapter: step 20 (last good check). " in line
    )
    guard.good = Kept(0, None)
    (line,) = verdict([guard])
    assert "; no check was good: the saved adapter is untrained" in line
