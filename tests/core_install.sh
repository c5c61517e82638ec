#!/usr/bin/env bash
# What a virtual environment without extras must do: core_install.sh VENV. Works in a folder of its own.
set -euo pipefail
bin=$(cd "$1/bin" && pwd)
cd "$(mktemp -d)"

expect_hint() { # the command fails, and its message names the extra
    if "${@:2}" > output.txt 2>&1; then echo "succeeded without its extra: ${*:2}"; exit 1; fi
    grep -q "fairquant\[$1\]" output.txt || { cat output.txt; exit 1; }
}

"$bin/python" -c 'import fairquant; assert set(dir(fairquant)) == set(fairquant.__all__), dir(fairquant); fairquant.run, fairquant.load'
"$bin/fairquant" run quickstart --demo dataset.images=60 model.name=resnet10t model.image_size=32 tracking.mlflow=null
model=$(ls runs/quickstart-demo/*/model.safetensors)
expect_hint deploy "$bin/fairquant" export "$model" --activations fp32
expect_hint testing "$bin/fairquant" plugins --check
echo "core install: run, import and hints work without extras"
