# shellcheck shell=bash
# Lays the agent's tree, the same for a slug and for a layer:
#
#   agent/flyby-agent.pyz   the agent                    edge            the edge it dials, unless FLY_REMOTE_ENDPOINT says
#   bin/flyby-agent         runs it, with a Python       release         the commit that was built
#   bin/flyby-run           runs it again when it dies   process-types   where it starts, unless FLY_PROCESS_TYPES says
#   lib/dyno.sh             what a dyno is               supervised-types  where the Procfile's command starts it
#                                                        python/         a CPython, where the app brings none
#
# The tree is made beside its place, tried, and moved there whole.

pack=${pack:?set by the script that reads this}

# shellcheck source-path=SCRIPTDIR
. "$pack/lib/python.sh"
# shellcheck source-path=SCRIPTDIR
. "$pack/lib/procfile.sh"

# install_agent TREE APP CACHE SETTINGS
install_agent() {
    local tree=$1 app=$2 cache=$3 settings=$4
    local new="$tree.new" python version

    rm -rf "$new"
    mkdir -p "$new/agent" "$new/bin" "$new/lib" "$cache"
    install -m 644 "$pack/agent/flyby-agent.pyz" "$new/agent/flyby-agent.pyz"
    install -m 755 "$pack/boot/flyby-agent" "$pack/boot/flyby-run" "$new/bin/"
    install -m 644 "$pack/boot/dyno.sh" "$new/lib/dyno.sh"
    install -m 644 "$pack/edge" "$new/edge"
    printf '%s\n' "${SOURCE_VERSION:-}" >"$new/release"
    read_procfile "$app"
    echo "$HTTP_TYPES" >"$new/process-types"
    echo "$SUPERVISED_TYPES" >"$new/supervised-types"

    provide_python "$new" "$app" "$cache" "$settings"
    python=$PYTHON_TO_TRY
    version=$(sed -n 's/^version = "\(.*\)"$/flyby-agent \1/p' "$pack/buildpack.toml")
    if [ -n "$python" ]; then
        version=$("$python" -I -S "$new/agent/flyby-agent.pyz" --version) ||
            refuse "the agent does not run with $python: its own words are above"
    fi
    detail "Agent: $version, $(du -k "$new/agent/flyby-agent.pyz" | cut -f1) KiB, dials $(cat "$new/edge")"
    rm -rf "$tree"
    mv "$new" "$tree"
    detail "Size in the slug: $(du -sm "$tree" | cut -f1) MiB"
}
