"""What starts clusters elsewhere, held against the schemas of those who will read it.

Each file is sound, and stops being so for every mistake that is planted in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from support.kuberay import RayCluster, RayJob
from support.paths import ROOT

CLUSTER = ROOT / "cluster"
KUBERNETES = "1.34"  # whose schemas are used


def tool(name: str) -> str:
    """A command of this environment or of the machine; without it the test is skipped."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return found or pytest.skip(f"{name} is not installed")


def run(*command: str, text: str) -> list[str]:
    """The lines of a checker that found fault with a text given on its standard input."""
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def schema_faults(content: Any, schema: dict[str, Any]) -> Iterator[str]:
    checker = pytest.importorskip("jsonschema").validators.validator_for(schema)(schema)
    yield from (error.message for error in checker.iter_errors(content))


def dockerfile(text: str) -> Iterator[str]:
    yield from run(tool("hadolint"), "-", text=text)
    lines = text.splitlines()
    if "USER 1000:1000" not in lines:
        yield "runs as root"
    if any("pip install" in line and "-c /src" not in line for line in lines):
        yield "installs what is not pinned"
    if "FROM python:3.11-slim-bookworm" not in lines:
        yield "the base image is another, or not pinned"


def slurm(text: str) -> Iterator[str]:
    yield from run(tool("shellcheck"), "-", text=text)
    if "umask 077" not in text or "RAY_AUTH_MODE=token" not in text:
        yield "the token is readable by others, or not asked for"


def compose(text: str) -> Iterator[str]:
    schemas = pytest.importorskip("check_jsonschema.builtin_schemas")
    content = yaml.safe_load(text)
    faults = list(schema_faults(content, schemas.get_builtin_schema("vendor.compose-spec")))
    yield from faults
    if faults:
        return
    for name, service in content["services"].items():
        if any(not port.startswith("127.0.0.1:") for port in service.get("ports", [])):
            yield f"{name}: published beyond this machine"
        if service["image"].partition(":")[2] in ("", "latest"):
            yield f"{name}: no version"
        for key, value in service.get("environment", {}).items():
            secret = any(word in key for word in ("PASSWORD", "SECRET", "TOKEN"))
            if (secret and not value.startswith("${")) or ":-" in value:
                yield f"{name}: {key} has a default"
        if "ray start" in service.get("command", ""):
            yield from ray_of_compose(name, service)


def ray_of_compose(name: str, service: dict[str, Any]) -> Iterator[str]:
    if service["environment"].get("RAY_AUTH_MODE") != "token":
        yield f"{name}: no token"
    if "--head" in service["command"] and "--num-cpus=0" not in service["command"]:
        yield f"{name}: trials on the head"


def kuberay(text: str) -> Iterator[str]:
    checker = pytest.importorskip("kubernetes_validate")
    for item in yaml.safe_load_all(text):
        if item["apiVersion"] != "ray.io/v1":
            yield from kubernetes(checker, item)
            continue
        model = {"RayCluster": RayCluster, "RayJob": RayJob}[item["kind"]]
        try:
            model.model_validate(item)
        except ValidationError as error:
            yield from (f"{fault['loc']}: {fault['msg']}" for fault in error.errors())
            continue
        if item["kind"] == "RayCluster":
            yield from ray_pods(checker, item["spec"])


def kubernetes(checker: Any, item: dict[str, Any]) -> Iterator[str]:
    try:
        checker.validate(item, KUBERNETES, strict=True)
    except checker.ValidationError as error:
        yield f"{item['kind']}: {error.message}"
    if "kind: Secret" in yaml.safe_dump(item):
        yield "a secret in the file"


def ray_pods(checker: Any, spec: dict[str, Any]) -> Iterator[str]:
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        template = {"apiVersion": "v1", "kind": "PodTemplate", "template": group["template"]}
        faults = list(kubernetes(checker, template))
        yield from faults
        for container in () if faults else group["template"]["spec"]["containers"]:
            security = container.get("securityContext", {})
            if not security.get("runAsNonRoot") or security.get("allowPrivilegeEscalation", True):
                yield f"{container['name']}: may be root"
    if spec["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        yield "trials on the head"


def aws(text: str) -> Iterator[str]:
    import ray.autoscaler

    config = yaml.safe_load(text)
    schema = Path(ray.autoscaler.__file__).parent / "ray-schema.json"
    faults = list(schema_faults(config, json.loads(schema.read_text())))
    yield from faults or launched(config)
    for who, commands in (("head", "head_start"), ("worker", "worker_start")):
        command = " ".join(config[f"{commands}_ray_commands"])
        if "RAY_AUTH_MODE=token" not in command:
            yield f"{who}: no token"


def launched(config: dict[str, Any]) -> Iterator[str]:
    """Faults of the machines that Ray's launcher asks a simulated EC2 for."""
    moto = pytest.importorskip("moto")
    with moto.mock_aws():
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
        from ray.autoscaler._private.aws.config import bootstrap_aws
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
        from ray.autoscaler._private.util import prepare_config
        from ray.autoscaler.node_launch_exception import NodeLaunchException

        edit(config)
        refusals = (BotoCoreError, ClientError, ValueError, KeyError, SystemExit)
        try:
            config = AWSNodeProvider.fillout_available_node_types_resources(prepare_config(config))
            config = bootstrap_aws(config)
            provider = AWSNodeProvider(config["provider"], config["cluster_name"])
            for name, node in config["available_node_types"].items():
                provider.create_node(node["node_config"], {"ray-node-type": name}, 1)
        except (*refusals, NodeLaunchException) as error:
            yield repr(error)
            return
        ec2 = boto3.client("ec2")
        for made in ec2.describe_instances()["Reservations"]:
            yield from machine(ec2, made["Instances"][0])
        kinds = config["available_node_types"]
        if not kinds["worker"]["resources"].get("GPU") or kinds["head"]["resources"]["CPU"]:
            yield "no GPU on workers, or trials on the head"


def edit(config: dict[str, Any]) -> None:
    """What a user prepares and fills in where the file says EDIT."""
    import boto3

    ec2, iam = boto3.client("ec2"), boto3.client("iam")
    group = ec2.create_security_group(GroupName="diffsweep", Description="own")["GroupId"]
    mine = [{"CidrIp": "198.51.100.7/32"}]
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": mine}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
    for name, node in config["available_node_types"].items():
        made = iam.create_instance_profile(InstanceProfileName=f"diffsweep-{name}")
        wanted = node["node_config"].get("IamInstanceProfile", {})
        if wanted.get("Arn", "").endswith(f"/diffsweep-{name}"):
            wanted["Arn"] = made["InstanceProfile"]["Arn"]
        if "SecurityGroupIds" in node["node_config"]:
            node["node_config"]["SecurityGroupIds"] = [group]


def machine(ec2: Any, instance: dict[str, Any]) -> Iterator[str]:
    kind = next(tag["Value"] for tag in instance["Tags"] if tag["Key"] == "ray-node-type")
    if instance["MetadataOptions"]["HttpTokens"] != "required":
        yield f"{kind}: metadata without a session token"
    if (instance.get("InstanceLifecycle") == "spot") != (kind == "worker"):
        yield f"{kind}: spot where it should not be, or not where it should"
    if not instance.get("IamInstanceProfile", {}).get("Arn", "").endswith(f"/diffsweep-{kind}"):
        yield f"{kind}: not its own profile"
    ids = [group["GroupId"] for group in instance["SecurityGroups"]]
    for group in ec2.describe_security_groups(GroupIds=ids)["SecurityGroups"]:
        if "0.0.0.0/0" in str(group["IpPermissions"]):
            yield f"{kind}: open to the world"


FAULTS: dict[str, Callable[[str], Iterator[str]]] = {
    "Dockerfile": dockerfile,
    "aws.yaml": aws,
    "compose.yaml": compose,
    "kuberay.yaml": kuberay,
    "slurm.sh": slurm,
}
PLANTED = [
    ("Dockerfile", "USER 1000:1000\n", ""),
    ("Dockerfile", "-c /src/cluster/constraints.txt torch", "torch"),
    ("Dockerfile", "FROM python:3.11-slim-bookworm", "FROM python"),
    ("Dockerfile", "WORKDIR /home/diffsweep", "WORKDIR home"),
    ("aws.yaml", "max_workers: 8\nidle", "max_worker: 8\nidle"),
    ("aws.yaml", "region: us-east-1", "region: 5"),
    ("aws.yaml", "HttpTokens: required", "HttpToken: required"),
    ("aws.yaml", "HttpTokens: required", "HttpTokens: optional"),
    ("aws.yaml", "      SecurityGroupIds: [sg-00000000000000000]\n", ""),
    ("aws.yaml", "InstanceMarketOptions: {MarketType: spot}\n", ""),
    ("aws.yaml", "profile/diffsweep-worker", "profile/diffsweep-head"),
    ("aws.yaml", "InstanceType: g6.xlarge", "InstanceType: g6.xlrge"),
    ("aws.yaml", "resources: {CPU: 0}", "resources: {}"),
    ("aws.yaml", "export RAY_AUTH_MODE=token", "export"),
    ("compose.yaml", "environment:", "enviroment:"),
    ("compose.yaml", "service_healthy", "service_helthy"),
    ("compose.yaml", "127.0.0.1:5000:5000", "5000:5000"),
    ("compose.yaml", "{S3_SECRET_KEY:?set S3_SECRET_KEY in cluster/.env}", "{S3_SECRET_KEY:-any}"),
    ("compose.yaml", "seaweedfs:4.48", "seaweedfs"),
    ("compose.yaml", "RAY_AUTH_MODE: token", "RAY_AUTH_MODE: disabled"),
    ("compose.yaml", "--num-cpus=0", ""),
    ("kuberay.yaml", '"2.60.0"', "2.60"),
    ("kuberay.yaml", 'num-cpus: "0"', "num-cpus: 0"),
    ("kuberay.yaml", "authOptions: {mode: token, ", "authOptions: {mode: tokens, "),
    ("kuberay.yaml", "authOptions:", "authOption:"),
    ("kuberay.yaml", "version: v2", "verison: v2"),
    ("kuberay.yaml", "containerPort: 8265", "containerport: 8265"),
    ("kuberay.yaml", "runAsNonRoot: true", "runAsNonRoot: false"),
    ("kuberay.yaml", "readinessProbe:", "readynessProbe:"),
    ("kuberay.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: Ingress"),
    ("kuberay.yaml", "entrypoint: diffsweep", "entryPoint: diffsweep"),
    ("slurm.sh", '"$address:$port"', "$address:$port"),
    ("slurm.sh", "umask 077\n", ""),
]


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without keys, whose folder takes the ssh key that Ray's launcher makes."""
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", FAULTS)
def test_manifest_is_sound(name: str) -> None:
    assert list(FAULTS[name]((CLUSTER / name).read_text())) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "right", "wrong"), PLANTED)
def test_planted_mistake_is_found(name: str, right: str, wrong: str) -> None:
    text = (CLUSTER / name).read_text()
    assert right in text
    assert list(FAULTS[name](text.replace(right, wrong)))


def test_image_takes_no_secret_along() -> None:
    ignored = (CLUSTER.parent / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert ignored.index("**/.env") > ignored.index("!cluster")
