"""What the fake W&B server does besides runs: artifacts, saved views, sweeps."""

import base64
import itertools
import json
from dataclasses import dataclass, field

import yaml

ENTITY = "somebody"


def project(name):
    return {"name": name, "id": name, "entity": {"name": ENTITY, "id": ENTITY}}


@dataclass
class Artifact:
    """One version of an artifact."""

    id: str
    type: str
    name: str
    digest: str
    metadata: dict
    made_by: str
    used_by: list = field(default_factory=list)
    aliases: list = field(default_factory=list)
    state: str = "PENDING"
    files: dict = field(default_factory=dict)


class Artifacts:
    """Needs `artifacts`, by id, and `url`."""

    def artifact(self, name):
        """The only version of an artifact."""
        (found,) = [artifact for artifact in self.artifacts.values() if artifact.name == name]
        return found

    def on_ArtifactType(self, sent):
        return {"project": None}

    def on_XXHashDigestsEnabled(self, sent):
        return {"entity": {"xxhashDigestsEnabled": False}}

    def on_CreateArtifact(self, sent):
        name, digest = sent["artifactCollectionName"], sent["digest"]
        same = [each for each in self.artifacts.values() if (each.name, each.digest) == (name, digest)]
        if same:
            artifact = same[0]
        else:
            # The client insists on the alphabet of real ids, which are base64.
            number = base64.b64encode(f"Artifact:{len(self.artifacts)}".encode()).decode()
            metadata = json.loads(sent.get("metadata") or "{}")
            artifact = Artifact(number, sent["artifactTypeName"], name, digest, metadata, sent["runName"])
            self.artifacts[number] = artifact
        aliases = [alias["alias"] for alias in sent.get("aliases") or []]
        artifact.aliases = sorted({*artifact.aliases, *aliases})
        return {"createArtifact": {"artifact": self._created(artifact)}}

    def _created(self, artifact):
        return {"id": artifact.id, "state": artifact.state, "artifactSequence": {"latestArtifact": None}}

    def on_CreateArtifactManifest(self, sent):
        url = f"{self.url}/storage/manifest/{sent['artifactID']}"
        file = {"id": "file", "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "manifest", "file": file}}}

    def on_CreateArtifactFiles(self, sent):
        nodes = [
            {
                "storagePath": spec["name"],
                "uploadUrl": f"{self.url}/artifact/{spec['artifactID']}/{spec['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": spec["artifactID"]},
            }
            for spec in sent["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def on_CommitArtifact(self, sent):
        artifact = self.artifacts[sent["artifactID"]]
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def on_ArtifactByID(self, sent):
        artifact = self.artifacts[sent["id"]]
        sequence = {"__typename": "ArtifactSequence", "id": artifact.id, "name": artifact.name, "project": None}
        return {
            "artifact": {
                "__typename": "Artifact",
                "id": artifact.id,
                "artifactSequence": sequence,
                "versionIndex": 0,
                "artifactType": {"name": artifact.type},
                "description": None,
                "metadata": json.dumps(artifact.metadata),
                "ttlDurationSeconds": -2,
                "ttlIsInherited": True,
                "tags": [],
                "historyStep": None,
                "state": artifact.state,
                "size": 0,
                "digest": artifact.digest,
                "commitHash": None,
                "fileCount": len(artifact.files),
                "createdAt": "2026-01-01T00:00:00Z",
                "updatedAt": None,
                "aliases": [],
            }
        }

    def on_UseArtifact(self, sent):
        artifact = self.artifacts[sent["artifactID"]]
        if sent["runName"] not in artifact.used_by:
            artifact.used_by.append(sent["runName"])
        return {"useArtifact": {"artifact": {"id": artifact.id}}}


class ViewsAndSweeps:
    """Needs `views`, a list, and `sweeps`, by name."""

    def on_UpsertView2(self, sent):
        self.views.append(sent)
        return {"upsertView": {"view": {"id": "VmlldzoxMjM=", "name": sent.get("name", "")}, "inserted": True}}

    def on_UpsertSweep(self, sent):
        name = f"sweep{len(self.sweeps)}"
        config = yaml.safe_load(sent["config"])
        axes = {key: each.get("values", [each.get("value")]) for key, each in config["parameters"].items()}
        points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        self.sweeps[name] = {"config": sent["config"], "points": points, "project": sent["projectName"]}
        sweep = {"name": name, "project": project(sent["projectName"])}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def on_SweepWithRuns(self, sent):
        config = self.sweeps[sent["sweep"]]["config"]
        facts = {"id": sent["sweep"], "name": sent["sweep"], "method": "grid", "state": "RUNNING", "config": config}
        return {"project": {"sweep": {**facts, "runs": {"edges": []}}}}

    def on_CreateAgent(self, sent):
        return {"createAgent": {"agent": {"id": sent["sweep"]}}}

    def on_Heartbeat(self, sent):
        """Hand out the next point of the grid when the agent is idle, and send it home after the last."""
        points, commands = self.sweeps[sent["id"]]["points"], []
        if not any(json.loads(sent["runState"]).values()):
            point = points.pop(0) if points else None
            args = {key: {"value": value} for key, value in (point or {}).items()}
            commands = [
                {"type": "run", "run_id": f"point{len(points)}", "program": "", "args": args}
                if point
                else {"type": "exit"}
            ]
        return {"agentHeartbeat": {"agent": {"id": sent["id"]}, "commands": json.dumps(commands)}}
