"""Fixtures of the unit tests: the laboratory of `tests.unit.laboratory`, and retries that do not wait."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import stamina
import structlog

from service.mapping import Definition
from tests.unit.laboratory import DEMO, Lab, ScriptedAgent, StubConsumer, definition_of


@pytest.fixture(autouse=True)
def quick_retries() -> Iterator[None]:
    """Retries do not wait, and end after 20 attempts."""
    with stamina.set_testing(True, attempts=20):
        yield


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that is called in this process sets up the logs; the next test has them as they were."""
    before, is_set = structlog.get_config(), structlog.is_configured()
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    if structlog.get_config() == before:
        return
    if is_set:
        structlog.configure(**before)
    else:
        structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


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
