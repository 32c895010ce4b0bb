"""Workers as processes of this machine."""

import fcntl
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.runtime.config import Settings
from services.runtime.errors import Unavailable
from services.runtime.runners import Life, Sighting, Task


@dataclass
class _Child:
    task: Task
    process: subprocess.Popen[bytes]
    kill_at_s: float | None = None


class LocalRunner:
    """Runs `python -m services.<service>.job NAME` on this machine, at most `settings.max_jobs` of one store at once.

    A slot is a locked file that the worker inherits, so it is taken as long as the worker lives, also when several
    servers of one machine share the store, and also when a server dies before its worker.
    """

    def __init__(self, settings: Settings, module: str = "services.{service}.job", grace_s: float = 5.0) -> None:
        self._settings = settings
        self._module = module
        self._grace_s = grace_s
        self._children: dict[str, _Child] = {}

    def start(self, task: Task, claim: Callable[[], bool]) -> None:
        """Starts a worker if a slot is free and the claim succeeds."""
        slot = _take_slot(self._settings)
        if slot is None:
            return
        try:
            if claim():
                self._children[task.operation] = _Child(task, self._spawn(task, slot))
        finally:
            os.close(slot)  # the worker holds its own copy

    def look(self, task: Task) -> Sighting:
        """Whether the worker lives; UNKNOWN when it is not this runner's."""
        child = self._children.get(task.operation)
        if child is None or child.task != task:
            return Sighting(Life.UNKNOWN)
        code = child.process.poll()
        return Sighting(Life.RUNNING) if code is None else Sighting(Life.ENDED, _describe_exit(code))

    def stop(self, task: Task) -> None:
        """SIGTERM at the first call, SIGKILL at one after the grace."""
        child = self._children.get(task.operation)
        if child is None or child.process.poll() is not None:
            return
        if child.kill_at_s is None:
            child.kill_at_s = time.monotonic() + self._grace_s
            child.process.terminate()
        elif time.monotonic() > child.kill_at_s:
            child.process.kill()

    def forget(self, task: Task) -> None:
        """Drops an ended worker."""
        self._children.pop(task.operation, None)

    def close(self) -> list[Task]:
        """Stops all workers; returns those that had to be killed."""
        living = [child for child in self._children.values() if child.process.poll() is None]
        for child in living:
            child.process.terminate()
        deadline_s, killed = time.monotonic() + self._grace_s, []
        for child in living:
            try:
                child.process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
                killed.append(child.task)
        return killed

    def _spawn(self, task: Task, slot: int) -> subprocess.Popen[bytes]:
        module = self._module.format(service=task.service)
        command = [
            sys.executable,
            "-m",
            module,
            task.name,
            "--attempt",
            str(task.attempt),
            "--parent",
            str(os.getpid()),
        ]
        return subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
            command,
            env=_environment(self._settings),
            stdin=subprocess.DEVNULL,
            pass_fds=(slot,),
            start_new_session=True,  # Ctrl-C in a terminal is for the server, which stops its workers in order
        )


def settings_environment(settings: Settings) -> dict[str, str]:
    """The MEKIKI_* variables that make a worker's settings equal to these; fields that are None are left out."""
    values = settings.model_dump(mode="json", exclude_none=True)
    return {
        f"MEKIKI_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }


def _environment(settings: Settings) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MEKIKI_")}
    return inherited | settings_environment(settings)


def _take_slot(settings: Settings) -> int | None:
    """An open, locked file, or None when `max_jobs` of them are locked already."""
    store = hashlib.sha256(settings.store_url.encode()).hexdigest()[:16]
    folder = _slots_folder()
    for number in range(settings.max_jobs):
        slot = os.open(folder / f"{store}-{number}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(slot)
        else:
            return slot
    return None


def _slots_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"mekiki-jobs-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():  # in a shared folder anyone may have made it
        raise Unavailable("the folder of job slots belongs to another user")
    return folder


def _describe_exit(code: int) -> str:
    if code < 0:
        hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"killed by signal {-code}{hint}"
    return f"exit code {code}"
