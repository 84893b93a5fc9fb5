"""Tests against a real Ceph cluster: ``python -m nox -s ceph``."""
