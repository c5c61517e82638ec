"""Forward passes that wait for each other at every layer.

To round a layer with the inputs that it will have, all calibration images must have gone through the rounded layers before it.
One forward pass for every layer would do, in time that grows with the depth's square; here each batch has one pass, in a thread of
its own, which stops at a layer until all batches have come to it and the layer is rounded. Only one thread runs at a time, in a
fixed order. Memory: the activations that are alive at one place of the network, for all batches.

A pass may also stop at the end of a block, which it then computes again, with what the block's layers have become meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fairquant.bits.products import Product, Products, find_sequence_first
from fairquant.roles import Layer
from fairquant.rounding.blocks import Block, cloned, copied_back


class _Cancelled(BaseException):
    """Ends the thread of a pass that is no longer wanted; no `except Exception` of a model catches it."""


@dataclass(frozen=True, eq=False)
class BlockEnd:
    """The end of a block, by its number: what its module was called with, and what it gave."""

    number: int
    arguments: tuple[object, ...]
    options: Mapping[str, object]
    output: object


class Pass:
    """The forward pass of one batch. at: the product before which it waits, or the end of the block; None once it is over."""

    def __init__(
        self, network: nn.Module, images: Tensor, layers: Sequence[Layer], wanted: Callable[[int], bool],
        sequence_first: frozenset[int] | None = None,
    ) -> None:  # fmt: skip
        """images [B, 3, H, W]; wanted: whether to stop at a layer, by its number; sequence_first: see `find_sequence_first`."""
        self.at: Product | BlockEnd | None = None
        self.entered: dict[int, tuple[tuple[object, ...], Mapping[str, object]]] = {}
        self.output: object = None
        self._error: BaseException | None = None
        self._cancelled = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._work = (network, images, layers, wanted, sequence_first)
        self._threads = torch.get_num_threads()  # a thread's own number, on which rounding errors depend
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def advance(self) -> None:
        """Run to the next product that is wanted, or to the end. Raises what the network raises."""
        self.at = None
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        if self.thread.is_alive():
            self._cancelled = True
            self._go.release()
            self.thread.join()

    def _run(self) -> None:
        self._go.acquire()
        torch.set_num_threads(self._threads)
        network, images, layers, wanted, tokens = self._work
        try:
            if not self._cancelled:
                before = partial(self._before, wanted=wanted)
                with torch.no_grad(), Products(layers, before, sequence_first=tokens):
                    self.output = network(images)
        except _Cancelled:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self.at = None
            self._back.release()

    def _before(self, product: Product, wanted: Callable[[int], bool]) -> None:
        if wanted(product.number):
            self.wait(product)

    def wait(self, at: Product | BlockEnd) -> None:
        """Called by the pass's own thread: let the others go on until this one is advanced."""
        self.at = at
        self._back.release()
        self._go.acquire()
        if self._cancelled:
            raise _Cancelled


class InStep:
    """The passes of all batches. Use as a context: passes that are left are cancelled at its end."""

    def __init__(
        self,
        network: nn.Module,
        batches: Sequence[Tensor],
        layers: Sequence[Layer],
        blocks: Sequence[Block] = (),
        again: bool = False,
    ) -> None:
        """batches: images [B, 3, H, W] each; layers: those at which the passes stop, each until `done`; blocks: those at whose
        ends they stop, until `block_done`; again: whether blocks are then computed again."""
        self._done: set[int] = set()
        self._blocks_done: set[int] = set()
        self._again = again
        self._hooks: list[RemovableHandle] = []
        tokens = find_sequence_first(network, batches[0], layers) if batches else None
        for number, block in enumerate(blocks):
            self._watch(number, block.module)
        self.passes = [Pass(network, images, layers, self._wanted, tokens) for images in batches]

    def _wanted(self, number: int) -> bool:
        return number not in self._done

    def _watch(self, number: int, module: nn.Module) -> None:
        """Hooks of a block; they see the passes of all threads. A reason for Any: torch's hooks."""

        def enter(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            own = self._own_pass()
            if own is not None and number not in self._blocks_done:
                own.entered[number] = (
                    tuple(cloned(each) for each in arguments),
                    {k: cloned(v) for k, v in options.items()},
                )

        def leave(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: Any) -> Any:
            own = self._own_pass()
            if own is None or number in self._blocks_done:
                return None
            called, given = own.entered.pop(number)
            own.wait(BlockEnd(number, called, given, output))
            if not self._again:
                return None
            again = module(
                *called, **given
            )  # with the hooks that it has of others; the block is done, and this one passes
            copied_back((arguments, options), (called, given))
            return again

        # before the module's own hooks, which run again with it, and behind them
        self._hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True))
        self._hooks.append(module.register_forward_hook(leave, with_kwargs=True))

    def _own_pass(self) -> Pass | None:
        """The pass that runs in this thread."""
        thread = threading.current_thread()
        return next((each for each in self.passes if each.thread is thread), None)

    def __enter__(self) -> InStep:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        for each in self.passes:
            each.cancel()

    def start(self) -> None:
        """Bring every pass to its first layer."""
        for each in self.passes:
            each.advance()

    def next(self) -> Product | BlockEnd | None:
        """Where the first pass that is not over waits: before a layer, or at the end of a block."""
        return next((each.at for each in self.passes if each.at is not None), None)

    def waiting(self, number: int) -> Iterator[tuple[int, Product]]:
        """Batches that wait before a layer, by their number, and their products."""
        for batch, each in enumerate(self.passes):
            if isinstance(each.at, Product) and each.at.number == number:
                yield batch, each.at

    def ended(self, number: int) -> Iterator[tuple[int, BlockEnd]]:
        """Batches that wait at the end of a block, by their number, and what it gave."""
        for batch, each in enumerate(self.passes):
            if isinstance(each.at, BlockEnd) and each.at.number == number:
                yield batch, each.at

    def done(self, number: int) -> None:
        """A layer is rounded: the passes that wait before it go on to the next one, with its weight as it is now."""
        self._done.add(number)
        self._advance([batch for batch, _ in self.waiting(number)])

    def block_done(self, number: int) -> None:
        """A block is as it will be: the passes that wait at its end go on."""
        waiting = [batch for batch, _ in self.ended(number)]
        self._blocks_done.add(number)
        self._advance(waiting)

    def _advance(self, batches: Sequence[int]) -> None:
        for batch in batches:
            self.passes[batch].advance()
