from pathlib import Path

from asyncstore import StoreAmbiguousObjectError
from asyncstore.sync import Registry, Store

r1 = Registry(backend=Path("store_a"), version_objects=True, mutable=True)
r2 = Registry(backend=Path("store_b"), version_objects=True, mutable=True)
store = Store(mounts={"a": r1, "b": r2}, default_location="a")
store.save("a/model:resnet", {"acc": 0.92})
store.save("b/model:vit", {"acc": 0.95})
print(store.load("a/model:resnet"))
print(store.load("b/model:vit"))

store.save("b/data:item1", "hello")
print(store.load("data:item1"))  # discovered in b

store.save("a/shared:item", 1)
store.save("b/shared:item", 2)
try:
    store.load("shared:item")
except StoreAmbiguousObjectError as error:
    print("Ambiguous as expected:", error)
print(store.load("a/shared:item"))  # explicit location works

store = Store()  # one local mount, "default"
store.save("default/demo:item", {"ok": True})  # and again: a second run works too
print(store.load("default/demo:item"))
