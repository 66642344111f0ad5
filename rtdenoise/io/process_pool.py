"""Processes of our own that do calls for us: each does one at a time, and one that dies costs that call alone.

    this process ──(function, arguments)──▶ standard input of a worker
                 ◀─(result)──────────────── what was its standard output

Owns the processes it starts, and touches no other child of the program it runs in; works from any thread. A worker ends
when its input ends, so none outlives the process that started it. Standard library pools do not fit: their cleaning up
needs the main thread, shared memory, and a main module that may be imported again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any

from rtdenoise import signals
from rtdenoise.io.descriptors import only_python_speaks

ENDING_S = 10.0  # A worker that is asked to end removes a half-written file; one that hangs is killed then.
AHEAD = 2  # Calls that are taken for each process, so that none waits for the next one.
LOOK_S = 0.1  # The pool checks this often whether it has ended.
_log = logging.getLogger(__name__)
_CHILD = "import sys; sys.path[:] = {path!r}; from rtdenoise.io.process_pool import serve; serve()"


class WorkerDied(Exception):
    """The process that did a call ended before the call was done. Says how it ended."""


class _Worker:
    """One process at a time: `call` starts another where the last one died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if getattr(sys, "frozen", False) or not sys.executable:  # a program of its own, which would start once more
            raise OSError("there is no Python interpreter to start")
        code = _CHILD.format(path=[os.path.abspath(p) for p in sys.path])
        # A session of its own: Ctrl-C is the parent's to handle, and stopping the parent does not stop a worker.
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`WorkerDied` if the process ended meanwhile, OSError if none can be started."""
        if self._process is None:
            self.start()
        process = self._process
        assert process
        assert process.stdin
        assert process.stdout
        try:
            pickle.dump((function, arguments), process.stdin)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as problem:
            self.end()
            raise WorkerDied(_how(process.returncode)) from problem

    def interrupt(self, late: bool) -> None:
        """From another thread: the call under way raises `WorkerDied` soon."""
        if (process := self._process) is not None:
            process.kill() if late else process.terminate()

    def end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # The dead did not read it.
                if pipe is not None:
                    pipe.close()
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_calls(
    function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], processes: int
) -> Generator[tuple[tuple[Any, ...], Any]]:
    """``function(*call)`` of each call in so many processes: the calls with their results, as they come.

    Calls are taken as workers need them, so there may be any number. An iterator that has no more for now is asked
    again after each result, until nothing is under way. The result of a call whose process died is a `WorkerDied`; the
    others go on. Function, arguments and results must be picklable, and the function must raise nothing. Where no
    process can be started, this one does it all, and a warning is logged. Leaving the generator ends the processes.
    """
    feed = iter(calls)
    waiting: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()  # None: there are no more
    done: queue.SimpleQueue[tuple[tuple[Any, ...], Any] | None] = queue.SimpleQueue()  # None: a thread has ended
    over, problems = threading.Event(), []

    def work(worker: _Worker) -> None:
        try:
            while (call := waiting.get()) is not None and not over.is_set():
                try:
                    done.put((call, worker.call(function, *call)))
                except WorkerDied as death:
                    done.put((call, death))
                except OSError as problem:
                    problems.append(problem)
                    waiting.put(call)
                    break
        finally:
            worker.end()
            done.put(None)

    workers: list[_Worker] = []
    threads: list[threading.Thread] = []
    under_way = working = 0
    try:
        while True:
            while under_way < AHEAD * processes and (call := next(feed, None)) is not None:
                waiting.put(call)
                under_way += 1
                if len(threads) < min(processes, under_way):
                    workers.append(_Worker())
                    name, arguments = "rtdenoise-worker", (workers[-1],)
                    threads.append(threading.Thread(target=work, args=arguments, name=name, daemon=True))
                    threads[-1].start()
                    working += 1
            if not (under_way and working):
                break
            signals.raise_dropped()
            if (result := done.get()) is None:
                working -= 1
            else:
                under_way -= 1
                yield result
        if under_way:
            _log.warning("rtdenoise: worker processes do not start (%s); this one does all the work", problems[-1])
            while (call := next(feed, None) if waiting.empty() else waiting.get()) is not None:
                yield call, function(*call)
        for _ in range(working):
            waiting.put(None)
        while working:
            working -= done.get() is None
    finally:
        over.set()
        began = time.monotonic()
        for _ in threads:  # Any of them may take any of these.
            waiting.put(None)
        for worker, thread in zip(workers, threads, strict=True):
            while thread.is_alive():
                worker.interrupt(late=time.monotonic() - began > ENDING_S)
                thread.join(LOOK_S)


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def serve() -> None:
    """The life of a worker: calls from standard input, results to what was standard output."""
    signal.signal(signal.SIGTERM, _end)
    calls, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What a library prints is no result.
    logging.getLogger("rtdenoise.native.compilation").disabled = True  # its host has said so already
    arrived: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(calls, arrived), daemon=True).start()
    with only_python_speaks(), contextlib.suppress(BrokenPipeError):
        while (call := arrived.get()) is not None:
            function, arguments = call
            pickle.dump(function(*arguments), results)
            results.flush()


def _listen(calls: Any, arrived: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None]) -> None:
    """Hand on what comes. Its end may come at any time, and then ends the process in the middle of its work."""
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
        while True:
            arrived.put(pickle.load(calls))
    if sys.platform == "win32":  # where nothing interrupts the main thread: it ends after the call under way
        arrived.put(None)
    else:  # It goes to the main thread, which may be waiting: a signal to this one would not wake it.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _end(number: int, _frame: object) -> None:
    """By an exception, so that a half-written file is removed; once, so that removing it is not interrupted."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)
