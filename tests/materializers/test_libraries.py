"""No library is imported before it is needed, and a missing one is named with its extra."""

from __future__ import annotations

import pytest

from tests.materializers.support import run_python

LIBRARIES = {
    "numpy", "pandas", "polars", "pyarrow", "torch", "safetensors", "PIL", "pydantic",
    "cloudpickle",
}  # fmt: skip

DECODED = [
    ("numpy", "numpy", "data.npy", "numpy"),
    ("numpy-dict", "numpy", "keys.json", "numpy"),
    ("pandas", "pandas", "pandas.json", "pandas"),
    ("pandas", "pyarrow", "pandas.json", "pandas"),
    ("polars", "polars", "data.parquet", "polars"),
    ("pyarrow", "pyarrow", "data.parquet", "pyarrow"),
    ("torch", "torch", "", "torch"),
    ("pillow", "PIL", "", "pillow"),
    ("pydantic", "pydantic", "data.json", "pydantic"),
    ("cloudpickle", "cloudpickle", "data.pkl", "cloudpickle"),
]

FILES = {
    "torch": '{"data.safetensors": b"", "tensors.json": b""}',
    "pillow": '{"data.png": b"", "image.json": b""}',
}


def test_importing_and_opening_imports_no_library() -> None:
    script = """
        import asyncio, sys
        from asyncstore import AsyncRegistry

        async def main():
            async with AsyncRegistry("memory://", allow_pickle=True) as registry:
                await registry.save("a", {"b": [1, 2.5]})
                await registry.save("c", [object])  # which only pickle takes
                await registry.load("a")

        def refused(call):
            try:
                call()
            except TypeError:
                pass

        refused(lambda: asyncio.run(main()))
        print(*sorted({name.partition(".")[0] for name in sys.modules}))
    """
    assert set(run_python(script).split()) & LIBRARIES == set()


@pytest.mark.parametrize(("id", "module", "path", "extra"), DECODED)
def test_a_missing_library_is_named_with_its_extra(
    id: str, module: str, path: str, extra: str
) -> None:
    files = FILES.get(id, f'{{"{path}": b"[]"}}')
    script = f"""
        import sys

        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == {module!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name={module!r})

        sys.meta_path.insert(0, Missing())
        from asyncstore.errors import MaterializationError
        from asyncstore.materializers import Encoded, default_materializers

        one = default_materializers(allow_pickle=True).by_id({id!r})
        try:
            one.decode(Encoded({files}), None)
        except MaterializationError as error:
            print(error)
    """
    message = run_python(script)
    if module not in message and "is not installed" in message:
        pytest.skip(f"another library is missing, too: {message}")
    assert f'pip install "asyncstore[{extra}]"' in message
    assert f"package {module}" in message


def test_a_broken_library_is_said_to_be_installed() -> None:
    script = """
        import sys

        class Broken:
            def find_spec(self, name, path=None, target=None):
                if name == "numpy":
                    raise ImportError("libfoo.so: cannot open shared object file")

        sys.meta_path.insert(0, Broken())
        from asyncstore.materializers import Encoded, NumpyMaterializer

        try:
            NumpyMaterializer().decode(Encoded({"data.npy": b""}), None)
        except TypeError as error:
            print(error)
    """
    assert "installed but cannot be imported (libfoo.so" in run_python(script)
