"""One registry: named, versioned objects on one backend."""

from asyncstore.registry.api import AsyncRegistry
from asyncstore.registry.streams import ObjectReader, ObjectWriter

__all__ = ["AsyncRegistry", "ObjectReader", "ObjectWriter"]
