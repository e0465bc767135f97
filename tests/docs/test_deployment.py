"""The files in examples/deployment, as far as they can be checked without running them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import fields_dict

from klineagent.cli.serve import serve
from klineagent.config.loading import load_config
from klineagent.config.model import Config
from tests.places import ROOT

pytestmark = pytest.mark.deployment

DEPLOYMENT = ROOT / "examples" / "deployment"
UNIT = DEPLOYMENT / "klineagent.service"
DOCKERFILE = DEPLOYMENT / "Dockerfile"
PORTS = {Config().command_bind.port, Config().status_bind.port}
OPTIONS = {name for each in serve.params for name in each.opts}
PAGE = DEPLOYMENT.parents[1] / "docs" / "deployment.md"
KLINEAGENT = Path(sys.executable).with_name("klineagent")


def _yaml(name: str) -> Any:
    return yaml.safe_load((DEPLOYMENT / name).read_text())


def _services() -> dict[str, Any]:
    services: dict[str, Any] = _yaml("compose.yaml")["services"]
    return services


def _unit() -> dict[str, list[str]]:
    lines = re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE)
    settings: dict[str, list[str]] = {}
    for name, value in lines:
        settings.setdefault(name, []).append(value)
    return settings


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines) if name]


def _assert_pinned(image: str) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+", image), f"{image}: which one is that tomorrow?"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """Every setting is valid, and together they confine the service."""
    unit = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/klineagent/bin/klineagent", str(KLINEAGENT))
    unit.write_text(text.replace("#MemoryDenyWriteExecute", "MemoryDenyWriteExecute"))
    for arguments in (["verify", "--man=no"], ["security", "--offline=yes", "--threshold=20"]):
        command = ["systemd-analyze", *arguments, str(unit)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        assert ended.stderr == ""


def test_the_unit_uses_options_that_exist() -> None:
    """And it matches the agent: readiness, reload, time to stop."""
    unit = _unit()
    (start,) = unit["ExecStart"]
    assert set(re.findall(r"--[\w-]+", start)) <= OPTIONS
    assert start.split()[1] == "serve"
    assert unit["Type"] == ["notify"]
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert int(unit["TimeoutStopSec"][0]) > Config().drain_timeout_s + 10
    assert unit["RestartPreventExitStatus"] == ["2"]


def test_the_units_configuration_can_be_used() -> None:
    """Its data is where the unit allows writing."""
    config = load_config({}, {}, DEPLOYMENT / "klineagent.toml")
    folder = f"/var/lib/{_unit()['StateDirectory'][0]}/"
    assert config.store.startswith(f"chdb://{folder}")
    assert str(config.spool_folder).startswith(folder)
    assert str(config.state_file).startswith(folder)
    assert tomllib.loads((DEPLOYMENT / "klineagent.toml").read_text()).keys() == {"klineagent"}


def test_the_image_is_small_pinned_and_without_root() -> None:
    """It has two stages of the same image; build tools stay in the first."""
    instructions = _instructions()
    bases = [rest.split()[0] for name, rest in instructions if name == "FROM"]
    assert len(bases) == 2
    for base in bases:
        _assert_pinned(base)
        assert "-slim" in base
    names = [name for name, _ in instructions]
    last = names[len(names) - names[::-1].index("FROM") :]
    assert {"USER", "HEALTHCHECK", "ENTRYPOINT", "WORKDIR", "VOLUME"} <= set(last)
    assert last.index("USER") < last.index("ENTRYPOINT")
    assert dict(instructions)["USER"] not in {"root", "0"}
    installs = [rest for name, rest in instructions if name == "RUN" and "pip install" in rest]
    assert installs
    assert all("--no-cache-dir" in rest for rest in installs)
    known = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE"}
    assert set(names) <= known | {"STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def test_the_image_agrees_with_the_agent() -> None:
    """On ports, variables, copied files, and the health check."""
    instructions = _instructions()
    exposed = next(rest for name, rest in instructions if name == "EXPOSE")
    assert {int(port) for port in exposed.split()} == PORTS
    for variable in re.findall(r"KLINEAGENT_(\w+)=", DOCKERFILE.read_text()):
        assert variable.lower() in fields_dict(Config)
    for copied in (rest for name, rest in instructions if name == "COPY" and "--from" not in rest):
        assert all((DEPLOYMENT.parents[1] / each).exists() for each in copied.split()[:-1])
    health = next(rest for name, rest in instructions if name == "HEALTHCHECK")
    assert f"127.0.0.1:{Config().status_bind.port}/live" in health
    (argument,) = re.findall(r'c", "(.*)"\]', health)
    compile(argument, "HEALTHCHECK", "exec")


def test_compose_names_things_that_exist() -> None:
    """Its options, variables, files, volumes, secrets and services exist."""
    document, services = _yaml("compose.yaml"), _services()
    agent = services["klineagent"]
    assert agent["command"][0] == "serve"
    assert {each for each in agent["command"] if each.startswith("-")} <= OPTIONS
    assert {name.removeprefix("KLINEAGENT_").lower() for name in agent["environment"]} <= (
        fields_dict(Config).keys()
    )
    for name, service in services.items():
        assert set(service.get("secrets", ())) <= document["secrets"].keys(), name
        assert service.get("depends_on", {}).keys() <= services.keys(), name
        assert ("image" in service) != ("build" in service), name
        if "image" in service:
            _assert_pinned(service["image"])
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            where = DEPLOYMENT / source
            assert where.is_file() if source.startswith(".") else source in document["volumes"]
    build = agent["build"]
    assert (DEPLOYMENT / build["context"] / build["dockerfile"]).resolve() == DOCKERFILE


def test_compose_opens_ports_to_this_machine_only() -> None:
    """Including the agent's default ports."""
    services = _services()
    ports = {name: [each.split(":") for each in it["ports"]] for name, it in services.items()}
    assert {host for each in ports.values() for host, *_ in each} == {"127.0.0.1"}
    assert {int(inner) for *_, inner in ports["klineagent"]} == PORTS
    assert {inner for *_, inner in ports["clickhouse"]} == {"9000"}


def test_the_agent_of_compose_can_start() -> None:
    """Its configuration is valid: with a token it may listen on all addresses."""
    environ = {
        name: re.sub(r"\$\{\w+:\?[^}]*\}", "password", value)
        for name, value in _services()["klineagent"]["environment"].items()
    }
    environ |= dict(re.findall(r"(KLINEAGENT_\w+)=(\S+)", DOCKERFILE.read_text()))
    config = load_config({}, environ, None)
    assert config.command_bind.host == "0.0.0.0"
    assert config.token_file == "/run/secrets/token"
    assert config.spool_folder is not None
    assert config.spool_folder.parent == Path("klineagent-spool").absolute()


def test_prometheus_and_grafana_find_each_other() -> None:
    """They use the services' names and ports; the job has the name that alerts expect."""
    prometheus = _yaml("prometheus.yml")
    (job,) = prometheus["scrape_configs"]
    assert job["job_name"] == "klineagent"
    assert job["static_configs"] == [{"targets": [f"klineagent:{Config().status_bind.port}"]}]
    mounted = {
        volume.split(":")[1] for each in _services().values() for volume in each.get("volumes", ())
    }
    assert {f"/etc/prometheus/{file}" for file in prometheus["rule_files"]} <= mounted
    (source,) = _yaml("grafana/datasources.yml")["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = _yaml("grafana/dashboards.yml")["providers"]
    assert f"{provider['options']['path']}/klineagent.json" in mounted


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", str(DOCKERFILE)],
        [
            *("check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(DEPLOYMENT / "compose.yaml"),
        ],
    ],
    ids=["hadolint", "compose-spec"],
)
def test_linters_find_nothing(command: list[str]) -> None:
    """Neither needs a daemon; both are installed with the tests."""
    program = str(Path(sys.executable).with_name(command[0]))
    ended = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return asked.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not _has_compose(), reason="no docker compose here")
def test_compose_accepts_its_file() -> None:
    """If docker compose is installed; this needs no daemon."""
    ended = subprocess.run(
        ["docker", "compose", "--file", str(DEPLOYMENT / "compose.yaml"), "config", "--quiet"],
        env={**os.environ, "CLICKHOUSE_PASSWORD": "x", "GRAFANA_PASSWORD": "x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_the_page_mentions_every_file() -> None:
    """Every file there is explained."""
    page = PAGE.read_text()
    files = [each.name for each in DEPLOYMENT.rglob("*") if each.is_file()]
    assert [name for name in files if name not in page] == []
