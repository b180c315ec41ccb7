"""A laptop for tests: a store in memory that outlives the processes that use it, and a scripted agent."""

from __future__ import annotations

import asyncio
import sys
import types
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service.adapters.memory import MemoryObjects, MemoryTable
from service.adapters.sqlite.failure import StoreFailure
from service.app.laptop.backend import LaptopBackend, backend_on
from service.app.laptop.commands import RunCommand
from service.app.laptop.home import Home
from service.app.laptop.pipeline import Stop
from service.app.laptop.serving import BatchServer, Served
from service.app.laptop.source import scan_source
from service.app.laptop.start import Start, Starter, Step
from service.app.laptop.tuning import laptop_settings
from service.app.settings import load_settings
from service.app.submit import SubmitRequest
from service.catalog.files import MappingFiles
from service.catalog.folders import fixed_files
from service.mapping import Catalog, Definition
from service.runtime.clock import SystemClock

MAPPING = """
target: {{type: tool, name: demo, invoke: python, function: "{module}:answer"}}
input_mapping: {{column_mappings: {{name: name}}}}
output_mapping:
  type: tool
  extraction_methods: [{{method: direct, field_mappings: {{answer: $.{key}}}}}]
"""


class MemoryStore:
    """A store that ends with the test."""

    def __init__(self) -> None:
        self.table = MemoryTable()
        self.objects = MemoryObjects()
        self.failure = StoreFailure()


class Agent:
    """The agent of a laptop: replies with the name in capitals. Calls wait while `held` is set."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.held: asyncio.Event | None = None
        self.asked = asyncio.Event()

    async def answer(self, row: dict[str, str]) -> dict[str, str]:
        """Record the call, wait while it is held, and reply."""
        self.calls.append(row["name"])
        self.asked.set()
        if self.held is not None:
            await self.held.wait()
        if row["name"].startswith("bad"):
            raise ValueError(f"{row['name']} is refused")
        return {"answer": row["name"].upper(), "other": row["name"]}


class Laptop:
    """A folder, a store and an agent. Each `process` has queues of its own, as after a restart."""

    def __init__(self, folder: Path, module: str) -> None:
        self.folder = folder
        self.home = Home(folder / ".rowfleet")
        self.home.create()
        self.store = MemoryStore()
        self.agent = Agent()
        self.module = module
        self.key = "answer"
        self.settings = laptop_settings(load_settings({"commit": {"linger_s": 0.01}}), concurrency=4)

    def process(self) -> LaptopBackend:
        """The backend of a new process."""
        return backend_on(self.store, self.settings, SystemClock())

    @property
    def files(self) -> dict[str, str]:
        """The mapping as it is now; tests change `key` for another extraction."""
        return {"demo.yaml": MAPPING.format(module=self.module, key=self.key)}

    @property
    def definition(self) -> Definition:
        """The present mapping."""
        return Catalog.load(self.files, {}).definition("demo")

    def write(self, text: str, name: str = "in.csv") -> Path:
        """Write a file in the folder."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path

    def command(self, path: Path, **options) -> RunCommand:
        """The command `rowfleet run PATH --mapping demo`."""
        request = SubmitRequest(source=str(path), mapping="demo", **options)
        return RunCommand(request, scan_source(path, path.name), self.definition)

    async def find(self, command: RunCommand, out="-", *, fresh=False, force=False) -> Start:
        """The first step of the command."""
        return await Starter(self.process(), self.settings.bucket).find(
            command, out, fresh=fresh, force=force
        )

    async def sample(self, command: RunCommand, stop: Stop | None = None) -> tuple[Start, Served]:
        """Run the sample of an estimate, unless nothing is left of it to run."""
        backend = self.process()
        starter = Starter(backend, self.settings.bucket)
        start = await starter.find_sample(command, "-")
        if start.step is Step.KEEP:
            return start, Served(start.view)
        server = self.server(backend, stop or Stop())
        return start, await server.serve(start.record.batch_id, lambda: starter.begin(start, command))

    def server(self, backend: LaptopBackend, stop: Stop) -> BatchServer:
        """A server of batches in a process."""
        read = fixed_files(MappingFiles(mappings=self.files))
        return BatchServer(self.home, backend, self.settings, read, stop, lambda _: None)

    async def run(
        self, command: RunCommand, out="-", *, fresh=False, stop: Stop | None = None, when=None
    ) -> Served:
        """Run the command in a process of its own, which is stopped once `when` was awaited."""
        backend, stop = self.process(), stop or Stop()
        starter = Starter(backend, self.settings.bucket)
        start = await starter.find(command, out, fresh=fresh, force=False)
        server = self.server(backend, stop)

        async def stop_when() -> None:
            await when
            stop.signal()

        stopper = asyncio.ensure_future(stop_when()) if when is not None else None
        try:
            return await server.serve(start.record.batch_id, lambda: starter.begin(start, command))
        finally:
            if stopper is not None:
                stopper.cancel()
                with suppress(asyncio.CancelledError):
                    await stopper


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """A laptop whose agent is a Python module of its own."""
    module = types.ModuleType(f"laptop_agent_{uuid.uuid4().hex}")
    made = Laptop(tmp_path, module.__name__)
    module.answer = made.agent.answer  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield made
    del sys.modules[module.__name__]


def people(*names: str) -> str:
    """A CSV of names."""
    return "name\n" + "".join(f"{name}\n" for name in names)
