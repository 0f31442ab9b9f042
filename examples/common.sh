# What the example scripts share; they source it from the repository's root.
# shellcheck shell=bash

say() { printf '\n== %s\n' "$*"; }

# Stop, before anything is made, if a folder to be replaced was not written by a run.
check_run_folder() {
    [[ -e $1 ]] || return 0
    if [[ -d $1 ]]; then
        [[ -n $(ls -A "$1") ]] || return 0
        [[ -z $(find "$1/" -maxdepth 1 -name pipeline.config -o -name 'model.ckpt-*') ]] || return 0
    fi
    echo "error: $1 must be new or the folder of an earlier run, but it holds neither" \
        "pipeline.config nor model.ckpt-*; choose another, or delete it yourself" >&2
    exit 1
}
