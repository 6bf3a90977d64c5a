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
    """Threads that each ask once."""

    def __init__(self, batches):
        self._batches, self.answers, self.threads = batches, {}, []

    def ask(self, name, kind, *values):
        """Asks in a thread."""

        def work():
            try:
                self.answers[name] = self._batches.run(kind, np.array(values, float)[:, None])[:, 0].tolist()
            except Exception as error:
                self.answers[name] = str(error)

        self.threads.append(threading.Thread(target=work, daemon=True))
        self.threads[-1].start()

    def occupy(self, device):
        """Lets the device have as many batches as are in flight at most."""
        for number in range(IN_FLIGHT):
            self.ask(f"first {number}", "palm", 1)
            wait_until(lambda launched=number + 1: len(device.launched) == launched)

    def ask_in_turn(self, name, kind, *values):
        """Asks, and waits until the request waits behind those before it."""
        waiting = self._batches._order
        behind = len(waiting) + 1
        self.ask(name, kind, *values)
        wait_until(lambda: len(waiting) == behind)

    def join(self):
        """Waits for all answers."""
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()


def test_what_waits_is_joined():
    """Two batches are in flight; what comes meanwhile is one batch of each kind, and everybody gets their own rows."""
    device = Device()
    with closing(Batches(device.launch, 10)) as batches:
        callers = Callers(batches)
        callers.occupy(device)
        callers.ask_in_turn("c", "palm", 3, 4)
        callers.ask_in_turn("d", "pose", 5)
        callers.ask_in_turn("e", "palm", 6)
        device.gate.release(9)
        callers.join()
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
        callers.ask_in_turn("c", "palm", 1, 2)
        callers.ask_in_turn("d", "palm", 3, 4)
        callers.ask_in_turn("e", "palm", 1, 2, 3, 4, 5)
        device.gate.release(9)
        callers.join()
    assert [rows for _, rows in device.launched] == [1, 1, 2, 2, 5]


@pytest.mark.parametrize(("value", "error"), [(-1, "refused"), (-2, "failed")])
def test_a_batch_that_fails(value, error):
    """Its callers get the error, which is reported first; the next batch is computed."""
    device, reported = Device(), []
    device.gate.release(9)
    with closing(Batches(device.launch, 10, reported.append)) as batches:
        callers = Callers(batches)
        callers.ask("a", "palm", value)
        callers.join()
        callers.ask("b", "palm", 1)
        callers.join()
    assert callers.answers == {"a": error, "b": [10]}
    assert [str(each) for each in reported] == [error]


def test_a_closed_one_computes_what_waits():
    """And nothing more."""
    device = Device()
    batches = Batches(device.launch, 10)
    callers = Callers(batches)
    callers.occupy(device)
    callers.ask_in_turn("c", "palm", 1)
    closer = threading.Thread(target=batches.close, daemon=True)
    closer.start()
    device.gate.release(9)
    closer.join(30)
    callers.join()
    assert callers.answers["c"] == [10]
    with pytest.raises(RuntimeError, match="closed"):
        batches.run("palm", np.zeros((1, 1)))
