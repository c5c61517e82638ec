"""Forward passes that wait for each other at every layer.

To round a layer with the inputs that it will have, all calibration images must have gone through the rounded layers before it.
One forward pass for every layer would do, in time that grows with the depth's square; here each batch has one pass, in a thread of
its own, which stops at a layer until all batches have come to it and the layer is rounded. Only one thread runs at a time, in a
fixed order. Memory: the activations that are alive at one place of the network, for all batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import torch
from torch import Tensor, nn

from fairquant.roles import Layer
from fairquant.rounding.products import Product, Products


class _Cancelled(BaseException):
    """Ends the thread of a pass that is no longer wanted; no `except Exception` of a model catches it."""


class Pass:
    """The forward pass of one batch. at: the product before which it waits; None once it is over."""

    def __init__(
        self, network: nn.Module, images: Tensor, layers: Sequence[Layer], wanted: Callable[[int], bool]
    ) -> None:
        """images [B, 3, H, W]; wanted: whether to stop at a layer, by its number."""
        self.at: Product | None = None
        self.output: Tensor | None = None
        self._error: BaseException | None = None
        self._cancelled = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._work = (network, images, layers, wanted)
        self._threads = torch.get_num_threads()  # a thread's own number, on which rounding errors depend
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def advance(self) -> None:
        """Run to the next product that is wanted, or to the end. Raises what the network raises."""
        self.at = None
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        if self._thread.is_alive():
            self._cancelled = True
            self._go.release()
            self._thread.join()

    def _run(self) -> None:
        self._go.acquire()
        torch.set_num_threads(self._threads)
        network, images, layers, wanted = self._work
        try:
            if not self._cancelled:
                with torch.no_grad(), Products(layers, lambda product: self._stop(product, wanted)):
                    self.output = network(images)
        except _Cancelled:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self.at = None
            self._back.release()

    def _stop(self, product: Product, wanted: Callable[[int], bool]) -> None:
        if not wanted(product.number):
            return
        self.at = product
        self._back.release()
        self._go.acquire()
        if self._cancelled:
            raise _Cancelled


class InStep:
    """The passes of all batches. Use as a context: passes that are left are cancelled at its end."""

    def __init__(self, network: nn.Module, batches: Sequence[Tensor], layers: Sequence[Layer]) -> None:
        """batches: images [B, 3, H, W] each; layers: those at which the passes stop, each until `done`."""
        self._done: set[int] = set()
        self.passes = [Pass(network, images, layers, self._wanted) for images in batches]

    def _wanted(self, number: int) -> bool:
        return number not in self._done

    def __enter__(self) -> InStep:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self.passes:
            each.cancel()

    def start(self) -> None:
        """Bring every pass to its first layer."""
        for each in self.passes:
            each.advance()

    def layer(self) -> int | None:
        """The number of the layer that is next: the one before which the first pass that is not over waits."""
        return next((each.at.number for each in self.passes if each.at is not None), None)

    def waiting(self, number: int) -> Iterator[tuple[int, Product]]:
        """Batches that wait before a layer, by their number, and their products."""
        for batch, each in enumerate(self.passes):
            if each.at is not None and each.at.number == number:
                yield batch, each.at

    def done(self, number: int) -> None:
        """A layer is rounded: the passes that wait before it go on to the next one, with its weight as it is now."""
        self._done.add(number)
        for each in self.passes:
            if each.at is not None and each.at.number == number:
                each.advance()
