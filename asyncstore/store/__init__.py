"""The store: many registries, one face."""

from asyncstore.store.api import AsyncStore

__all__ = ["AsyncStore"]
