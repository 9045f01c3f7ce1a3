"""One way to run a function on many items: on processes of this machine, or on a Dask cluster.

All executors are `concurrent.futures` executors. The function and the items must be picklable, and the function must be
importable. The module knows nothing of the function. Processes are forked where the system allows it: they start in milliseconds,
with the modules already imported, and the caller's script is not run again in each of them.
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

AHEAD = 3  # pieces of work for each worker that are handed out at once
PIECE = 0.1  # desired seconds of a piece of work: a shorter one has more overhead, a longer one loses more when the run is killed
DEATHS = 2  # successive deaths of workers that ran one item and nothing else
ANSWER = 5.0  # seconds within which a Dask scheduler must answer
LOST = "the worker process that ran this was lost, perhaps because memory ran out"


@dataclass(frozen=True)
class Done(Generic[R]):
    """The return value of a function for the item at `index`, or its exception; WorkerError if its process was lost."""

    index: int
    value: R | None = None
    error: Exception | None = None


_ONE = threading.Lock()  # a Dask worker may have several threads; only one at a time loads user-defined code


class Workers:
    """The place where functions run: an executor made by `start`, and made anew when the death of a worker has broken it.

    `window` is the number of pieces of work that are handed out at once. `lost` is the exception for work of a lost worker.
    """

    def __init__(self, window: int, start: Callable[[], Executor], lost: type[Exception] = BrokenExecutor) -> None:
        self.window, self.start, self.lost = window, start, lost
        self.executor = start()

    def restart(self) -> None:
        """Replace a broken executor by a new one."""
        self.executor.shutdown()
        self.executor = self.start()


def workers(jobs: int = 0, dask: str = "") -> AbstractContextManager[Workers]:
    """Return workers for a `with` statement, which releases them at its end: at once after an exception.

    `jobs` is the number of processes on this machine: 0 is one for each core; 1 is this process itself. `dask` is the address of
    the scheduler of a Dask cluster to use instead. Raise WorkerError if it does not answer.
    """
    if jobs < 0:
        raise WorkerError(f"'{jobs}' is no number of processes: give 1 or more, or 0 for one a core", code="value")
    if dask and jobs:
        raise WorkerError(f"'{jobs}' processes and a Dask cluster, {dask!r}, are both given: leave one out", code="clash")
    if dask:
        return _cluster(dask)
    return nullcontext(Workers(1, _Here)) if (jobs or cores()) == 1 else _processes(jobs or cores())


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(function: Callable[[T], R], items: Sequence[T], workers: Workers) -> Iterator[Done[R]]:
    """Yield the return value of a function, or its exception, for every item, as items complete.

    Items are handed out in order, as many at once as take PIECE seconds. When a worker is lost, all items in progress are run
    again, one at a time, so that an item that kills its worker takes no other item with it. Such an item is given up after DEATHS
    runs alone.
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
    """Submit a function with some items to the workers, and add the future to the pending ones."""
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
    """Return the return value or exception for each item, and the seconds of all together."""
    began, found = time.perf_counter(), list[tuple[R | None, Exception | None]]()
    with _ONE:
        for item in items:
            try:
                found.append((function(item), None))
            except Exception as error:
                found.append((None, error))
    return found, time.perf_counter() - began


# -- the executors ------------------------------------------------------------------------------------------------------


class _Here(Executor):
    """An executor that runs submitted work in this process, at once."""

    def submit(self, function: Callable[..., Any], /, *given: Any, **keywords: Any) -> Future[Any]:
        """Return a completed future."""
        future: Future[Any] = Future()
        future.set_result(function(*given, **keywords))
        return future


@contextmanager
def _processes(count: int) -> Iterator[Workers]:
    """Yield workers that are processes of this machine."""
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
    """End this process on request, or when its parent has ended; Ctrl-C is handled by the parent alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def listen() -> None:
        any_of([heard, parent.sentinel])
        os._exit(1)
    threading.Thread(target=listen, daemon=True).start()


@contextmanager
def _cluster(address: str) -> Iterator[Workers]:
    """Yield the workers of a Dask cluster."""
    try:
        from distributed import Client, KilledWorker, rpc
    except ImportError:
        raise WorkerError("a Dask cluster needs distributed: pip install 'torussim[dask]'", code="missing-library") from None

    async def identity() -> str:  # a client alone would wait for ever for a scheduler that accepts and is silent
        async with asyncio.timeout(ANSWER), rpc(address) as scheduler:
            return str((await scheduler.identity())["type"])
    try:
        with ThreadPoolExecutor(1) as thread:  # the caller's thread may have an event loop of its own
            found = thread.submit(asyncio.run, identity()).result()
        if found != "Scheduler":
            raise ValueError(f"it is a {found.lower()}")
    except (OSError, ValueError, KeyError) as error:
        raise WorkerError(f"no Dask scheduler answers at {address!r} within {ANSWER:g} s ({str(error) or 'silence'}): start one "
                          "with dask scheduler, and give its address, such as tcp://127.0.0.1:8786") from None
    client: Any = Client(address, timeout=ANSWER, set_as_default=False)
    with client:
        yield Workers(AHEAD * max(sum(client.nthreads().values()), 1), client.get_executor, KilledWorker)
