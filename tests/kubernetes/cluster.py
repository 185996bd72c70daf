"""What Helm needs of a Kubernetes API server to install a chart: discovery, and a place that takes what is sent.

It stands beside the real Helm (helm-sdkpy), which renders and judges everything; this only says yes.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# API group and version -> kinds, their plural names, namespaced or not.
APIS = {
    "v1": [("ConfigMap", "configmaps"), ("ServiceAccount", "serviceaccounts"), ("Secret", "secrets"), ("Namespace", "namespaces")],
    "apps/v1": [("DaemonSet", "daemonsets")],
    "monitoring.coreos.com/v1": [("PodMonitor", "podmonitors"), ("PrometheusRule", "prometheusrules")],
}


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def path_only(self):
        return self.path.split("?")[0].rstrip("/")

    def do_GET(self):
        path = self.path_only()
        discovery = self.discovery(path)
        if discovery:
            return self.answer(200, discovery)
        if path in self.server.objects:
            return self.answer(200, self.server.objects[path])
        if path.split("/")[-1] in {plural for kinds in APIS.values() for _, plural in kinds}:
            return self.answer(200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": []})
        self.answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})

    def discovery(self, path):
        if path == "/version":
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [api.split("/") for api in APIS if "/" in api]
            versions = [{"groupVersion": "/".join(gv), "version": gv[1]} for gv in groups]
            of = [{"name": gv[0], "versions": [v], "preferredVersion": v} for gv, v in zip(groups, versions)]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": of}
        api = path.removeprefix("/apis/").removeprefix("/api/")
        if api in APIS:
            resources = [
                {"name": plural, "singularName": kind.lower(), "namespaced": kind != "Namespace", "kind": kind,
                 "verbs": ["get", "list", "create", "update", "patch", "delete"]}
                for kind, plural in APIS[api]
            ]
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api, "resources": resources}
        return None

    def take(self):
        text = self.rfile.read(int(self.headers["Content-Length"]))
        if "json" not in self.headers["Content-Type"]:
            # Helm's own record of the release, in protobuf; nobody asks for it again.
            return self.answer(201, {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "release"}})
        body = json.loads(text)
        path = self.path_only()
        name = body["metadata"]["name"]
        self.server.objects[path if path.endswith("/" + name) else f"{path}/{name}"] = body
        self.answer(201, body)

    do_POST = do_PUT = do_PATCH = take


class Cluster:
    """`with Cluster() as kubeconfig:` a server on a port of its own, and the file that names it."""

    def __init__(self, folder):
        self.file = f"{folder}/kubeconfig"

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        self.server.objects = {}
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{self.server.server_port}"
        with open(self.file, "w") as file:
            json.dump({
                "apiVersion": "v1", "kind": "Config", "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": address}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "users": [{"name": "test", "user": {}}],
            }, file)
        return self.file

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
