"""Fixtures shared by all suites."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from monitor.model.bundle import Bundle, load_bundle
from monitor.model.registry import Registry
from tests import machines
from tests.kafka_broker import KafkaBroker
from tests.s3_server import make_bucket, s3_environment, s3_server


@pytest.fixture(scope="session")
def machines_bundle() -> Bundle:
    """The committed model of `tests.machines`."""
    registry = Registry(str(machines.REGISTRY))
    return load_bundle(registry.fetch("machines", registry.champion("machines")), expected_schema=machines.SCHEMA)


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


@dataclass(frozen=True)
class Kafka:
    """A broker that tests share; topics keep them apart."""

    bootstrap: str

    def new_topic(self, stem: str, partitions: int = 1) -> str:
        """Creates a topic of a name that nobody else uses."""
        from kafka import KafkaAdminClient
        from kafka.admin import NewTopic

        name = f"{stem}-{uuid.uuid4().hex[:8]}"
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.create_topics([NewTopic(name, partitions, 1)], wait_for_metadata=True)
        finally:
            admin.close()
        return name


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A real Apache Kafka; `KAFKA_BOOTSTRAP` names a running one instead."""
    running = os.environ.get("KAFKA_BOOTSTRAP")
    if running:
        yield Kafka(running)
        return
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield Kafka(broker.bootstrap)


@pytest.fixture
def machines_folder(tmp_path: Path) -> Path:
    """A folder with `features.toml` and the registry of `tests.machines`, as a user has it."""
    (tmp_path / "features.toml").write_text(machines.FEATURES_TOML)
    (tmp_path / "registry").symlink_to(machines.REGISTRY)
    return tmp_path
