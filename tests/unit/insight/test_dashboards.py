# SPDX-License-Identifier: Apache-2.0
"""Alert rules and dashboard: every name in them exists, and the rules say what they should."""

import itertools
import json
import pathlib
import re
import shutil
import subprocess
import typing as ty

import pytest
import yaml
from manual import insight

ROOT = pathlib.Path(__file__).resolve().parents[3]
RULES = ROOT / "etc/prometheus/rbd-worker.rules.yml"
RULE_TESTS = ROOT / "tests/fixtures/prometheus/rbd-worker.test.yml"
DASHBOARD = ROOT / "etc/grafana/rbd-worker.json"

#: What Prometheus itself adds to each series.
_ADDED = {"instance", "job"}
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


def series() -> dict[str, set[str]]:
    """Every series of a worker, with its labels."""
    return {metric.name + suffix: {*metric.labels, *({"le"} if suffix == "_bucket" else ())}
            for metric in insight.metrics() for suffix in _SUFFIXES.get(metric.kind, ("",))}


def rules() -> list[dict[str, ty.Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, ty.Any]]:
    return [p for p in json.loads(DASHBOARD.read_text())["panels"] if p["type"] != "row"]


def expressions() -> dict[str, str]:
    found = {rule["alert"]: rule["expr"] for rule in rules()}
    for panel in panels():
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


@pytest.mark.parametrize("expression", expressions().values(), ids=expressions())
def test_every_metric_and_label_that_is_asked_for_exists(expression: str) -> None:
    known = series()
    asked = re.findall(r"\b(rbd_worker_\w+)(?:\{([^}]*)\})?", expression)
    assert asked or re.search(r"\b(up|process_\w+)\{", expression)
    for name, labels in asked:
        assert name in known
        assert set(re.findall(r"(\w+)\s*=", labels)) <= known[name] | _ADDED
    grouped = {label for by in re.findall(r"by \(([^)]*)\)", expression)
               for label in by.split(", ")}
    assert grouped <= _ADDED.union(*(known[name] for name, _ in asked))


def test_every_metric_is_shown_or_asked_for() -> None:
    """A metric that nobody looks at is not worth its series."""
    everything = " ".join(expressions().values())
    metrics = {re.sub("_(bucket|sum|count)$", "", name) for name in series()}
    assert {name for name in metrics if name not in everything} <= {"rbd_worker_trash_items"}


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("info", "warning")
        assert len(rule["annotations"]["description"]) > 40
        for command in re.findall(r"rbd-workerctl ([a-z]+)", rule["annotations"]["description"]):
            assert (ROOT / "rbd_worker/cli" / f"{command}.py").exists()


def test_every_alert_is_tested_with_figures() -> None:
    text = RULE_TESTS.read_text()
    quiet = {one["alertname"] for one in yaml.safe_load(text)["tests"][0]["alert_rule_test"]}
    assert quiet == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert text.count(rule["alert"]) >= 2


def test_panels_of_the_dashboard_have_their_own_place() -> None:
    for one, other in itertools.combinations((p["gridPos"] for p in panels()), 2):
        assert (one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
                or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"])
    assert len({p["id"] for p in panels()}) == len(panels())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here")
@pytest.mark.parametrize("argv", [("check", "rules", str(RULES)),
                                  ("test", "rules", str(RULE_TESTS))], ids=lambda argv: argv[0])
def test_promtool_agrees(argv: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *argv], text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
