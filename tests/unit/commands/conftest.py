import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "flwr", "tensorboard", "numpy", "gguf", "safetensors", "huggingface_hub")


@pytest.fixture(scope="session")
def loaded_after():
    """loaded_after(argv): which heavy packages a process has loaded that ran this command line and nothing else."""

    def run(argv):
        script = (
            f"import sys; from edgeai.cli import main; main({argv!r}); "
            f"print('loaded:', *[name for name in {HEAVY!r} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1].split()[1:]

    return run
