"""A scrape as the official Prometheus client reads it, and the series that documents, alerts and dashboards name."""

import json
import re
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parent.parent.parent
ALERTS = ROOT / "packaging/prometheus/alerts.yml"
DASHBOARD = ROOT / "packaging/grafana/keymux.json"


class Scrape:
    """One scrape. The parser refuses what is not OpenMetrics: doubled series, unknown suffixes, buckets that fall."""

    def __init__(self, text: str):
        self.text = text
        self.samples: dict[tuple, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, *sorted(sample.labels.items()))
                assert key not in self.samples, f"twice: {key}"
                self.samples[key] = sample.value
        self.names = {key[0] for key in self.samples}

    def sum(self, name: str, /, **labels: str) -> float:
        """All series of a name that have these labels, added up."""
        wanted = set(labels.items())
        return sum(value for key, value in self.samples.items() if key[0] == name and wanted <= set(key[1:]))

    def by(self, label: str, name: str, /, **labels: str) -> dict[str, float]:
        """The same by the values of one more label."""
        of_name = [dict(key[1:]) for key in self.samples if key[0] == name]
        found = {one[label] for one in of_name if labels.items() <= one.items()}
        return {value: self.sum(name, **labels, **{label: value}) for value in found}

    def counters(self) -> dict[tuple, float]:
        """Everything that may only grow."""
        return {key: value for key, value in self.samples.items() if re.search("_(total|count|sum|bucket)$", key[0])}


def documented() -> dict[str, tuple[str, list[str]]]:
    """Kind and labels of each metric of docs/metrics.md."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| ", (ROOT / "docs/metrics.md").read_text(), re.M)
    return {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows}


def series(text: str) -> set[str]:
    """The names of our series in PromQL."""
    return set(re.findall(r"\b(?:keymux|process)_\w+", text))


def panels() -> list[dict]:
    """All panels of the dashboard, those in rows too."""
    found = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        found += [panel, *panel.get("panels", [])]
    return found


def asked() -> set[str]:
    """The series that alerts and panels ask for."""
    rules = "\n".join(re.findall(r"expr: (.*?)\n\s+(?:for|labels):", ALERTS.read_text(), re.S))
    return series(rules) | {name for panel in panels() for t in panel.get("targets", []) for name in series(t["expr"])}
