"""Options and fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

# the same examples everywhere, and no deadline: machines that run tests are noisy
settings.register_profile("tessella", deadline=None, derandomize=True)
settings.load_profile("tessella")

FIXTURES = Path(__file__).parent / "fixtures"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity",
        default=str(FIXTURES / "parity"),
        metavar="DIR",
        help="folder of recordings of the original implementations",
    )
    parser.addoption(
        "--data",
        default=str(FIXTURES / "data"),
        metavar="DIR",
        help="folder of sets of pictures that slow tests measure on, such as DIR/faces",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave slow tests to `-m slow`."""
    if "slow" in (config.option.markexpr or ""):
        return
    skip = pytest.mark.skip(reason="slow; run with -m slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def parity_dir(pytestconfig: pytest.Config) -> Path:
    """The folder of parity recordings."""
    return Path(pytestconfig.getoption("--parity"))


@pytest.fixture(scope="session")
def data_dir(pytestconfig: pytest.Config) -> Path:
    """The folder of sets of pictures; a test skips what is not there."""
    return Path(pytestconfig.getoption("--data"))


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator, fresh for each test."""
    return torch.Generator().manual_seed(0)
