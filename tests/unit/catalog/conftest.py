"""Fixtures for samples."""

import pytest

from service.agents.wire.reply_bodies import parse_reply
from service.catalog.sample_check import check_samples
from service.catalog.samples import read_samples
from tests.unit.catalog.sample_files import CATALOG, write_samples


@pytest.fixture
def problems(tmp_path):
    """Check files of `price`, and return one line per problem, without the folder."""

    def check(**files: object) -> list[str]:
        write_samples(tmp_path, **files)
        samples, found = read_samples(tmp_path, 1_000, parse_reply)
        found = sorted([*found, *check_samples(CATALOG, samples, [])])
        return [
            f"{p.file.removeprefix(f'{tmp_path.as_posix()}/')}:{p.line}: {p.message} — {p.hint}"
            for p in found
        ]

    return check
