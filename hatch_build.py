"""Build hook: compiles the native runtime of spec into the wheel if there is a C++ compiler.

Without one the wheel is built all the same and runs everywhere; the runtime is then compiled on first use, if the
machine has a compiler. An editable install always compiles on first use.
"""

import shutil
import sysconfig
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("src/edgeai/spec/target/native")


class NativeRuntimeHook(BuildHookInterface):
    """See the head of this file."""

    PLUGIN_NAME = "custom"
    _scratch: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library and add it to the wheel, which then belongs to this platform."""
        if self.target_name != "wheel" or version == "editable":
            return
        compilation = _load(Path(self.root) / NATIVE / "compilation.py")
        self._scratch = tempfile.mkdtemp(prefix="edgeai-native-")
        library = Path(self._scratch) / compilation.library_name()
        try:
            compilation.compile_for_this_processor(library)
        except compilation.Unavailable as error:
            self.app.display_warning(f"the wheel does not hold the native runtime: {error}")
            return
        build_data["force_include"][str(library)] = f"edgeai/spec/target/native/{library.name}"
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary files."""
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _load(path: Path) -> ModuleType:
    """Import one file that needs nothing but the standard library."""
    spec = spec_from_file_location("edgeai_compilation", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
