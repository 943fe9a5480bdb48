"""Reads Prometheus's text format from standard input as Prometheus does, and prints it as JSON: each family with its
type, its help and its samples.

Usage: metrics.py < TEXT
"""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.name not in families, f"{family.name} comes twice"
    samples = [{"name": sample.name, "labels": sample.labels, "value": sample.value} for sample in family.samples]
    series = [(sample["name"], tuple(sorted(sample["labels"].items()))) for sample in samples]
    assert len(series) == len(set(series)), f"{family.name} has a sample twice"
    families[family.name] = {"type": family.type, "help": family.documentation, "samples": samples}
print(json.dumps(families))
