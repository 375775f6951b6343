#!/bin/sh
# Builds the wheel, installs it without extras into an empty virtual environment and runs it from an empty folder.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --quiet --wheel --outdir "$work" "$root"
rm -rf "$root/build"
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check -c "$root/deploy/constraints.txt" "$work"/*.whl
cd "$work"
"$work/venv/bin/ganwatch" --help >/dev/null
"$work/venv/bin/ganwatch" run --list-settings >/dev/null
printf 'amount,city\n1.5,Rome\n2.5,Oslo\n' >sample.csv
"$work/venv/bin/ganwatch" init --from sample.csv
"$work/venv/bin/ganwatch" train --data sample.csv 2>error && { echo "train without its extra must fail"; exit 1; }
grep -q "ganwatch\[train\]" error || { cat error; exit 1; }
if "$work/venv/bin/python" -c 'import tensorflow' 2>/dev/null; then echo "the base install must not bring TensorFlow"; exit 1; fi
"$python" - ./*.whl <<'EOF'
import sys, zipfile
tops = {name.split("/")[0] for name in zipfile.ZipFile(sys.argv[1]).namelist()}
extra = {top for top in tops if top not in {"monitor", "training"} and not top.endswith(".dist-info")}
sys.exit(f"the wheel holds more than monitor and training: {sorted(extra)}" if extra else 0)
EOF
echo "wheel: $(ls ./*.whl) runs from an empty environment"
