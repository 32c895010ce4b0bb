import os

from services.runtime.cores import count_cores


def test_cores_are_those_of_the_container_and_never_none(tmp_path):
    allowed = len(os.sched_getaffinity(0))
    quota = tmp_path / "cpu.max"
    assert count_cores(quota) == allowed
    for text, cores in (("max 100000", allowed), ("50000 100000", 1), ("6400000 100000", min(64, allowed))):
        quota.write_text(text)
        assert count_cores(quota) == cores
    quota.write_text("150000 100000")
    assert count_cores(quota) == min(2, allowed)
