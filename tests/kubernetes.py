"""Validates what is read as Kubernetes objects, and prints them as JSON.

Those that Kubernetes has a schema of must match it strictly, in the oldest and the newest version
that are meant to take them. Those of other makers are left to the reader.
"""

import json
import sys

import kubernetes_validate
import yaml

VERSIONS = ("1.29", "1.37")
ELSEWHERE = (
    "gateway.envoyproxy.io/v1alpha1",
    "gateway.networking.k8s.io/v1",
    "kustomize.config.k8s.io/v1beta1",
    "monitoring.coreos.com/v1",
)

objects = list(yaml.safe_load_all(sys.stdin))
for thing in objects:
    if thing["apiVersion"] not in ELSEWHERE:
        for version in VERSIONS:
            kubernetes_validate.validate(thing, version, strict=True)
json.dump(objects, sys.stdout)
