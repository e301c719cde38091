"""What is installed from a wheel: the package with its data, and the migrations inside it."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_carries_migrations_and_package_data(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr

    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    migrations = {f"parley/_alembic/versions/{path.name}" for path in (ROOT / "alembic/versions").glob("*.py")}
    assert migrations | {"parley/_alembic/env.py", "parley/py.typed", "parley/core/embedded/guard.py"} <= names
    assert not {name for name in names if not name.startswith(("parley/", "parley-"))}


def test_the_folder_of_migrations_never_hides_the_library() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
