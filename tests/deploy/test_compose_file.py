"""What `docker-compose.yml` promises: nothing public, nobody root, no secrets, and only settings that exist."""

from __future__ import annotations

import re
import subprocess

import pytest

from monitor.model.schema import Schema
from monitor.settings import load_settings
from tests.deploy.compose import COMPOSE_FILE, DEPLOY, GANWATCH_BIN, ROOT, load_compose, mounts, runs_ganwatch
from tests.kafka_broker import missing_tool
from training.payment_stream import FEATURES_TOML, payments_schema

COMPOSE = load_compose()
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if runs_ganwatch(service)}
# Kafka's image writes its configuration into its own root file system when it starts.
WRITABLE = {"kafka"}
# These end when their work is done, so there is nothing to check the health of.
ONE_SHOT = {"history", "trainer"}
UNPRIVILEGED_IMAGES = {"apache/kafka": "appuser", "prom/prometheus": "65534:65534", "grafana/grafana": "472"}

each_service = pytest.mark.parametrize("name", SERVICES)


def test_the_stack_has_its_parts() -> None:
    assert set(SERVICES) == {
        "kafka",
        "history",
        "trainer",
        "monitor",
        "retrainer",
        "simulator",
        "prometheus",
        "grafana",
    }


@each_service
def test_ports_are_published_on_loopback_only(name: str) -> None:
    assert [port for port in SERVICES[name].get("ports", []) if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []


@each_service
def test_no_service_is_root_or_may_become_it(name: str) -> None:
    service = SERVICES[name]
    image = service["image"].split(":")[0]
    assert service["user"] == ("10001:10001" if name in OURS else UNPRIVILEGED_IMAGES[image])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service) & {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"} == set()
    assert [
        mount for mount in mounts(service) if mount.source.startswith(("/", "~"))
    ] == []  # such as Docker's own socket


@each_service
def test_root_file_systems_are_read_only(name: str) -> None:
    service = SERVICES[name]
    if name in WRITABLE:
        assert "read_only" not in service
    else:
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108


@each_service
def test_images_of_others_are_pinned_to_a_release(name: str) -> None:
    if name in OURS:
        assert (ROOT / SERVICES[name]["build"]["dockerfile"]).is_file()
        assert (COMPOSE_FILE.parent / SERVICES[name]["build"]["context"]).resolve() == ROOT
    else:
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@each_service
def test_logs_do_not_fill_the_disk(name: str) -> None:
    assert SERVICES[name]["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


@each_service
def test_volumes_are_declared_or_exist_and_files_of_the_checkout_stay_as_they_are(name: str) -> None:
    for mount in mounts(SERVICES[name]):
        if mount.source.startswith("."):
            assert (DEPLOY / mount.source).exists()
            assert mount.read_only
        else:
            assert mount.source in COMPOSE["volumes"]


@each_service
def test_services_that_stay_have_a_health_check_and_come_back(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"] in {"no", "on-failure"}
        return
    assert service["restart"] == "unless-stopped"
    # The monitor's is part of its image; the simulator and the trainer answer nobody, and end when they cannot work.
    assert "healthcheck" in service or name in {"monitor", "retrainer", "simulator"}


@each_service
def test_dependencies_wait_for_more_than_a_started_process(name: str) -> None:
    for dependency, terms in SERVICES[name].get("depends_on", {}).items():
        assert terms["condition"] == ("service_completed_successfully" if dependency in ONE_SHOT else "service_healthy")
        # A service of a profile that is switched off must not keep this one from starting.
        switched_off = set(SERVICES[dependency].get("profiles", [])) and "profiles" not in SERVICES[name]
        assert not switched_off or terms["required"] is False


def test_without_a_profile_nothing_is_simulated_or_trained() -> None:
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {"kafka", "monitor", "prometheus", "grafana"}
    # `docker compose run trainer` switches on all profiles of the trainer: none of them may publish anything.
    assert SERVICES["trainer"]["profiles"] == ["train"]
    assert SERVICES["history"]["profiles"] == SERVICES["simulator"]["profiles"] == ["demo"]


def test_no_secret_is_in_the_file() -> None:
    variables = [key for service in SERVICES.values() for key in service.get("environment", {})]
    assert [key for key in variables if re.search("PASSWORD|SECRET|TOKEN|CREDENTIAL|_KEY$", key)] == []


@pytest.mark.parametrize("name", OURS)
def test_each_ganwatch_variable_is_a_setting_with_a_valid_value(name: str) -> None:
    environment = OURS[name]["environment"]
    assert all(isinstance(value, str) for value in environment.values())
    assert all(key.startswith("GANWATCH_") for key in environment)
    settings = load_settings(env=environment)
    assert settings.bootstrap_servers == "kafka:9092"


def test_the_monitor_reads_the_schema_and_the_registry_that_the_trainer_uses() -> None:
    settings = load_settings(env=SERVICES["monitor"]["environment"])
    command = SERVICES["trainer"]["command"]
    assert command[command.index("--schema") + 1] == settings.schema_path
    assert command[command.index("--registry") + 1] == settings.registry
    assert command[command.index("--data") + 1] == settings.features_topic
    for name in ("trainer", "monitor", "retrainer"):
        targets = {mount.target: mount.source for mount in mounts(SERVICES[name])}
        assert targets.items() >= {settings.schema_path: "./features.toml", settings.registry: "registry"}.items()


def test_the_schema_is_that_of_the_simulated_stream() -> None:
    assert (DEPLOY / "features.toml").read_text(encoding="utf-8") == FEATURES_TOML
    assert Schema.load(DEPLOY / "features.toml") == payments_schema()


def test_the_trainer_learns_from_what_the_monitor_archives_and_from_the_topic_of_its_events() -> None:
    monitor, retrainer = (load_settings(env=SERVICES[name]["environment"]) for name in ("monitor", "retrainer"))
    assert monitor.archive == retrainer.archive == "/archive"
    assert monitor.model_events_topic == retrainer.model_events_topic
    archives = [
        {mount.target: mount for mount in mounts(SERVICES[name])}["/archive"] for name in ("monitor", "retrainer")
    ]
    assert [(mount.source, mount.read_only) for mount in archives] == [("archive", False), ("archive", True)]


def test_the_monitor_publishes_the_port_it_listens_on_and_prometheus_scrapes() -> None:
    settings = load_settings(env=SERVICES["monitor"]["environment"])
    assert SERVICES["monitor"]["ports"] == [f"127.0.0.1:{settings.http_port}:{settings.http_port}"]
    assert f"monitor:{settings.http_port}" in (DEPLOY / "prometheus" / "prometheus.yml").read_text()


def test_the_monitor_is_given_more_time_to_stop_than_it_takes() -> None:
    settings = load_settings(env=SERVICES["monitor"]["environment"])
    assert float(SERVICES["monitor"]["stop_grace_period"].removesuffix("s")) > settings.shutdown_timeout_s


@pytest.mark.parametrize("name", OURS)
def test_each_ganwatch_command_has_the_options_it_is_given(name: str) -> None:
    if not GANWATCH_BIN.exists():
        missing_tool("ganwatch is not installed in this environment")
    # `--help` acts after all options have been looked up and before anything is done.
    done = subprocess.run([GANWATCH_BIN, *OURS[name]["command"], "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
