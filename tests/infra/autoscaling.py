"""Application Auto Scaling, as much as Terraform's provider needs; the embedded endpoint has none.

It keeps scalable targets and policies and never scales anything.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_KEY = ("ServiceNamespace", "ResourceId", "ScalableDimension")


class AutoscalingStore:
    """Scalable targets and policies by their keys."""

    def __init__(self) -> None:
        self.targets: dict[tuple[str, ...], dict[str, Any]] = {}
        self.policies: dict[tuple[str, ...], dict[str, Any]] = {}
        self.tags: dict[str, dict[str, str]] = {}

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer to an operation by its name in the API. Raises KeyError for one that is not known."""
        return {
            "RegisterScalableTarget": self._register,
            "DeregisterScalableTarget": self._deregister,
            "DescribeScalableTargets": self._describe_targets,
            "PutScalingPolicy": self._put_policy,
            "DeleteScalingPolicy": self._delete_policy,
            "DescribeScalingPolicies": self._describe_policies,
            "ListTagsForResource": self._list_tags,
            "TagResource": self._tag,
        }[operation](asked)

    def _register(self, asked: dict[str, Any]) -> dict[str, Any]:
        arn = f"arn:aws:application-autoscaling:us-east-1:000000000000:scalable-target/{len(self.targets)}"
        before = self.targets.get(_key(asked), {"ScalableTargetARN": arn, "RoleARN": "", "CreationTime": 0})
        self.targets[_key(asked)] = before | {name: asked[name] for name in asked if name != "Tags"}
        arn = before["ScalableTargetARN"]
        if "Tags" in asked:
            self._tag({"ResourceARN": arn, "Tags": asked["Tags"]})
        return {"ScalableTargetARN": arn}

    def _tag(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.tags.setdefault(asked["ResourceARN"], {}).update(asked["Tags"])
        return {}

    def _list_tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": self.tags.get(asked["ResourceARN"], {})}

    def _deregister(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.targets.pop(_key(asked), None)
        return {}

    def _describe_targets(self, asked: dict[str, Any]) -> dict[str, Any]:
        wanted = asked.get("ResourceIds")
        found = [each for each in self.targets.values() if not wanted or each["ResourceId"] in wanted]
        return {"ScalableTargets": found}

    def _put_policy(self, asked: dict[str, Any]) -> dict[str, Any]:
        arn = f"arn:aws:autoscaling:us-east-1:000000000000:scalingPolicy:{asked['PolicyName']}"
        self.policies[(*_key(asked), asked["PolicyName"])] = {**asked, "PolicyARN": arn, "CreationTime": 0}
        return {"PolicyARN": arn, "Alarms": []}

    def _delete_policy(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.policies.pop((*_key(asked), asked["PolicyName"]), None)
        return {}

    def _describe_policies(self, asked: dict[str, Any]) -> dict[str, Any]:
        wanted = asked.get("PolicyNames")
        found = [each for each in self.policies.values() if not wanted or each["PolicyName"] in wanted]
        return {"ScalingPolicies": found}


def _key(asked: dict[str, Any]) -> tuple[str, ...]:
    return tuple(asked[name] for name in _KEY)


@contextmanager
def autoscaling(host: str = "127.0.0.1") -> Iterator[str]:
    """Serve Application Auto Scaling on a free port until the block ends. Yields its URL."""
    store = AutoscalingStore()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(store.answer(self.headers["X-Amz-Target"].split(".")[1], asked)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Nothing: the test reports what failed."""

    with ThreadingHTTPServer((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
