"""The chart by the real Helm, and what it makes by the schemas of Kubernetes. One JSON object a question on standard input, one a
line on standard output.

{"lint": CHART}                              -> {"messages": […]}
{"package": CHART, "to": FOLDER}             -> {"file": PATH}
{"install": CHART, "values": {…}}            -> {"documents": […]} or {"error": TEXT}
{"load": FILE}                               -> {"documents": […]}
{"validate": [DOCUMENT, …]}                  -> {"versions": […], "problems": […], "unknown": [KIND, …]}
"""

import asyncio
import json
import sys
import tempfile

import helm_sdkpy
import kubernetes_validate
import yaml
from cluster import Cluster

# Minor version.
OLDEST = 27


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def lint(chart, kubeconfig):
    with helm_sdkpy.Configuration(kubeconfig=kubeconfig) as config:
        return asyncio.run(helm_sdkpy.Lint(config).run(chart))


def package(chart, to, kubeconfig):
    with helm_sdkpy.Configuration(kubeconfig=kubeconfig) as config:
        return {"file": asyncio.run(helm_sdkpy.Package(config).run(chart, to))}


def install(chart, values, kubeconfig):
    with helm_sdkpy.Configuration(namespace="voice-agent", kubeconfig=kubeconfig) as config:
        try:
            release = asyncio.run(helm_sdkpy.Install(config).run("voice-agent", chart, values or None, wait=False))
        except helm_sdkpy.HelmError as error:
            return {"error": str(error)}
        return {"documents": documents(release["manifest"])}


def validate(all):
    newest = int(kubernetes_validate.latest_version().split(".")[1])
    versions = [f"1.{minor}" for minor in range(OLDEST, newest + 1)]
    problems, unknown = [], set()
    for version in versions:
        for document in all:
            try:
                kubernetes_validate.validate(document, version, True)
            except kubernetes_validate.SchemaNotFoundError:
                unknown.add(document["kind"])
            except kubernetes_validate.ValidationError as error:
                where = "/".join(str(part) for part in error.path)
                problems.append(f"{version} {document['kind']} {where}: {error.message}")
    return {"versions": versions, "problems": problems, "unknown": sorted(unknown)}


def answer(question):
    with tempfile.TemporaryDirectory() as folder, Cluster(folder) as kubeconfig:
        match question:
            case {"lint": chart}:
                return lint(chart, kubeconfig)
            case {"package": chart, "to": to}:
                return package(chart, to, kubeconfig)
            case {"install": chart, "values": values}:
                return install(chart, values, kubeconfig)
            case {"load": file}:
                with open(file) as text:
                    return {"documents": documents(text.read())}
            case {"validate": all}:
                return validate(all)
    raise SystemExit(f"no such question: {question}")


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
