# shellcheck shell=bash
# What a build prints, as Heroku's buildpacks do: steps with an arrow, details seven spaces in, failures with a mark.
# A command that fails outside any `if` ends the build with its line, never quietly.

step() {
    echo "-----> $*"
}

detail() {
    echo "       $*"
}

# warn LINE: what the build goes on from, and its reader should not.
warn() {
    echo " !     $*" >&2
}

refuse() {
    echo " !     $*" >&2
    trap - ERR
    exit 1
}

trap 'refuse "the agent could not be installed: \"$BASH_COMMAND\" failed (${BASH_SOURCE[0]##*/}:$LINENO)"' ERR
set -E
