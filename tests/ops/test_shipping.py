"""What docker/ says of Parley is true of it: routes, settings, ports, times and users. It runs no engine."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fixtures.service import settings_for

from parley.app import create_app
from parley.core.embedded.worker import AFTER_GRACE_S, Worker
from parley.settings import every_setting, load

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
MANIFESTS = sorted((DOCKER / "kubernetes").glob("*.yaml"))
USER = 10001
# Of the images of others.
FOREIGN = ("POSTGRES_", "REDIS_PASSWORD", "REDISCLI_AUTH", "GF_", "GRAFANA_")
SETTINGS = {name for setting in every_setting() for name in setting.env_names}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def compose() -> dict[str, Any]:
    return dict(read(DOCKER / "compose.yaml"))


def of_kind(kind: str) -> dict[str, Any]:
    [found] = [manifest for manifest in map(read, MANIFESTS) if manifest["kind"] == kind]
    return dict(found)


def dockerfile() -> list[list[str]]:
    """Return the instructions, each with what follows it."""
    whole = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in whole.splitlines() if line.strip()]


def instruction(name: str) -> str:
    return [rest for keyword, rest in dockerfile() if keyword == name][-1]


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    return dict(manifest["spec"]["template"]["spec"])


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_the_image_is_pinned_and_leaves_behind_what_built_it() -> None:
    bases = [rest for keyword, rest in dockerfile() if keyword == "FROM"]
    assert bases == ["python:${PYTHON} AS build", "python:${PYTHON}"]
    assert re.fullmatch(r"PYTHON=3\.11\.\d+-slim-\w+", instruction("ARG"))
    installs = [rest for keyword, rest in dockerfile() if keyword == "RUN" and '"install"' in rest]
    assert "--require-hashes" in installs[0]
    assert all("--no-cache-dir" in rest for rest in installs)
    last = [*dockerfile()][[keyword for keyword, _ in dockerfile()].index("FROM", 2) :]
    assert not any("pip" in rest or "apt" in rest for keyword, rest in last if keyword == "RUN")


def test_what_the_build_copies_is_let_through_and_nothing_more() -> None:
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = [rest.split()[:-1] for keyword, rest in dockerfile() if keyword == "COPY" and "--from" not in rest]
    named = {name for names in copied for name in names}
    assert named <= allowed
    assert all((ROOT / name).exists() for name in allowed)
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_it_runs_as_nobody_in_particular() -> None:
    assert instruction("USER") == f"{USER}:{USER}"
    assert f'"{USER}"' in [rest for keyword, rest in dockerfile() if keyword == "RUN"][-1]
    for kind in ("Deployment", "Job"):
        spec = pod(of_kind(kind))
        [container] = spec["containers"]
        assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["runAsUser"]) == (True, USER)
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"].keys() == {"requests", "limits"}
        assert spec["enableServiceLinks"] is False  # PARLEY_PORT=tcp://... is no port


def test_signals_reach_parley_itself() -> None:
    assert (json.loads(instruction("ENTRYPOINT")), json.loads(instruction("CMD"))) == (["parley"], ["serve"])
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_probes_ask_routes_that_are_there() -> None:
    settings = settings_for("postgresql://nobody@localhost/none", "redis://localhost/0")
    routes = {str(path) for path in create_app(settings).openapi()["paths"]}
    [container] = pod(of_kind("Deployment"))["containers"]
    asked = {container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"/health/live", "/health/ready"} <= routes
    assert "/health/live" in instruction("HEALTHCHECK")
    assert "/health/live" in compose()["services"]["nginx"]["healthcheck"]["test"][-1]


def test_ports_agree() -> None:
    port = re.search(r"PARLEY_PORT=(\d+)", instruction("ENV"))
    assert port is not None
    assert instruction("EXPOSE") == port[1]
    [container] = pod(of_kind("Deployment"))["containers"]
    assert str(container["ports"][0]["containerPort"]) == port[1]
    assert set(re.findall(r"server app-[ab]:(\d+)", (DOCKER / "nginx.conf").read_text())) == {port[1]}
    assert (
        "".join(read(DOCKER / "prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]).count(port[1])
        == 2
    )
    [published] = compose()["services"]["nginx"]["ports"]
    assert f"listen {published.split(':')[1]} " in (DOCKER / "nginx.conf").read_text()


def test_every_variable_is_a_setting() -> None:
    named = {name for name, _ in re.findall(r"(\w+)=(\S*)", instruction("ENV")) if name.startswith("PARLEY")}
    named |= set(of_kind("ConfigMap")["data"]) | set(of_kind("Secret")["stringData"])
    for service in compose()["services"].values():
        named |= set(service.get("environment", {}))
    named |= set(re.findall(r"^(\w+)=", (DOCKER / "parley.env.example").read_text(), re.MULTILINE))
    assert not {name for name in named - SETTINGS if not name.startswith(FOREIGN)}


def test_secrets_have_no_default() -> None:
    whole = (DOCKER / "compose.yaml").read_text()
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "PARLEY_AUTH_SECRETS", "GRAFANA_PASSWORD"):
        assert set(re.findall(rf"\${{{name}([^}}]*)}}", whole)) == {":?see parley.env.example"}, name
    assert not re.findall(r"^\w+=.+$", (DOCKER / "parley.env.example").read_text(), re.MULTILINE)
    assert set(of_kind("Secret")["stringData"].values()) == {""}


def test_who_is_stopped_is_given_the_time_it_may_take() -> None:
    """PARLEY_GRACEFUL_S, what follows it, and what Kubernetes' preStop takes before it."""
    default = load({}).server.graceful_s
    worker = Worker("worker", "none", [], {}, graceful_s=0)
    after_s = sum(patience_s for _, patience_s in worker.stop_steps)
    assert after_s >= AFTER_GRACE_S
    instance = compose()["services"]["app-a"]
    graceful_s = float(instance["environment"]["PARLEY_GRACEFUL_S"])
    assert seconds(instance["stop_grace_period"]) > graceful_s + after_s
    assert graceful_s == default
    spec = pod(of_kind("Deployment"))
    [before_s] = re.findall(r"sleep\((\d+)\)", spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    graceful_s = float(of_kind("ConfigMap")["data"]["PARLEY_GRACEFUL_S"])
    assert spec["terminationGracePeriodSeconds"] > float(before_s) + graceful_s + after_s


def test_nginx_waits_longer_than_parley_is_silent_and_takes_what_parley_takes() -> None:
    text, settings = (DOCKER / "nginx.conf").read_text(), load({})

    def told(name: str) -> float:
        [value] = re.findall(rf"^ +{name} (\d+)[sk]?;", text, re.MULTILINE)
        return float(value)

    assert told("proxy_read_timeout") > 3 * settings.chat.heartbeat_s
    assert told("proxy_read_timeout") > settings.chat.send_wait_s
    assert told("client_max_body_size") * 1024 == settings.server.body_limit_bytes
    upstream = re.search(r"keepalive_timeout (\d+)s;  # below PARLEY_KEEP_ALIVE_S", text)
    assert upstream is not None
    assert float(upstream[1]) < settings.server.keep_alive_s
    assert "$http_x_forwarded" not in text
    assert "proxy_add_x_forwarded_for" not in text


def test_the_composition_trusts_the_proxy_it_has_and_shows_metrics_to_prometheus() -> None:
    services = compose()["services"]
    environment = services["app-a"]["environment"]
    address = {
        name: service["networks"]["front"]["ipv4_address"]
        for name, service in services.items()
        if isinstance(service["networks"], dict) and (service["networks"].get("front") or {})
    }
    assert environment["PARLEY_TRUSTED_PROXIES"] == f"{address['nginx']}/32"
    assert environment["PARLEY_OPS_ALLOW"] == f"{address['prometheus']}/32"
    assert services["nginx"]["extra_hosts"] == [f"{name}:{address[name]}" for name in ("app-a", "app-b")]
    assert services["app-a"]["environment"] == services["app-b"]["environment"]


def test_what_the_composition_mounts_is_there() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), source
            else:
                assert source in compose()["volumes"]


def test_whoever_is_needed_is_waited_for_and_comes_back() -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed] or services[needed]["image"].startswith("parley:")


@pytest.mark.parametrize("name", [path.name for path in MANIFESTS])
def test_a_manifest_is_one_document_that_names_what_it_is(name: str) -> None:
    manifest = read(DOCKER / "kubernetes" / name)
    assert manifest["apiVersion"]
    assert manifest["kind"]
    if manifest["kind"] != "Kustomization":
        assert manifest["metadata"]["name"].startswith("parley")
    listed = read(DOCKER / "kubernetes" / "kustomization.yaml")["resources"]
    assert name in {*listed, "kustomization.yaml", "secret.template.yaml", "migrate.yaml"}


def test_images_are_pinned_by_a_whole_version() -> None:
    for service in compose()["services"].values():
        assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), service["image"]
