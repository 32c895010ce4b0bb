import os
import threading
import time
from contextlib import closing

import psutil
import pytest

from services.runtime.child import Child, ChildLimits
from services.runtime.errors import Unavailable


def make_child(**limits):
    return closing(Child("echo", "tests.runtime.echo_child", limits=ChildLimits(**limits)))


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(pid):
    deadline = time.monotonic() + 10
    while not is_gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_gone(pid)


def test_answers_of_any_size_come_back_whole():
    with make_child() as child:
        for size in (0, 1, 1 << 12, 5_000_000):
            request = os.urandom(size)
            assert child.ask(request) == request
        assert child.started == 1


def test_what_a_library_prints_does_not_reach_the_pipe():
    with make_child() as child:
        assert child.ask(b"chat") == b"chat"
        assert child.ask(b"after") == b"after"


@pytest.mark.parametrize("order", [b"die", b"raise"])
def test_a_child_that_dies_is_an_error_without_its_text_and_the_next_call_gets_a_new_one(order):
    with make_child() as child:
        with pytest.raises(Unavailable, match="the echo process failed") as caught:
            child.ask(order)
        assert "secret" not in str(caught.value)
        assert child.ask(b"again") == b"again"
        assert child.started == 2


def test_a_child_that_takes_too_long_is_given_up():
    with make_child(answer_timeout_s=0.2) as child:
        pid = int(child.ask(b"pid"))
        with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
            child.ask(b"sleep")
        assert is_gone(pid)


def test_a_child_is_replaced_after_its_share_of_answers_and_when_it_has_grown():
    with make_child(answers=2) as child:
        pids = [child.ask(b"pid") for _ in range(3)]
        assert pids[0] == pids[1] != pids[2]
    with make_child(memory_bytes=1) as child:
        assert child.ask(b"pid") != child.ask(b"pid")


def test_an_idle_child_ends_and_the_next_call_starts_another():
    with make_child(idle_s=0.05) as child:
        pid = int(child.ask(b"pid"))
        assert wait_until_gone(pid)
        assert int(child.ask(b"pid")) != pid


def test_callers_from_several_threads_each_get_their_own_answer():
    answers = {}
    with make_child() as child:
        threads = [
            threading.Thread(target=lambda name=name: answers.update({name: child.ask(name)}))
            for name in (b"%d" % k * 1000 for k in range(8))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 8
    assert all(name == answer for name, answer in answers.items())


def test_closing_ends_the_child():
    with make_child() as child:
        pid = int(child.ask(b"pid"))
    assert is_gone(pid)
