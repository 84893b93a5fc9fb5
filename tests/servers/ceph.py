"""A real Ceph cluster with S3 gateways: no systemd, no containers, no configuration of the machine.

``python -m tests.servers.ceph`` starts one in a temporary folder, prints ``ready URL URL``, and
stays until it is ended. It takes the programs of four packages of Debian and Ubuntu::

    apt-get install --no-install-recommends ceph-mon ceph-osd radosgw ceph-common

The objects are in memory, in as many copies as there are daemons to keep them, so that stopping or
killing one is a fault that a client sees and the cluster survives.
"""

from __future__ import annotations

import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.process import (
    ServerError,
    child_environment,
    say_ready,
    wait_for_orphanhood,
)

_PROGRAMS = (
    "ceph",
    "ceph-authtool",
    "ceph-mon",
    "ceph-osd",
    "monmaptool",
    "radosgw",
    "radosgw-admin",
)
PACKAGES = ("ceph-mon", "ceph-osd", "radosgw", "ceph-common")

# What is not plain in it. An OSD that does not answer is out of the way after about 6 s, not 20
# (osd_heartbeat_*), on the word of one other (mon_osd_min_down_reporters). When a bucket is made or
# deleted, a gateway that died is waited for 5 s, not 30 (*_watch_timeout, *_notify_timeout).
# Sockets for administration are off, because their paths in the temporary folder of a test could be
# longer than a socket's path may be. Threads and pools are few, so that daemons start fast.
_CONFIGURATION = """\
[global]
fsid = {fsid}
run_dir = {folder}/run
admin_socket =
log_file = {folder}/log/$name.log
pid_file =
keyring = {folder}/keyring
mon_host = {monitor}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
public_network = 127.0.0.0/8
ms_bind_ipv6 = false
auth_allow_insecure_global_id_reclaim = false
osd_crush_chooseleaf_type = 0
osd_pool_default_size = {replicas}
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_heartbeat_interval = 1
osd_heartbeat_grace = 5
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
mon_data_avail_crit = 1
mon_data_avail_warn = 2
mon_warn_on_pool_no_redundancy = false
debug_mon = 0/0
debug_osd = 0/0
debug_ms = 0/0
debug_auth = 0/0
debug_monc = 0/0
debug_rocksdb = 0/0
[mon]
mon_data = {folder}/mon.a
mon_compact_on_start = false
paxos_min_wait = 0.01
paxos_propose_interval = 0.05
mon_osd_initial_require_min_compat_client = luminous
mon_osd_min_down_reporters = 1
mon_osd_reporter_subtree_level = osd
mon_osd_adjust_heartbeat_grace = false
mon_osd_down_out_interval = 30
[osd]
osd_data = {folder}/osd.$id
osd_objectstore = memstore
osd_class_load_list = *
osd_class_default_list = *
memstore_device_bytes = 6442450944
osd_fast_shutdown = true
osd_client_watch_timeout = 5
osd_default_notify_timeout = 5
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 2
[client]
rgw_dns_name =
client_notify_timeout = 5
rgw_enable_usage_log = false
rgw_enable_ops_log = false
rgw_enable_quota_threads = false
rgw_enable_lc_threads = false
rgw_thread_pool_size = 128
rgw_override_bucket_index_max_shards = 1
rgw_dynamic_resharding = false
rgw_relaxed_region_enforcement = true
debug_rgw = 0/0
debug_objecter = 0/0
"""


class Ceph:
    """A cluster of its own: one monitor, some OSDs (which keep the objects), some gateways.

    Everything listens on 127.0.0.1, at ports that were free. Addresses are of the path style, the
    region is us-east-1, and signatures are verified. When the process that started it dies, the
    daemons are killed too.

    Args:
        folder: an empty folder for its data, which stays.
        osds: how many daemons keep objects.
        replicas: how many of them keep each object. Writes go on while one is left.
        gateways: how many servers of S3 there are, all with the same objects.
    """

    access_key = "asyncstore"
    secret_key = "asyncstore-secret"

    def __init__(
        self, folder: Path, *, osds: int = 3, replicas: int = 3, gateways: int = 2
    ) -> None:
        self._folder = folder.absolute()
        self._osds = osds
        self._replicas = replicas
        self._gateway_ports = [0] * gateways
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def why_not() -> str | None:
        """Why it cannot be started on this machine, or None where it can."""
        if sys.platform != "linux":
            return f"Ceph runs on Linux, and this is {sys.platform}"
        missing = [program for program in _PROGRAMS if shutil.which(program) is None]
        if missing:
            return f"not installed: {', '.join(missing)} (packages {', '.join(PACKAGES)})"
        return None

    @property
    def endpoints(self) -> list[str]:
        """The URLs of the gateways, also of those that were killed."""
        return [f"http://127.0.0.1:{port}" for port in self._gateway_ports]

    def start(self) -> None:
        """Start everything, in a few seconds.

        Raises:
            ServerError: with what was printed. Nothing is left running.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill every daemon, waiting until they are gone: there is nothing worth saving."""
        for daemon in self._daemons.values():
            daemon.kill()  # which ends a stopped process too
        for daemon in self._daemons.values():
            daemon.wait()
        self._daemons.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop_osd(self, number: int) -> None:
        """Let an OSD stand still, as a machine that hangs: SIGSTOP."""
        self._daemons[f"osd.{number}"].send_signal(signal.SIGSTOP)

    def continue_osd(self, number: int) -> None:
        """Let an OSD that stands still go on."""
        self._daemons[f"osd.{number}"].send_signal(signal.SIGCONT)

    def kill_osd(self, number: int) -> None:
        """Kill an OSD, and what it had in memory with it."""
        self._kill(f"osd.{number}")

    def kill_gateway(self, number: int) -> None:
        """Kill a gateway, in the middle of what it does."""
        self._kill(f"gateway.{number}")

    def start_gateway(self, number: int) -> None:
        """Start a gateway that was killed, at the address it had; it answers when this returns."""
        self._launch_gateway(number)
        self._await_gateway(number)

    def osds_up(self) -> int:
        """How many OSDs the monitor takes to be working, which lags some seconds behind."""
        # Such as "3 osds: 2 up (since 4s), 3 in (since 9s); epoch: e27".
        words = self._run("ceph", "osd", "stat").replace(",", " ").split()
        return int(words[words.index("up") - 1])

    def wait_for_osds(self, number: int, seconds: float = 60.0) -> None:
        """Wait until the monitor takes exactly that many OSDs to be working."""
        self._wait(lambda: self.osds_up() == number, f"{number} OSDs to be up", seconds)

    def _start(self) -> None:
        why = self.why_not()
        if why is not None:
            raise ServerError(why)
        for name in ("log", "run", "mon.a"):
            (self._folder / name).mkdir(parents=True)
        guard = [sys.executable, "-m", "tests.servers.ceph", "--guard", str(self._folder)]
        self._launch("guard", guard, cwd=Path(__file__).parents[2])
        self._configure()
        self._start_monitor()
        self._start_osds()
        # Before the gateways, so that one process alone makes the pools that all of them share.
        keys = ["--access-key", self.access_key, "--secret-key", self.secret_key]
        user = ["--uid", "test", "--display-name", "test", "--max-buckets", "1000000"]
        self._run("radosgw-admin", "user", "create", *user, *keys)
        ports = _free_ports(len(self._gateway_ports))
        for number, port in enumerate(ports):
            self._gateway_ports[number] = port
            self._launch_gateway(number)
        for number in range(len(ports)):
            self._await_gateway(number)

    def _configure(self) -> None:
        """Write the configuration, the keys, and the map of the monitors."""
        v2, v1 = _free_ports(2)
        fsid = str(uuid.uuid4())
        monitor = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
        text = _CONFIGURATION.format(
            fsid=fsid, folder=self._folder, monitor=monitor, replicas=self._replicas
        )
        self._configuration.write_text(text)
        keys: dict[str, list[str]] = {
            "mon.": ["mon", "allow *"],
            "client.admin": ["mon", "allow *", "--cap", "osd", "allow *"],
        }
        for number in range(self._osds):
            keys[f"osd.{number}"] = ["mon", "allow profile osd", "--cap", "osd", "allow *"]
        for number in range(len(self._gateway_ports)):
            caps = ["mon", "allow rw", "--cap", "osd", "allow rwx"]
            keys[f"client.gateway.{number}"] = caps
        keyring = str(self._folder / "keyring")
        self._run("ceph-authtool", "--create-keyring", keyring)
        for name, caps in keys.items():
            self._run("ceph-authtool", keyring, "--gen-key", "-n", name, "--cap", *caps)
        monmap = str(self._folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitor, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)

    def _start_monitor(self) -> None:
        self._launch("mon", ["ceph-mon", "-f", "-i", "a"])
        self._wait(lambda: bool(self._run("ceph", "osd", "stat")), "the monitor", 30)

    def _start_osds(self) -> None:
        for number in range(self._osds):
            (self._folder / f"osd.{number}").mkdir()
            name = str(uuid.uuid4())
            self._run("ceph", "osd", "new", name)
            self._run("ceph-osd", "-i", str(number), "--mkfs", "--osd-uuid", name)
            self._launch(f"osd.{number}", ["ceph-osd", "-f", "-i", str(number)])
        self.wait_for_osds(self._osds)

    def _launch_gateway(self, number: int) -> None:
        # Without tcp_nodelay every answer with a body takes 40 ms more.
        where = f"beast endpoint=127.0.0.1:{self._gateway_ports[number]} tcp_nodelay=1"
        name = f"client.gateway.{number}"
        self._launch(f"gateway.{number}", ["radosgw", "-f", "-n", name, "--rgw-frontends", where])

    def _await_gateway(self, number: int) -> None:
        port = self._gateway_ports[number]
        daemon = self._daemons[f"gateway.{number}"]

        def answers() -> bool:
            if daemon.poll() is not None:
                raise ServerError(f"gateway {number} ended\n{self._printed(f'gateway.{number}')}")
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET", "/")
                return connection.getresponse().status == 200
            except OSError:
                return False
            finally:
                connection.close()

        self._wait(answers, f"gateway {number}", 60)

    @property
    def _configuration(self) -> Path:
        return self._folder / "ceph.conf"

    def _launch(self, name: str, command: list[str], cwd: Path | None = None) -> None:
        """Start a daemon, in a session of its own, so that Ctrl-C ends it in its turn."""
        with open(self._folder / "log" / f"{name}.out", "ab") as output:
            daemon = subprocess.Popen(
                command,
                cwd=cwd,
                env={**child_environment(), "CEPH_CONF": str(self._configuration)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._daemons[name] = daemon
        (self._folder / "run" / f"{name}.pid").write_text(str(daemon.pid))

    def _kill(self, name: str) -> None:
        daemon = self._daemons.pop(name)
        (self._folder / "run" / f"{name}.pid").unlink()
        daemon.kill()
        daemon.wait()

    def _run(self, *command: str) -> str:
        """Run a program of Ceph to its end; what it printed."""
        environment = {**os.environ, "CEPH_CONF": str(self._configuration)}
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        if result.returncode != 0:
            raise ServerError(f"{' '.join(command)}: {result.stderr or result.stdout}")
        return result.stdout

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise ServerError(f"waited {seconds} s for {what}\n{self._printed()}")
            time.sleep(0.05)

    def _printed(self, name: str = "*") -> str:
        """The end of what the daemons printed."""
        logs = sorted((self._folder / "log").glob(f"{name}.out"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in logs)


def _free_ports(number: int) -> list[int]:
    """Ports that nobody listens on.

    Ceph's programs want to be told theirs. They are not from the range that the system gives to
    outgoing connections, one of which could take the port of a gateway while that is not running.
    """
    found: list[int] = []
    while len(found) < number:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def _guard(folder: Path) -> None:
    """Wait for the end of the process that started the cluster, and kill what that left behind."""
    wait_for_orphanhood()
    for path in (folder / "run").glob("*.pid"):
        pid = int(path.read_text())
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # it has ended
        # The number may belong to somebody else by now.
        if pid != os.getpid() and str(folder).encode() in environment:
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Run a cluster until this process is ended, or the one that started it has."""
    if sys.argv[1:2] == ["--guard"]:
        _guard(Path(sys.argv[2]))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="ceph-") as folder, Ceph(Path(folder)) as ceph:
        say_ready(" ".join(ceph.endpoints))
        wait_for_orphanhood()


if __name__ == "__main__":
    main()
