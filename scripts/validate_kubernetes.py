"""Validate launch/kubernetes: Kubernetes' own kinds, and custom ones by their definitions.

    python scripts/validate_kubernetes.py                 # own kinds, and the job of a TrainJob
    python scripts/validate_kubernetes.py CRD.yaml ...    # custom kinds too

Fields that are not known are faults. The definitions are Kubeflow's: manifests/base/crds/*.yaml
of kubeflow/trainer, and charts/spark-operator-chart/crds/*.yaml of kubeflow/spark-operator.
"""

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from launch.kubernetes.render import FOLDER, render

KUBERNETES_VERSION = "1.34"
CUSTOM_GROUPS = ("sparkoperator.k8s.io/", "trainer.kubeflow.org/")


def documents() -> Iterator[dict[str, Any]]:
    """All objects of all manifests, with the default knobs."""
    for path in sorted(FOLDER.glob("*.yaml")):
        yield from yaml.safe_load_all(render(path.stem))


def inner_jobs(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Kubernetes' own objects inside a TrainingRuntime."""
    if document["kind"] == "TrainingRuntime":
        for job in document["spec"]["template"]["spec"]["replicatedJobs"]:
            yield {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": job["name"]},
                "spec": job["template"]["spec"],
            }


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, which refuses fields that it does not name."""
    schema = copy.deepcopy(schema)
    stack: list[Any] = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            open_to_others = node.get("x-kubernetes-preserve-unknown-fields")
            if isinstance(node.get("properties"), dict) and not open_to_others:
                node.setdefault("additionalProperties", False)
            stack.extend(node.values())
    # CRDs leave these two open: Kubernetes itself checks them.
    for name in ("metadata", "status"):
        schema["properties"].pop(name, None)
        schema["properties"][name] = {}
    return schema


def custom_schemas(paths: list[Path]) -> dict[tuple[str, str], dict[str, Any]]:
    """The schemas in files of CRDs, by (apiVersion, kind)."""
    found = {}
    for path in paths:
        definition = yaml.safe_load(path.read_text())["spec"]
        for version in definition["versions"]:
            key = f"{definition['group']}/{version['name']}", definition["names"]["kind"]
            found[key] = strict(version["schema"]["openAPIV3Schema"])
    return found


def main() -> None:
    """Validate all; the first fault ends it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("crds", nargs="*", type=Path, help="files of CustomResourceDefinitions")
    schemas = custom_schemas(parser.parse_args().crds)
    for document in documents():
        name = f"{document['kind']} {document['metadata']['name']}"
        if (document["apiVersion"], document["kind"]) in schemas:
            jsonschema.validate(document, schemas[document["apiVersion"], document["kind"]])
            print(f"{name}: valid by its CRD")
        elif document["apiVersion"].startswith(CUSTOM_GROUPS):
            print(f"{name}: not validated, its CRD was not given")
        else:
            kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
            print(f"{name}: valid")
        for job in inner_jobs(document):
            kubernetes_validate.validate(job, KUBERNETES_VERSION, strict=True)
            print(f"{name}: its job is valid")


if __name__ == "__main__":
    main()
