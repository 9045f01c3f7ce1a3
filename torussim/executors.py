"""One way to run a function on many items: on processes of this machine, or on a Dask cluster.

All are `concurrent.futures` executors. The function and the items must be picklable, and the function must be one that can be
imported. It knows nothing of what the function does. Processes are forked where the system can: they start in milliseconds, with
what is already imported, and the script of the caller is not run again in each.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as any_of
from typing import Any, Generic, TypeVar

from torussim.errors import WorkerError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 3  # pieces of work a worker that are handed out at once
PIECE = 0.1  # seconds that a piece of work should take: less costs handing out, more is lost when the run is killed
DEATHS = 2  # of workers, one after another, that ran one item and nothing else
ANSWER = 5.0  # seconds in which a Dask scheduler must answer
LOST = "the worker process that ran this was lost, perhaps because memory ran out"


@dataclass(frozen=True)
class Done(Generic[R]):
    """What a function returned for the item at `index`, or what it raised; WorkerError where its process was lost."""

    index: int
    value: R | None = None
    error: Exception | None = None


_ONE = threading.Lock()  # a Dask worker may have several threads: code of users is loaded by one at a time


class Workers:
    """Where functions run: on an executor that `start` makes, again when the death of a worker has broken it.

    `window`: how many pieces of work are handed out at once. `lost`: what the executor raises for work whose worker is lost.
    """

    def __init__(self, window: int, start: Callable[[], Executor], lost: type[Exception] = BrokenExecutor) -> None:
        self.window, self.start, self.lost = window, start, lost
        self.executor = start()

    def restart(self) -> None:
        """Put a new executor in the place of a broken one."""
        self.executor.shutdown()
        self.executor = self.start()


def workers(jobs: int = 0, dask: str = "") -> AbstractContextManager[Workers]:
    """Return workers to be used in a `with`, which lets them go at its end: at once if that comes by an exception.

    `jobs`: how many processes of this machine, 0 for one a core; 1 is this process itself. `dask`: the address of the scheduler
    of a Dask cluster, in their place. Raise WorkerError if it does not answer.
    """
    if jobs < 0:
        raise WorkerError(f"'{jobs}' is no number of processes: give 1 or more, or 0 for one a core", code="value")
    if dask and jobs:
        raise WorkerError(f"'{jobs}' processes and a Dask cluster, {dask!r}, are both given: leave one out", code="clash")
    if dask:
        return _cluster(dask)
    return nullcontext(Workers(1, _Here)) if (jobs or cores()) == 1 else _processes(jobs or cores())


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(function: Callable[[T], R], items: Sequence[T], workers: Workers) -> Iterator[Done[R]]:
    """Give what a function returns, or raises, for every item, as it completes.

    Items are handed out in order, as many at once as take PIECE. When a worker is lost, all that were being run are run again,
    one at a time: so no other item is lost with one that kills its worker, and that one is given up after DEATHS alone.
    """
    waiting, doubtful, deaths = deque(range(len(items))), deque[int](), 0
    pending: dict[Future[Any], list[int]] = {}
    size = 1
    while waiting or doubtful or pending:
        if doubtful and not pending:
            _submit(workers, function, items, [doubtful[0]], pending)
        while waiting and not doubtful and len(pending) < workers.window:
            share = -(-len(waiting) // workers.window)
            _submit(workers, function, items, [waiting.popleft() for _ in range(min(size, share))], pending)
        broken = False
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            indices = pending.pop(future)
            again = list(doubtful)[:1] == indices
            try:
                found, seconds = future.result()
            except CancelledError:
                raise WorkerError("the Dask cluster is gone: its scheduler has ended, or has lost what it was asked") from None
            except workers.lost as error:
                broken, deaths = broken or isinstance(error, BrokenExecutor), deaths + again
                if not again:
                    doubtful.extend(indices)
                if deaths < DEATHS:
                    continue
                found, seconds = [(None, WorkerError(f"{LOST} ({type(error).__name__})"))], PIECE
            except Exception as error:
                raise WorkerError(f"the workers cannot run this: {type(error).__name__}: {error}") from error
            if again:
                doubtful.popleft()
                deaths = 0
            size = max(1, min(2 * size, int(PIECE * len(indices) / max(seconds, 1e-6))))
            yield from (Done(i, value, error) for i, (value, error) in zip(indices, found))
        if broken:
            doubtful.extend(i for indices in pending.values() for i in indices)
            pending.clear()
            workers.restart()


def _submit(workers: Workers, function: Callable[[T], R], items: Sequence[T], indices: list[int],
            pending: dict[Future[Any], list[int]]) -> None:
    """Let workers run a function on some items, and add the future of that to those that are pending."""
    chosen = [items[i] for i in indices]
    try:
        future = workers.executor.submit(_several, function, chosen)
    except BrokenExecutor as error:  # a worker has just died
        if pending:
            future = Future()
            future.set_exception(error)
        else:
            workers.restart()
            future = workers.executor.submit(_several, function, chosen)
    pending[future] = indices


def _several(function: Callable[[T], R], items: Sequence[T]) -> tuple[list[tuple[R | None, Exception | None]], float]:
    """Return what a function returns or raises for each item, and the seconds that all took."""
    began, found = time.perf_counter(), list[tuple[R | None, Exception | None]]()
    with _ONE:
        for item in items:
            try:
                found.append((function(item), None))
            except Exception as error:
                found.append((None, error))
    return found, time.perf_counter() - began


# -- where functions run ------------------------------------------------------------------------------------------------


class _Here(Executor):
    """Runs what is submitted in this process, at once."""

    def submit(self, function: Callable[..., Any], /, *given: Any, **keywords: Any) -> Future[Any]:
        """Return a future that is done."""
        future: Future[Any] = Future()
        future.set_result(function(*given, **keywords))
        return future


@contextmanager
def _processes(count: int) -> Iterator[Workers]:
    """Give workers that are processes of this machine."""
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    heard, told = context.Pipe(duplex=False)
    made = Workers(AHEAD * count, lambda: ProcessPoolExecutor(count, context, _obey, (heard,)))
    try:
        yield made
    except BaseException:
        told.send_bytes(b"stop")
        raise
    finally:
        made.executor.shutdown(cancel_futures=True)
        heard.close()
        told.close()


def _obey(heard: Connection) -> None:
    """Make this process end when it is told to, or when the one that started it has ended; Ctrl-C is for that one alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def listen() -> None:
        any_of([heard, parent.sentinel])
        os._exit(1)
    threading.Thread(target=listen, daemon=True).start()


@contextmanager
def _cluster(address: str) -> Iterator[Workers]:
    """Give workers that are those of a Dask cluster."""
    try:
        from distributed import Client, KilledWorker, rpc
    except ImportError:
        raise WorkerError("a Dask cluster needs distributed: pip install 'torussim[dask]'", code="missing-library") from None

    async def identity() -> str:  # of who is there: a client alone would wait for ever for who accepts, and says nothing
        async with asyncio.timeout(ANSWER), rpc(address) as scheduler:
            return str((await scheduler.identity())["type"])
    try:
        with ThreadPoolExecutor(1) as thread:  # the caller's may have an event loop of its own
            found = thread.submit(asyncio.run, identity()).result()
        if found != "Scheduler":
            raise ValueError(f"it is a {found.lower()}")
    except (OSError, ValueError, KeyError) as error:
        raise WorkerError(f"no Dask scheduler answers at {address!r} within {ANSWER:g} s ({str(error) or 'silence'}): start one "
                          "with dask scheduler, and give its address, such as tcp://127.0.0.1:8786") from None
    client: Any = Client(address, timeout=ANSWER, set_as_default=False)
    with client:
        yield Workers(AHEAD * max(sum(client.nthreads().values()), 1), client.get_executor, KilledWorker)
