"""System shared memory: tensors handed over to a server on this machine instead of being sent.

A region is a file in ``/dev/shm``, mapped here and by the server, which knows it by the name under which it was
registered (Triton's ``extension_shared_memory.md``). Plain ``mmap`` and not Python's ``SharedMemory``: that starts a
process of its own to clean up, and learns that ``/dev/shm`` is full when SIGBUS kills the kernel.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import re
import secrets
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tritonnb.client.checks import check_inputs
from tritonnb.client.requests import read_result, request_parameters, wanted_outputs
from tritonnb.client.tensors import HEADER_LENGTH, datatype_of, dtype_of, encode_tensor
from tritonnb.errors import InferenceError, RequestRefusedError, ServerError
from tritonnb.supervise import is_running, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from tritonnb.client.connection import Answer
    from tritonnb.client.inference import Client
    from tritonnb.client.options import InferOptions
    from tritonnb.client.results import InferResult, ModelMetadata, TensorMetadata

_FOLDER = Path("/dev/shm")  # noqa: S108  (where Linux keeps POSIX shared memory)
_ALIGNED = 64
_PAGE = mmap.PAGESIZE
_UNREGISTERED_WITHIN_S = 2.0
_OWNER = re.compile(r"client_(\d+)_(\d+)_[0-9a-f]{8}")
# What Triton says (2.51), and what to do about it.
_UNKNOWN_TO_SERVER = re.compile(r"unable to find (?:system )?shared memory region", re.IGNORECASE)
_IN_USE = re.compile(r"currently in use")
_REFUSALS = (
    (
        re.compile(r"unable to open shared memory region", re.IGNORECASE),
        "the server must see this machine's /dev/shm: the embedded one does, a container with `shared_memory: true`.",
    ),
    (
        re.compile(r"allow.client.shm|disabled|not (?:allowed|enabled|supported)", re.IGNORECASE),
        "from 26.04 on Triton must be started with --allow-client-shm=true for it: `server.shared_memory: true`.",
    ),
)


class SharedMemory:
    """Room in shared memory for the tensors of requests; a context manager that removes it at the end.

    Made by ``deployment.shared_memory()`` and given to requests as ``shared_memory=``. The room is made at the first
    request, grows with larger ones and is used again by the next. May be shared by threads, each gets room of its own.

    Parameters
    ----------
    prefix
        Returns how the names of regions begin. What dead processes have left under it is removed.
    """

    def __init__(self, prefix: Callable[[], str]) -> None:
        self._prefix = prefix
        self._free: list[_Region] = []
        self._all: list[_Region] = []
        self._lock = threading.Lock()
        self._closed = False
        weakref.finalize(self, _unlink, self._all)  # at the latest when Python ends
        _sweep(prefix())

    def infer(
        self, client: Client, metadata: ModelMetadata, inputs: Mapping[str, object], options: InferOptions
    ) -> InferResult:
        """Send a request whose inputs lie in shared memory, where the outputs of known size are to be written too.

        The size is known where the model's metadata names every dimension but the batch; other outputs, and BYTES,
        come in the answer.

        Raises
        ------
        InferenceError
            The request does not fit the model, or there is no room in ``/dev/shm``.
        ServerError
            The server does not see this machine's shared memory, or does not let clients use it.
        """
        arrays = check_inputs(metadata, inputs, options.scaling)
        tensors = [encode_tensor(array) for array in arrays.values()]
        batch = next((array.shape[:1] for array in arrays.values()), ()) if metadata.batched else ()
        wanted = wanted_outputs(metadata, options)
        outputs = [tensor for tensor in metadata.outputs if wanted is None or tensor.name in wanted]
        sizes = [0 if options.classes else _size(tensor, batch) for tensor in outputs]
        *places, end = _places([*(tensor.nbytes for tensor in tensors), *sizes])
        given, asked = places[: len(tensors)], places[len(tensors) :]
        region = self._take(end.offset)
        with memoryview(region.memory) as view:
            for place, tensor in zip(given, tensors, strict=True):
                view[place.offset : place.offset + place.size] = tensor
        by_value = {"binary_data": True} | ({"classification": options.classes} if options.classes else {})
        header = {
            "id": options.request_id,
            "parameters": request_parameters(options),
            "inputs": [
                {
                    "name": name,
                    "datatype": datatype_of(array.dtype),
                    "shape": array.shape,
                    "parameters": region.parameters(place),
                }
                for (name, array), place in zip(arrays.items(), given, strict=True)
            ],
            "outputs": [
                {"name": tensor.name, "parameters": region.parameters(place) if place.size else by_value}
                for tensor, place in zip(outputs, asked, strict=True)
            ],
        }
        try:
            answer = _send(client, region, metadata, options, json.dumps(header).encode())
        except RequestRefusedError:
            self._free.append(region)
            raise
        # Where no answer came, by a timeout or Ctrl-C, the server may still write there: it is not used again.
        view = memoryview(region.memory)
        placed = {
            tensor.name: view[place.offset : place.offset + place.size]
            for tensor, place in zip(outputs, asked, strict=True)
            if place.size
        }
        result = read_result(answer, placed)
        self._free.append(region)
        return result

    def keep(self, client: Client, tensors: Sequence[memoryview]) -> list[dict[str, Any]]:
        """Put tensors there until the end, for requests that are built elsewhere and sent many times.

        Parameters
        ----------
        client
            Of the server; it must live until this room is closed.
        tensors
            As `tritonnb.client.tensors.encode_tensor` gives them.

        Returns
        -------
        list of dict
            The protocol's parameters of each, in a request's JSON or in gRPC's.

        Raises
        ------
        InferenceError
            There is no room in ``/dev/shm``.
        ServerError
            The server does not see this machine's shared memory, or does not let clients use it.
        """
        *places, end = _places(tensor.nbytes for tensor in tensors)
        region = self._take(end.offset)
        with memoryview(region.memory) as view:
            for place, tensor in zip(places, tensors, strict=True):
                view[place.offset : place.offset + place.size] = tensor
        region.register(client)
        region.unlink()  # the server has mapped it: nothing is left behind, however this process ends
        return [region.parameters(place) for place in places]

    def close(self) -> None:
        """Unregister all regions and remove them. May be called again."""
        with self._lock:
            self._closed = True
            regions, self._all[:] = list(self._all), []
            self._free.clear()
        _unlink(regions)
        for region in regions:
            region.unregister()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SharedMemory: {len(self._all)} regions, {sum(len(region.memory) for region in self._all)} bytes>"

    def _take(self, size: int) -> _Region:
        """Return a region of at least this size that no other request uses."""
        with self._lock:
            if self._closed:
                raise InferenceError(
                    "this shared memory was removed.", hint="make a new one: deployment.shared_memory()."
                )
            region = self._free.pop() if self._free else None
            if region and region.is_ours() and len(region.memory) >= size and region.path.exists():
                return region
            if region:
                self._all.remove(region)
                region.unlink()
                region.unregister()
            name = f"{self._prefix()}client_{os.getpid()}_{started(os.getpid())}_{secrets.token_hex(4)}"
            region = _Region(name, -(-max(size, 1) // _PAGE) * _PAGE)
            self._all.append(region)
            return region


class _Place(NamedTuple):
    """Where a tensor lies in a region, in bytes."""

    offset: int
    size: int


class _Region:
    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.path = _FOLDER / name
        self._owner = os.getpid()
        self._registered_with: Client | None = None
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
                self.memory = mmap.mmap(descriptor, size)
            except BaseException:
                self.path.unlink()
                raise
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InferenceError(
                f"no {size} bytes of shared memory: {error.strerror}.",
                hint="make room in /dev/shm (`df -h /dev/shm`), or send the tensors: leave out shared_memory=.",
            ) from error

    def is_ours(self) -> bool:
        """Tell whether this process made it, and not one that it was forked from."""
        return self._owner == os.getpid()

    def parameters(self, place: _Place) -> dict[str, Any]:
        """Return what the protocol says of a tensor that lies here."""
        return {
            "shared_memory_region": self.name,
            "shared_memory_byte_size": place.size,
            "shared_memory_offset": place.offset,
        }

    def register(self, client: Client, *, anew: bool = False) -> None:
        """Make the region known to the server, unless it is."""
        if self._registered_with is client and not anew:
            return
        try:
            client.register_system_shared_memory(self.name, f"/{self.name}", len(self.memory))
        except ServerError as error:
            error.hint = next((hint for words, hint in _REFUSALS if words.search(error.message)), error.hint)
            raise
        self._registered_with = client

    def unregister(self) -> None:
        """Take the region from the server, which may need it for a moment yet, or be gone."""
        if self._registered_with is None or not self.is_ours():
            return
        deadline = time.monotonic() + _UNREGISTERED_WITHIN_S
        while time.monotonic() < deadline:
            try:
                self._registered_with.unregister_system_shared_memory(self.name)
            except ServerError as error:
                if _IN_USE.search(error.message):
                    time.sleep(0.02)
                    continue
            return

    def unlink(self) -> None:
        if self.is_ours():
            self.path.unlink(missing_ok=True)


def _send(client: Client, region: _Region, metadata: ModelMetadata, options: InferOptions, header: bytes) -> Answer:
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header)), **options.headers}
    region.register(client)
    try:
        return client.send_infer(metadata.name, options, [header], headers)
    except RequestRefusedError as error:
        if not _UNKNOWN_TO_SERVER.search(error.message):
            raise
    # The server was started again, or somebody took the region from it.
    region.register(client, anew=True)
    return client.send_infer(metadata.name, options, [header], headers)


def _size(tensor: TensorMetadata, batch: Sequence[int]) -> int:
    """Return how many bytes an output has; 0 where that is not known."""
    shape = (*batch, *tensor.shape[len(batch) :])
    return 0 if tensor.datatype == "BYTES" or -1 in shape else math.prod(shape) * dtype_of(tensor.datatype).itemsize


def _places(sizes: Iterable[int]) -> list[_Place]:
    """Return where to put tensors of these sizes, one after another, and last an empty place at their end."""
    places, offset = [], 0
    for size in (*sizes, 0):
        places.append(_Place(offset, size))
        offset += -(-size // _ALIGNED) * _ALIGNED
    return places


def _sweep(prefix: str) -> None:
    """Remove the regions that processes which were killed have left."""
    for path in _FOLDER.glob(f"{prefix}client_*"):
        owner = _OWNER.fullmatch(path.name.removeprefix(prefix))
        if owner and not is_running(int(owner[1]), int(owner[2])):
            with contextlib.suppress(OSError):  # of another user
                path.unlink()


def _unlink(regions: Iterable[_Region]) -> None:
    for region in regions:
        region.unlink()
