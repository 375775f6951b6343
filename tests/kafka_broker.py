"""A real Apache Kafka (KRaft mode, one node) for tests: jars from Maven, Java 17, free loopback ports.

`KAFKA_BOOTSTRAP` names a running one instead. Jars are kept in `.cache/kafka` of the checkout.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import pytest

VERSION = "3.9.1"
JARS = Path(__file__).parent.parent / ".cache" / "kafka" / VERSION
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ganwatch</groupId><artifactId>test-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
  </dependencies>
</project>"""
START_TIMEOUT_S = 60.0


def missing_tool(reason: str) -> None:
    """Skips the test, except in CI, where a missing tool is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def kafka_jars() -> Path:
    """Folder with Kafka and all it needs, fetched with Maven once."""
    if (JARS / "complete").exists():
        return JARS
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            missing_tool(f"{tool} is not installed; the broker tests need Java 17 and Maven, or KAFKA_BOOTSTRAP")
    JARS.mkdir(parents=True, exist_ok=True)
    (JARS / "pom.xml").write_text(POM)
    command = [
        "mvn",
        "-q",
        "-B",
        "-f",
        str(JARS / "pom.xml"),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={JARS}",
        "-DincludeScope=runtime",
    ]
    for attempt in (1, 2, 3):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
        if attempt == 3:
            missing_tool(f"Maven could not fetch Kafka {VERSION}: {done.stdout[-2000:]}")
    (JARS / "complete").touch()
    return JARS


class KafkaBroker:
    """One broker; a context manager. `stop` and `start` keep its data and its ports.

    Args:
        folder: for its data, its configuration and its log.
        properties: Kafka's, beside our own and stronger than them.
        listeners: names of more listeners and their security protocols, e.g. `{"SCRAM": "SASL_SSL"}`. What else they need
            is among the properties; `PLAINTEXT`, which the broker itself and the tests use, is always there.
    """

    def __init__(
        self, folder: Path, properties: Mapping[str, str] | None = None, listeners: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self._controller_port = free_port()
        self._protocols = dict(listeners or {})
        self._ports = {name: free_port() for name in self._protocols}
        self._properties = dict(properties or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    def address(self, listener: str, host: str = "127.0.0.1") -> str:
        """host:port of one of the other listeners."""
        return f"{host}:{self._ports[listener]}"

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> KafkaBroker:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._format()
        try:
            self.start()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(signal.SIGKILL)

    def _config(self) -> dict[str, str]:
        ours = [f"{name}://127.0.0.1:{port}" for name, port in {"PLAINTEXT": self.port, **self._ports}.items()]
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **self._protocols}
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": ",".join([*ours, f"CONTROLLER://127.0.0.1:{self._controller_port}"]),
            "advertised.listeners": ",".join(ours),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.folder / "logs"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "log.cleaner.enable": "false",
            "log.retention.ms": "-1",  # the records of many tests bear old times
        } | self._properties

    def _java(self, main: str, *arguments: str) -> list[str]:
        logging = self.folder / "log4j.properties"
        logging.write_text(
            "log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.out.layout=org.apache.log4j.PatternLayout\n"
            "log4j.appender.out.layout.ConversionPattern=%d %p %m %c%n\n"
        )
        options = [
            "-Xmx512m",
            "-Xms256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=4",
            f"-Dlog4j.configuration=file:{logging}",
        ]
        return ["java", *options, "-cp", f"{kafka_jars()}/*", main, *arguments]

    def _format(self) -> None:
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._config().items()))
        command = self._java("kafka.tools.StorageTool", "format", "-t", "Z2Fud2F0Y2gtdGVzdHMtMA", "-c", str(properties))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Starts the broker and waits until it answers."""
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self.folder / "server.properties")), stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"Kafka did not start: {(self.folder / 'broker.log').read_text()[-3000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        """Whether the broker lists its topics, which it does once it has joined its own cluster."""
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.5):
                pass
            admin = KafkaAdminClient(
                bootstrap_servers=self.bootstrap, bootstrap_timeout_ms=1000, request_timeout_ms=2000
            )
        except (OSError, KafkaError):
            return False
        try:
            admin.list_topics()
        except (KafkaError, OSError):
            return False
        else:
            return True
        finally:
            admin.close()

    def freeze(self) -> None:
        """It says nothing any more; its connections stay."""
        self._process_or_fail().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._process_or_fail().send_signal(signal.SIGCONT)

    def revive(self) -> None:
        """It runs, whatever was done to it."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        else:
            self.thaw()

    def _process_or_fail(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def limit_producer(self, client_id: str, bytes_per_s: int | None) -> None:
        """So much from producers of a name, from now on, or as much as they like; the broker delays its answers for that."""
        change = ["--add-config", f"producer_byte_rate={bytes_per_s}"]
        command = self._java("kafka.admin.ConfigCommand", "--bootstrap-server", self.bootstrap, "--alter")
        command += change if bytes_per_s else ["--delete-config", "producer_byte_rate"]
        command += ["--entity-type", "clients", "--entity-name", client_id]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends the broker; its data stay."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=60)
            self._process = None
