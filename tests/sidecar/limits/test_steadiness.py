"""How long a connection must last before it counts as a recovery."""

from sidecar.limits.steadiness import LONGEST_HOLD_S, MEMORY_S, Steadiness


def test_a_few_losses_cost_nothing() -> None:
    """A restart and a failover are over at once."""
    steadiness = Steadiness()
    assert steadiness.hold_s(0.0) == 0.0
    steadiness.record_loss(1.0)
    steadiness.record_loss(2.0)
    steadiness.record_loss(3.0)
    assert steadiness.hold_s(3.0) == 0.0


def test_each_further_loss_doubles_the_time() -> None:
    """Up to a limit, so that a server that has recovered is back within a known time."""
    steadiness = Steadiness()
    holds = []
    for number in range(10):
        steadiness.record_loss(float(number))
        holds.append(steadiness.hold_s(float(number)))
    assert holds == [0.0, 0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]
    assert holds[-1] == LONGEST_HOLD_S


def test_old_losses_are_forgotten() -> None:
    """Only those within MEMORY_S count."""
    steadiness = Steadiness()
    for at in (0.0, 1.0, 2.0, 3.0, 10.0):
        steadiness.record_loss(at)
    assert steadiness.hold_s(MEMORY_S - 0.5) == 2.0
    assert steadiness.hold_s(MEMORY_S) == 1.0
    assert steadiness.hold_s(MEMORY_S + 10.0) == 0.0
