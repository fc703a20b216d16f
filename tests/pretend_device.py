"""A device that does not exist: tensors that claim to lie on it and hold their numbers on the CPU.

On a machine without a GPU this shows two faults that only a GPU would: operations on tensors of two
devices, which raise here as they do there, and operations for which the host waits for the device,
which are counted by the line of Saefari that asks for them. Numbers come out as on the CPU.

The device is called `lazy:0`, since that is a device type that every build of torch knows, that has
no kernels of its own, and whose backward pass the autograd engine runs in the calling thread.
Nothing is registered and nothing stays after the `with` block.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("lazy:0")
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
PACKAGES = tuple(str(ROOT / name) for name in ("app", "backend", "autointerp"))

aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
"""Operations that may take tensors of two devices."""
INDEXED = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}
"""Operations whose indices may lie on the CPU, which then costs a copy, but not their source."""
CONSTRUCTORS = {torch.tensor, torch.as_tensor, torch.asarray}
WAITS = {
    aten._local_scalar_dense.default: "item",
    aten.is_nonzero.default: "bool",
    aten.equal.default: "equal",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "masked_select",
    aten._unique2.default: "unique",
    aten.unique_consecutive.default: "unique_consecutive",
    aten.repeat_interleave.Tensor: "repeat_interleave",
    aten.bincount.default: "bincount",
}
"""Operations whose result's size or value the host must know, as CUDA's kernels have it."""


class MixedDevicesError(RuntimeError):
    """An operation met tensors of the pretended device and of the CPU."""


class DeviceLedger:
    """What happened on the pretended device: operations that mixed devices, and waits by line."""

    current: ClassVar["DeviceLedger | None"] = None

    def __init__(self) -> None:
        self.mixed: list[str] = []
        self.waits: Counter[tuple[str, str]] = Counter()
        """(kind of wait, file:line of Saefari) -> how often the host waited there"""
        self.operations = 0
        """Operations that ran on the device."""
        self.forwards = 0
        """How often a model began to read tokens: lookups of embeddings."""

    def wait(self, kind: str) -> None:
        self.waits[kind, calling_line()] += 1

    def refuse(self, what: str) -> str:
        """Record that an operation mixed devices; the message to raise."""
        self.mixed.append(f"{what} at {calling_line()}")
        return f"Expected all tensors to be on the same device: {self.mixed[-1]}"


def ledger() -> DeviceLedger:
    """The ledger of the `with pretend_device()` block that is running."""
    assert DeviceLedger.current is not None, "tensors of the pretended device outlived its block"
    return DeviceLedger.current


def calling_line() -> str:
    """The innermost line of Saefari's packages on the stack, as
    `backend/model/language_model.py:42`."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGES):
            return f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside Saefari"


class PretendTensor(Tensor):
    """A tensor that claims to lie on `DEVICE`; `held` has its numbers, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "PretendTensor":
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
        )
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"PretendTensor({list(self.shape)}, {self.dtype})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copy = torch.nn.Parameter(copy, self.requires_grad)
        return memo.setdefault(id(self), copy)

    __torch_function__ = torch._C._disabled_torch_function_impl  # `_Functions` has its work

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run_operation(func, args, kwargs or {})


def run_operation(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run one operation on the held tensors; its results lie where a GPU's would.

    MixedDevicesError where a GPU would refuse.
    """
    tensors = [t for t in leaves([args, *kwargs.values()]) if isinstance(t, Tensor)]
    on_device = [t for t in tensors if isinstance(t, PretendTensor)]
    given = kwargs.get("device")
    if on_device:
        _check_devices(func, args, tensors)
        _count_waits(func, args, kwargs, tensors)
    if given is not None:
        lands_on_device = torch.device(given).type == DEVICE.type
    elif func is aten.copy_.default or func in INDEXED:
        lands_on_device = isinstance(args[0], PretendTensor)
    else:
        lands_on_device = bool(on_device)
    if DeviceLedger.current is not None:
        ledger().operations += lands_on_device
        ledger().forwards += lands_on_device and func is aten.embedding.default
    owners: dict[int, Tensor] = {}  # in-place operations give back the tensor that they were given

    def held(value: Any) -> Any:
        if isinstance(value, PretendTensor):
            owners[id(value.held)] = value
            return value.held
        if isinstance(value, torch.device):
            return CPU if value.type == DEVICE.type else value
        if isinstance(value, Tensor):
            owners[id(value)] = value
        return value

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        owner = owners.get(id(value))
        if owner is not None and isinstance(owner, PretendTensor) == lands_on_device:
            return owner
        return PretendTensor(value) if lands_on_device else value

    kwargs = {key: converted(value, held) for key, value in kwargs.items() if key != "pin_memory"}
    return converted(func(*converted(args, held), **kwargs), placed)


def converted(value: Any, change: Callable[[Any], Any]) -> Any:
    """`change` on everything in nested tuples and lists; faster than torch's own tree_map."""
    if type(value) in (tuple, list):
        return type(value)(converted(one, change) for one in value)
    return change(value)


def leaves(value: Any) -> Iterator[Any]:
    """Everything in nested tuples and lists."""
    if isinstance(value, tuple | list):
        for one in value:
            yield from leaves(one)
    else:
        yield value


def _check_devices(func: Any, args: Any, tensors: list[Tensor]) -> None:
    """MixedDevicesError where a GPU would refuse: only single numbers may come from the CPU."""
    if func in COPIES:
        return
    strangers = [t for t in tensors if not isinstance(t, PretendTensor)]
    if func in INDEXED:
        strangers = [t for t in strangers if any(t is one for one in (args[0], *args[2:3]))]
    writes_cpu = func._schema.is_mutable and any(t is args[0] for t in strangers)
    if writes_cpu or any(t.ndim for t in strangers):
        raise MixedDevicesError(ledger().refuse(str(func)))


def _count_waits(func: Any, args: Any, kwargs: dict[str, Any], tensors: list[Tensor]) -> None:
    if func in WAITS:
        ledger().wait(WAITS[func])
    elif func in INDEXED:
        indices = [t for t in args[1] if t is not None]
        if any(t.dtype in (torch.bool, torch.uint8) for t in indices):
            ledger().wait("mask as index")
        elif not all(isinstance(t, PretendTensor) for t in indices):
            ledger().wait("to the device")
    elif func is aten._to_copy.default and kwargs.get("device") is not None:
        if torch.device(kwargs["device"]).type != DEVICE.type:
            ledger().wait("to the CPU")
    elif func is aten.copy_.default and not all(isinstance(t, PretendTensor) for t in tensors):
        ledger().wait("copy_ between devices")


class _Operations(TorchDispatchMode):
    """Sees the operations that have no tensor of the device among their arguments."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._to_copy.default and kwargs.get("device") is not None:
            goes_to_device = torch.device(kwargs["device"]).type == DEVICE.type
            if goes_to_device and not isinstance(args[0], PretendTensor):
                ledger().wait("to the device")
        return run_operation(func, args, kwargs)


def _check_gradients(outputs: Any, inputs: Any, grad_outputs: Any = None, **_: Any) -> None:
    """The autograd engine lets wrapped tensors' gradients lie anywhere; on a GPU it does not."""
    given = zip(leaves(outputs), leaves(grad_outputs), strict=False)
    if any(g is not None and g.ndim and g.device != output.device for output, g in given):
        raise MixedDevicesError(ledger().refuse("gradient of a tensor on another device"))


class _Functions(TorchFunctionMode):
    """Does what torch would do before it asks any kernel, where it knows no such device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in CONSTRUCTORS:
            return _construct(func, args, kwargs)
        if func is torch.autograd.grad:
            _check_gradients(*args, **kwargs)
        if args and isinstance(args[0], PretendTensor):
            if func is Tensor.tolist:
                ledger().wait("tolist")
                return args[0].held.tolist()
            if func in (Tensor.numpy, Tensor.__array__):
                raise TypeError(ledger().refuse("numpy of a tensor on the device"))
            if func is Tensor.new_tensor:
                kwargs = {"dtype": args[0].dtype, "device": DEVICE, **kwargs}
                return _construct(torch.tensor, args[1:], kwargs)
            if func in (Tensor.__getitem__, Tensor.__setitem__):
                args = (args[0], _without_lists(args[1]), *args[2:])
        return func(*args, **kwargs)


def _construct(func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
    """Make a tensor on the CPU and copy it to the device where the device was asked for."""
    kwargs = dict(kwargs)
    device = kwargs.get("device")
    if device is None or torch.device(device).type != DEVICE.type:
        return func(*args, **kwargs)
    del kwargs["device"]
    return func(*args, **kwargs).to(DEVICE)


def _without_lists(index: Any) -> Any:
    """An index whose lists have become tensors on the CPU."""
    if isinstance(index, tuple):
        return tuple(_without_lists(one) for one in index)
    return torch.tensor(index) if isinstance(index, list) else index


@contextmanager
def pretend_device() -> Iterator[DeviceLedger]:
    """Have tensors on `DEVICE` in this thread; the ledger says what they met.

    Wrapped tensors cannot be inference tensors, so that `torch.inference_mode` is `no_grad` here.
    """
    before, DeviceLedger.current = DeviceLedger.current, DeviceLedger()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._C, "_InferenceMode", lambda mode: torch.set_grad_enabled(not mode))
        try:
            with _Functions(), _Operations():
                yield DeviceLedger.current
        finally:
            DeviceLedger.current = before
