#!/usr/bin/env bash
# What talkie computes on a GPU, and how fast: checked against its CPU path, measured beside diffusers. See benches/README.md.
#
#   benches/gpu.sh [--talkie BINARY] [--out FOLDER] [--only PART…] [--device cuda|cpu] [--tiny] …      --help lists the rest
#
# Needs a built talkie and a Python with PyTorch (PYTHON names another one than python3), and for comparisons diffusers.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}

fail() {
    echo "error: $1" >&2
    echo "  try: $2" >&2
    exit 2
}

command -v "$python" >/dev/null || fail "there is no \`$python\`" "PYTHON=/path/to/python $0 $*"
"$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' ||
    fail "\`$python\` has no PyTorch, which makes the weights" "pip install torch, or another Python with PYTHON="

# The CUDA libraries that PyTorch brings along: a machine without the toolkit has no others.
libraries=$("$python" - <<'PYTHON'
from importlib.util import find_spec
from pathlib import Path

found = [spec for name in ("nvidia", "torch") if (spec := find_spec(name))]
roots = [Path(root) for spec in found for root in spec.submodule_search_locations]
folders = [folder for root in roots for folder in (*sorted(root.glob("*/lib")), root / "lib")]
folders += map(Path, ("/usr/local/nvidia/lib64", "/usr/local/cuda/lib64"))
print(":".join(str(folder) for folder in folders if folder.is_dir()))
PYTHON
)
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export PYTHONUNBUFFERED=1

exec "$python" "$here/gpu/bench.py" "$@"
