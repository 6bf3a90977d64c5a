"""How requests are joined."""

import threading
from contextlib import closing

import numpy as np
import pytest
from support.waiting import wait_until

from worker.hands.device.batches import IN_FLIGHT, Batches


class Device:
    """A device whose batches take until they are let go."""

    def __init__(self):
        self.launched, self.gate, self.most = [], threading.Semaphore(0), 0

    def launch(self, kind, rows):
        """Starts a batch; a row of -1 fails at once, and one of -2 fails later."""
        self.launched.append((kind, len(rows)))
        if (rows == -1).any():
            raise ValueError("refused")
        self.most = max(self.most, len(self.launched) - self.gate_passed)
        return self._batch(rows)

    gate_passed = 0

    def _batch(self, rows):
        device = self

        class Flying:
            def wait(self):
                device.gate.acquire()
                device.gate_passed += 1
                if (rows == -2).any():
                    raise ValueError("failed")
                return (rows * 10).astype(np.float32)

        return Flying()


class Callers:
    """Asks, and keeps the answers."""

    def __init__(self, batches):
        self._batches, self.answers, self._asked = batches, {}, 0

    def ask(self, name, kind, *values):
        """Asks once."""

        def take(outputs):
            self.answers[name] = str(outputs) if isinstance(outputs, Exception) else outputs[:, 0].tolist()

        self._asked += 1
        self._batches.ask(kind, np.array(values, float)[:, None], take)

    def occupy(self, device):
        """Lets the device have as many batches as are in flight at most."""
        for number in range(IN_FLIGHT):
            self.ask(f"first {number}", "palm", 1)
            wait_until(lambda launched=number + 1: len(device.launched) == launched)

    def wait(self):
        """Waits for all answers."""
        wait_until(lambda: len(self.answers) == self._asked)


def test_what_waits_is_joined():
    """Two batches are in flight; what comes meanwhile is one batch of each kind, and everybody gets their own rows."""
    device = Device()
    with closing(Batches(device.launch, 10)) as batches:
        callers = Callers(batches)
        callers.occupy(device)
        callers.ask("c", "palm", 3, 4)
        callers.ask("d", "pose", 5)
        callers.ask("e", "palm", 6)
        device.gate.release(9)
        callers.wait()
    assert device.launched == [("palm", 1), ("palm", 1), ("palm", 3), ("pose", 1)]
    assert device.most <= IN_FLIGHT
    assert callers.answers == {"first 0": [10], "first 1": [10], "c": [30, 40], "d": [50], "e": [60]}
    assert (batches.batches, batches.rows) == (4, 6)


def test_a_batch_has_a_largest_size():
    """Requests aren't divided: the next one waits if it doesn't fit, and one that never fits is a batch of its own."""
    device = Device()
    with closing(Batches(device.launch, 3)) as batches:
        callers = Callers(batches)
        callers.occupy(device)
        callers.ask("c", "palm", 1, 2)
        callers.ask("d", "palm", 3, 4)
        callers.ask("e", "palm", 1, 2, 3, 4, 5)
        device.gate.release(9)
        callers.wait()
    assert [rows for _, rows in device.launched] == [1, 1, 2, 2, 5]


@pytest.mark.parametrize(("value", "error"), [(-1, "refused"), (-2, "failed")])
def test_a_batch_that_fails(value, error):
    """Its callers get the error, which is reported first; the next batch is computed."""
    device, reported = Device(), []
    device.gate.release(9)
    with closing(Batches(device.launch, 10, reported.append)) as batches:
        callers = Callers(batches)
        callers.ask("a", "palm", value)
        callers.wait()
        callers.ask("b", "palm", 1)
        callers.wait()
    assert callers.answers == {"a": error, "b": [10]}
    assert [str(each) for each in reported] == [error]


def test_a_closed_one_computes_what_waits():
    """And nothing more."""
    device = Device()
    batches = Batches(device.launch, 10)
    callers = Callers(batches)
    callers.occupy(device)
    callers.ask("c", "palm", 1)
    closer = threading.Thread(target=batches.close, daemon=True)
    closer.start()
    device.gate.release(9)
    closer.join(30)
    assert callers.answers["c"] == [10]
    with pytest.raises(RuntimeError, match="closed"):
        callers.ask("d", "palm", 1)


def test_the_device_works_while_answers_are_dealt_with():
    """Who asks again from within an answer is in a later batch; what waited before is launched meanwhile."""
    device, launched, inside, go_on = Device(), [], threading.Event(), threading.Event()
    device.gate.release(9)
    with closing(Batches(device.launch, 10)) as batches:

        def take(_outputs):
            batches.ask("pose", np.ones((2, 1)), launched.append)
            inside.set()
            assert go_on.wait(60)

        batches.ask("palm", np.ones((1, 1)), take)
        assert inside.wait(60)
        wait_until(lambda: device.launched == [("palm", 1), ("pose", 2)])
        assert launched == []  # its answer comes after this one
        go_on.set()
        wait_until(lambda: len(launched) == 1)
