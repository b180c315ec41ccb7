"""Fixtures of the unit tests: the laboratory of `tests.unit.laboratory`, and retries that do not wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import stamina

from service.mapping import Definition
from tests.unit.laboratory import DEMO, Lab, ScriptedAgent, StubConsumer, definition_of


@pytest.fixture(autouse=True)
def quick_retries() -> Iterator[None]:
    """Retries do not wait, and end after 20 attempts."""
    with stamina.set_testing(True, attempts=20):
        yield


@pytest.fixture
def lab() -> Lab:
    """A laboratory whose time passes only when a test says so."""
    return Lab()


@pytest.fixture(scope="session")
def make_lab() -> Callable[..., Lab]:
    """Make laboratories with a clock or table of their own."""
    return Lab


@pytest.fixture
def scripted() -> type[ScriptedAgent]:
    """Make agents that follow a script."""
    return ScriptedAgent


@pytest.fixture
def stub_consumer() -> StubConsumer:
    """A consumer that records the calls of its deliveries."""
    return StubConsumer()


@pytest.fixture
def define() -> Callable[[str], Definition]:
    """Compile a mapping."""
    return definition_of


@pytest.fixture
def demo_yaml() -> str:
    """The mapping of most tests."""
    return DEMO
