from lhrs.dropped import Dropped


def test_counts_by_reason_with_examples():
    dropped = Dropped()
    for name in ("w1", "w2", "w3", "w4"):
        dropped.add("ways without nodes", name)
    dropped.add("deleted objects", "n5")
    assert len(dropped) == 5
    assert dropped.summary() == "left out 5: 4 ways without nodes (w1, w2, w3, ...), 1 deleted objects (n5)"
    assert dropped.to_dict() == {"ways without nodes": 4, "deleted objects": 1}


def test_nothing_dropped_says_nothing():
    assert Dropped().summary() == ""
    assert not len(Dropped())


def test_update_joins_counts_and_examples():
    first, second = Dropped(), Dropped()
    first.add("broken images", "a.png")
    second.add("broken images", "b.png")
    second.add("empty boxes", count=7)
    first.update(second)
    assert first.to_dict() == {"empty boxes": 7, "broken images": 2}
    assert first.examples["broken images"] == ["a.png", "b.png"]
