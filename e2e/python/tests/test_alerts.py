"""The alert rules do what their tests say, each has a runbook, and the dashboard shows every metric there is."""

import json
import re
import shutil
import subprocess

import pytest

import scrapes


def promtool(*argv: str) -> str:
    """Runs it where the rules are. A missing one is an error that says so."""
    found = shutil.which("promtool")
    assert found, "promtool is not installed: scripts/need e2e installs Debian's package prometheus"
    done = subprocess.run([found, *argv], cwd=scrapes.ALERTS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> dict[str, str]:
    """The text of each alert's rule."""
    parts = re.split(r"^      - alert: (\w+)$", scrapes.ALERTS.read_text(), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_rules_are_rules_and_do_what_their_tests_say():
    assert f"{len(alerts())} rules found" in promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts.test.yml")


@pytest.mark.parametrize("name", alerts())
def test_each_alert_has_its_tests_and_its_section_in_the_runbook(name):
    tests = (scrapes.ALERTS.parent / "alerts.test.yml").read_text().split("      - ")
    of_it = [case for case in tests if f"alertname: {name}" in case]
    assert any("exp_labels" in case or "exp_alerts:\n" in case for case in of_it), "a case in which it fires"
    rule = alerts()[name]
    assert f"runbook: docs/operations.md#{name.lower()}\n" in rule
    assert re.search(r"severity: (critical|warning|info)", rule) and "summary:" in rule
    sections = re.split(r"^### (\w+)$", (scrapes.ROOT / "docs/operations.md").read_text(), flags=re.M)[1:]
    section = dict(zip(sections[::2], sections[1::2], strict=True)).get(name, "")
    assert len(section.split()) >= 20, f"docs/operations.md has no section ### {name} that says what to do"


def test_the_runbook_has_no_section_of_an_alert_that_is_no_more():
    sections = re.findall(r"^### (Keymux\w+)$", (scrapes.ROOT / "docs/operations.md").read_text(), re.M)
    assert sorted(sections) == sorted(alerts())


def test_the_dashboard_is_one_and_its_queries_are_promql(tmp_path):
    panels = scrapes.panels()
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids)) > 30
    rules = []
    for panel in panels:
        assert panel["title"] and panel["gridPos"]["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["description"] and panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
            rules.append({"record": f"panel:{panel['id']}:{target['refId']}", "expr": target["expr"].replace("$__rate_interval", "5m")})
    # JSON is YAML.
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))
    places = [panel["gridPos"] for panel in panels]
    cells = [(p["x"] + dx, p["y"] + dy) for p in places for dx in range(p["w"]) for dy in range(p["h"])]
    assert len(cells) == len(set(cells)), "panels lie over each other"


def test_every_metric_has_a_place_on_the_dashboard():
    shown = {name for panel in scrapes.panels() for t in panel.get("targets", []) for name in scrapes.series(t["expr"])}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    assert set(scrapes.documented()) - shown == set()
