"""Fixtures of the monitor's tests: registries of every kind and bundles to put into them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from monitor.model.bundle import Bundle
from monitor.model.registry import Registry
from tests.bundles import bundle_created
from tests.s3_server import make_bucket, s3_environment, s3_server


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[], str]]:
    """Gives the URL of a new empty bucket; the server and the environment that leads to it are shared."""
    with s3_server() as url, pytest.MonkeyPatch.context() as environment:
        for name, value in s3_environment(url).items():
            environment.setenv(name, value)

        def new_bucket() -> str:
            name = f"ganwatch-{uuid.uuid4().hex[:12]}"
            make_bucket(url, name)
            return f"s3://{name}"

        yield new_bucket


@pytest.fixture(params=["folder", "memory", "s3"])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where nothing is yet: on a local disk, in an S3 bucket, or at another fsspec URL."""
    if request.param == "folder":
        yield str(tmp_path / "registry")
    elif request.param == "s3":
        yield f"{request.getfixturevalue('s3')()}/models"
    else:
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        yield "memory://models"
        memory.store.clear()


@pytest.fixture
def registry(registry_url: str) -> Registry:
    """An empty registry of every kind."""
    return Registry(registry_url)


@pytest.fixture
def local(tmp_path: Path) -> Registry:
    """An empty registry in a folder."""
    return Registry(str(tmp_path / "registry"))


@pytest.fixture
def bundles(tmp_path: Path, machines_bundle: Bundle) -> list[Path]:
    """Three bundles, each a month younger than the one before."""
    return [
        bundle_created(f"2026-0{month}-01T00:00:00.000000+00:00", tmp_path / f"bundle{month}", machines_bundle)
        for month in (1, 2, 3)
    ]
