"""Run a generator in a thread, some items ahead of its consumer."""

import queue
import threading
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.1


def in_background(
    items: Generator[T, None, None], ahead: int, name: str
) -> Generator[T, None, None]:
    """The same items, made by a thread of that name; its errors are raised here.

    At most `ahead` items are ready or in the making. When this generator is closed, the thread
    closes `items` and ends.
    """
    ready: queue.SimpleQueue[list[T] | BaseException | None] = queue.SimpleQueue()
    free = threading.Semaphore(ahead)
    stopped = threading.Event()

    def work() -> None:
        try:
            while not stopped.is_set():
                if free.acquire(timeout=POLL_SECONDS):
                    ready.put([next(items)])
        except StopIteration:
            ready.put(None)
        except BaseException as error:  # whatever it is, it ends the training: raised again below
            ready.put(error)
        finally:
            items.close()

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            free.release()
            yield item.pop()  # and hold it no longer
    finally:
        stopped.set()
        thread.join()
