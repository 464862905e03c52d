"""The Helm chart, rendered by Helm itself: one pod that runs as nobody, probes that the gateway answers, a configuration
that it takes, and no secret anywhere."""

import json
import subprocess
import tomllib
import urllib.request
from pathlib import Path

import pytest
import yaml

import harness
import raw

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "packaging/helm/keymux"
SECRETS = {"KEYMUX_TOKEN": "km-test-token", "KEYMUX_ADMIN_TOKEN": "km-test-admin", "OPENROUTER_API_KEY": "sk-test-or"}


def helm(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([harness.binary("HELM_BIN"), *words], capture_output=True, text=True, timeout=60)


def rendered(*settings: str) -> dict[tuple[str, str], dict]:
    """What Kubernetes would get, by kind and name."""
    done = helm("template", "gw", str(CHART), *(word for one in settings for word in ("--set", one)))
    assert done.returncode == 0, done.stderr
    things = [thing for thing in yaml.safe_load_all(done.stdout) if thing]
    return {(thing["kind"], thing["metadata"]["name"]): thing for thing in things}


def pod(things: dict) -> tuple[dict, dict]:
    spec = things["Deployment", "gw-keymux"]["spec"]["template"]["spec"]
    return spec, spec["containers"][0]


def test_helm_has_nothing_to_say_against_it():
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert chart["appVersion"] == cargo["workspace"]["package"]["version"]


def test_one_pod_that_may_do_nothing_else_and_holds_no_secret():
    things = rendered("fileSecrets[0]=or.keys")
    kinds = sorted(kind for kind, _ in things)
    assert kinds == ["ConfigMap", "Deployment", "PersistentVolumeClaim", "PodDisruptionBudget", "Service", "Service"]
    deployment = things["Deployment", "gw-keymux"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    spec, container = pod(things)
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] == 65532
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # The image's own user, folder and command.
    dockerfile = (ROOT / "packaging/docker/Dockerfile").read_text()
    assert "USER 65532:65532" in dockerfile and 'ENTRYPOINT ["/keymux"]' in dockerfile
    assert container["envFrom"] == [{"secretRef": {"name": "keymux"}}]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"config": "/etc/keymux", "data": "/data", "secret-or-keys": "/etc/keymux-secrets/or.keys"}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert set(volumes) == set(mounts) and volumes["data"]["persistentVolumeClaim"]["claimName"] == "gw-keymux"
    assert volumes["secret-or-keys"]["secret"]["secretName"] == "or.keys"
    labels = deployment["template"]["metadata"]["labels"]
    budget = things["PodDisruptionBudget", "gw-keymux"]["spec"]
    for chooses in (deployment["selector"], budget["selector"]):
        assert chooses["matchLabels"].items() <= labels.items()
    for name, port in (("gw-keymux", "http"), ("gw-keymux-admin", "admin")):
        service = things["Service", name]["spec"]
        assert service["selector"].items() <= labels.items()
        assert [p["targetPort"] for p in service["ports"]] == [port]


def test_the_gateway_takes_the_configuration_and_answers_the_probes(tmp_path):
    things = rendered()
    _, container = pod(things)
    text = things["ConfigMap", "gw-keymux"]["data"]["keymux.toml"]
    server = tomllib.loads(text)["server"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (server["listen"], server["admin"]) == (f"0.0.0.0:{ports['http']}", f"0.0.0.0:{ports['admin']}")
    grace_s = things["Deployment", "gw-keymux"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > int(server["drain"].removesuffix("s"))
    config = tmp_path / "keymux.toml"
    config.write_text(text.replace("0.0.0.0:4000", "127.0.0.1:0").replace("0.0.0.0:4001", "127.0.0.1:0"))
    env = harness.clean_env(**SECRETS, KEYMUX_DATA_DIR=str(tmp_path / "data"))
    check = subprocess.run(
        [harness.binary("KEYMUX_BIN"), "check", "--config", str(config)], capture_output=True, text=True, env=env
    )
    assert check.returncode == 0 and "-->" not in check.stderr, f"no line of it is warned of: {check.stderr}"
    assert container["args"] == ["serve", "--config", "/etc/keymux/keymux.toml"]
    words = ("serve", "--config", str(config), "--print-addr")
    process = harness.Process(harness.binary("KEYMUX_BIN"), *words, env=env)
    try:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            wanted = container[probe]["httpGet"]
            assert wanted["port"] == "http"
            # A kubelet calls the pod by its address.
            request = urllib.request.Request(
                f"http://{process.addresses['listen']}{wanted['path']}", headers={"Host": "10.244.1.7:4000"}
            )
            with urllib.request.urlopen(request, timeout=raw.PATIENCE_S) as answer:
                assert answer.status == 200
    finally:
        assert process.stop() == 0, process.log()


def test_what_is_switched_is_switched():
    things = rendered("persistence.enabled=false", "podDisruptionBudget.enabled=false", "serviceMonitor.enabled=true")
    assert not {"PersistentVolumeClaim", "PodDisruptionBudget"} & {kind for kind, _ in things}
    spec, _ = pod(things)
    assert {"name": "data", "emptyDir": {}} in spec["volumes"]
    monitor = things["ServiceMonitor", "gw-keymux"]["spec"]
    service = things["Service", "gw-keymux-admin"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    clients = things["Service", "gw-keymux"]["metadata"]["labels"]
    assert not monitor["selector"]["matchLabels"].items() <= clients.items()
    [endpoint] = monitor["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"] and endpoint["path"] == "/metrics"
    assert endpoint["authorization"]["credentials"] == {"name": "keymux", "key": "KEYMUX_ADMIN_TOKEN"}
    mine = rendered("persistence.existingClaim=mine")
    assert ("PersistentVolumeClaim", "gw-keymux") not in mine
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}} in pod(mine)[0]["volumes"]


@pytest.mark.parametrize(
    "setting, place",
    [("service.port=99999", "/service/port"), ("replicas=3", "replicas"), ("persistence.size=2", "/persistence/size")],
)
def test_what_cannot_be_meant_is_refused(setting, place):
    done = helm("template", "gw", str(CHART), "--set", setting)
    assert done.returncode != 0 and place in done.stderr


def test_the_schema_knows_every_value():
    """A value without a schema could be misspelt and would be ignored."""

    def missing(values, schema, path=""):
        for name, value in values.items():
            known = schema.get("properties")
            if known is None:
                continue
            if name not in known:
                yield f"{path}/{name}"
            elif isinstance(value, dict):
                yield from missing(value, known[name], f"{path}/{name}")

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert list(missing(values, schema)) == []
