"""Engines and storage that are real, each started once for all tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from tests.support.partitions import TOKEN
from tests.support.ports import free_port

# Where the tools of S3 look for them: settle() takes no secrets.
KEYS = {"AWS_ACCESS_KEY_ID": "the-id", "AWS_SECRET_ACCESS_KEY": "a-key-that-nothing-may-show"}
# What starts fast is better here than what runs fast once it is warm.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
ANSWERS_WITHIN_S = 120.0


@dataclass(frozen=True)
class ObjectStorage:
    """A real S3.

    Attributes:
        url: A bucket of it.
        options: What opens it, besides `KEYS` in the environment.
    """

    url: str
    options: dict[str, str]


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token and the keys, where the driver finds them, and workers that it starts."""
    for name, value in {"PING_DATA_AUTH_TOKEN": TOKEN, **KEYS}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStorage]:
    """SeaweedFS, whose conditional writes are atomic, as those of S3 are."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        pytest.skip("SeaweedFS is missing: `scripts/test --lake` brings it")
    place = tmp_path_factory.mktemp("seaweedfs")
    identity = {
        "name": "test",
        "credentials": [dict(zip(("accessKey", "secretKey"), KEYS.values(), strict=True))],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (place / "s3.json").write_text(json.dumps({"identities": [identity]}))
    services = ("master", "volume", "filer", "s3")
    ports = {f"-{name}.port{kind}": free_port() for name in services for kind in ("", ".grpc")}
    words: list[str | Path] = [
        weed, "-logtostderr=true", "server", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", f"-dir={place}", "-master.volumeSizeLimitMB=64", "-volume.max=20",
        "-s3", f"-s3.config={place / 's3.json'}", "-s3.port.iceberg=0",
        *(f"{option}={port}" for option, port in ports.items()),
    ]  # fmt: skip
    endpoint = f"http://127.0.0.1:{ports['-s3.port']}"
    with (
        (place / "log").open("wb") as log,
        subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT) as server,
    ):
        try:
            _wait_for(endpoint, server)
            options = {"endpoint": endpoint, "region": "us-east-1", "allow_http": "true"}
            yield ObjectStorage("s3://lake", options)
        finally:
            server.kill()


def _wait_for(endpoint: str, server: subprocess.Popen[bytes]) -> None:
    """Until it answers, if only that nobody may list its buckets without a key."""
    until = time.monotonic() + ANSWERS_WITHIN_S
    while time.monotonic() < until:
        assert server.poll() is None, "it has ended; see its log"
        try:
            with urlopen(f"{endpoint}/"):
                return
        except HTTPError:
            return
        except URLError:
            time.sleep(0.1)
    pytest.fail(f"{endpoint} does not answer")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session with two executors, processes of their own, of one core each."""
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        absent = "Java is missing: `scripts/prepare lake` installs it for root on Debian"
        pytest.fail(absent) if os.environ.get("CI") else pytest.skip(absent)
    place = tmp_path_factory.mktemp("spark")
    settings = {
        "spark.driver.extraJavaOptions": JAVA_OPTIONS,
        "spark.driver.memory": "512m",
        "spark.eventLog.compress": "false",
        "spark.eventLog.dir": place.as_uri(),
        "spark.eventLog.enabled": "true",
        "spark.eventLog.rolling.enabled": "false",
        "spark.executor.extraJavaOptions": JAVA_OPTIONS,
        "spark.executorEnv.PING_DATA_AUTH_TOKEN": TOKEN,
        **{f"spark.executorEnv.{name}": value for name, value in KEYS.items()},
        "spark.sql.shuffle.partitions": "2",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        for name in ("PING_DATA_AUTH_TOKEN", *KEYS):  # Spark's own processes hand theirs down
            context.delenv(name, raising=False)
        context.setenv("PYSPARK_PYTHON", sys.executable)
        context.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        context.setenv("SPARK_LOCAL_DIRS", str(place))
        builder = sql.SparkSession.builder.master("local-cluster[2,1,1024]")
        for name, value in settings.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("FATAL")
        try:
            yield session
        finally:
            session.stop()
