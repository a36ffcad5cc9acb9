"""The fields of KubeRay 1.6 that kuberay.yaml uses; any other is refused.

Written after KubeRay's reference of the ray.io/v1 types, since no package brings its schema.
Pod templates are Kubernetes' own and checked as such.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=47)  # KubeRay's own limits


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Strict):
    name: str = Name
    namespace: str
    labels: dict[str, str] = {}


class AuthOptions(Strict):
    mode: Literal["token"]
    secretName: str


class SecretKey(Strict):
    name: str
    key: str


class ValueFrom(Strict):
    secretKeyRef: SecretKey


class Password(Strict):
    valueFrom: ValueFrom


class GcsFaultToleranceOptions(Strict):
    redisAddress: str
    redisPassword: Password


class AutoscalerOptions(Strict):
    version: Literal["v2"]
    idleTimeoutSeconds: int
    securityContext: dict[str, Any]


class HeadGroup(Strict):
    rayStartParams: dict[str, str]
    template: dict[str, Any]


class WorkerGroup(HeadGroup):
    groupName: str
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=0)


class ClusterSpec(Strict):
    rayVersion: Literal["2.60.0"]
    authOptions: AuthOptions
    gcsFaultToleranceOptions: GcsFaultToleranceOptions
    enableInTreeAutoscaling: Literal[True]
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]


class JobSpec(Strict):
    clusterSelector: dict[Literal["ray.io/cluster"], str]
    submissionMode: Literal["K8sJobMode", "HTTPMode"]
    entrypoint: str
    entrypointNumCpus: float


class RayCluster(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec
