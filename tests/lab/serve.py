"""The services of a lab, on a host of their own: S3, PostgreSQL, and MLflow, which uses both.

python serve.py ADDRESS prints a line of JSON when they are up, and one in answer to each line on
stdin: ["kill", "s3"], ["start", "s3"], ["names", PREFIX] of objects in S3, or ["history", PREFIX]
of a search there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from support.services import BUCKET, S3, Mlflow, Postgres
from support.stored import history_in

from trainable.base.opening import open_storage

FOLDER = Path("/tmp/services")


def main(address: str) -> None:
    for name in ("s3", "postgres", "mlflow"):
        (FOLDER / name).mkdir(parents=True)
    s3, postgres = S3(FOLDER / "s3", address), Postgres(FOLDER / "postgres")
    s3.start()
    os.environ.update(s3.environment)
    postgres.start()
    where = (postgres.uri, f"s3://{BUCKET}/mlflow", s3.environment)
    mlflow = Mlflow(FOLDER / "mlflow", *where, address=address)
    mlflow.start()
    services: dict[str, Any] = {"s3": s3, "postgres": postgres, "mlflow": mlflow}
    client: Any = s3.client()
    say({"mlflow": mlflow.uri, "environment": s3.environment, "storage": f"s3://{BUCKET}/lab"})
    for line in sys.stdin:
        verb, name = json.loads(line)
        if verb in ("kill", "start"):
            getattr(services[name], verb)()
            say(None)
        elif verb == "names":
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=name)
            say([found["Key"] for page in pages for found in page.get("Contents", ())])
        elif verb == "history":
            say(history_in(open_storage(f"s3://{BUCKET}/{name}")).decode())
    os._exit(0)  # the power goes next


def say(content: Any) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
