"""When a worker is taken to hang: told in beats, without a clock."""

from __future__ import annotations

from gateway.workers.pulse import SILENT_BEATS, Pulse


def _beats(pulse: Pulse, count: int) -> list[str]:
    """The reasons that were given in so many beats."""
    return [reason for reason in (pulse.beat() for _ in range(count)) if reason]


def test_who_serves_and_says_nothing_hangs() -> None:
    pulse = Pulse()
    pulse.serve()
    assert _beats(pulse, SILENT_BEATS) == []
    assert pulse.beat() == "it has said nothing for 20 s"


def test_a_word_now_and_then_is_enough() -> None:
    pulse = Pulse()
    pulse.serve()
    for _ in range(10):
        assert _beats(pulse, SILENT_BEATS) == []
        pulse.hear()


def test_who_starts_is_not_judged_however_long_it_takes() -> None:
    pulse = Pulse()
    assert _beats(pulse, 100 * SILENT_BEATS) == []
    pulse.serve()
    assert _beats(pulse, SILENT_BEATS) == []


def test_who_drains_is_judged_by_its_own_time_alone() -> None:
    pulse = Pulse()
    pulse.serve()
    _beats(pulse, SILENT_BEATS)
    pulse.drain(99.5)
    assert _beats(pulse, 100) == []
    pulse.hear()  # and a word does not prolong it
    assert pulse.beat() == "it has not ended 99.5 s after it began to drain"
