"""Servers that tests and benchmarks talk to, every one on 127.0.0.1 and a port that was free.

- :mod:`tests.servers.moto`: moto's S3, an implementation that is not ours.
- :mod:`tests.servers.counting_s3`: a small S3 that counts requests and misbehaves on command;
  :class:`tests.servers.control.Control` commands it.
- :mod:`tests.servers.fault_proxy`: stands before any of them and breaks what passes through.
- :mod:`tests.servers.ceph`: a real cluster, with daemons to stop and to kill.

:class:`tests.servers.process.Server` runs one as a child process, :mod:`tests.servers.fixtures` has
the fixtures, and :mod:`tests.servers.client` a client with nothing of asyncstore in it.
"""
