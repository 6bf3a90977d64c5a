from console.web.feed.capacity import CapacityWatch

NOW = 1_700_000_000.0


def test_rates_come_from_the_counters():
    watch = CapacityWatch()
    for i in range(11):
        watch.note({"counted": 20 * i, "skipped:superseded": 5 * i, "skipped:stale": i}, NOW + i)
    capacity = watch.capacity(30.0, NOW + 10)
    assert (capacity.counted, capacity.given_up, capacity.peak) == (20.0, 6.0, 20.0)
    assert capacity.full
    assert capacity.most == 20.0


def test_workers_that_keep_up_are_not_full_and_the_peak_lasts_for_an_hour():
    watch = CapacityWatch()
    counted = 0
    for i in range(20):
        watch.note({"counted": (counted := counted + 20)}, NOW + i)
    for i in range(20, 60):
        watch.note({"counted": (counted := counted + 2)}, NOW + i)
    capacity = watch.capacity(2.0, NOW + 60)
    assert capacity.shown()["most"] is None
    assert (capacity.counted, capacity.peak, capacity.full, capacity.most) == (2.0, 20.0, False, None)
    watch.note({"counted": counted + 2}, NOW + 4000)
    watch.note({"counted": counted + 22}, NOW + 4010)
    assert watch.capacity(2.0, NOW + 4010).peak < 20.0


def test_counters_that_were_set_back_begin_anew():
    watch = CapacityWatch()
    watch.note({"counted": 1000}, NOW)
    watch.note({"counted": 5}, NOW + 1)
    assert watch.capacity(0.0, NOW).counted == 0.0
