# shellcheck shell=bash
# What this dyno is, and whether the agent belongs in it. Read by a sourced script: nothing here exits, prints or waits,
# and every variable may be unset.

# flyby_process_type: from DYNO, `web.1` on Cedar and `web-12a34b56d-e78f9` on Fir; empty outside a dyno.
flyby_process_type() {
    local dyno=${DYNO:-}
    case $dyno in
    *.*) echo "${dyno%%.*}" ;;
    *-*-*) dyno=${dyno%-*} && echo "${dyno%-*}" ;;
    *) echo "$dyno" ;;
    esac
}

# flyby_serves_http TREE: whether the agent starts in a dyno of this type.
flyby_serves_http() {
    local type types
    type=$(flyby_process_type)
    case $type in "" | run | release | scheduler) return 1 ;; esac
    types=${FLY_PROCESS_TYPES:-$(cat "$1/process-types" 2>/dev/null)}
    case " ${types//[$',\t\r\n']/ } " in *" $type "*) return 0 ;; esac
    return 1
}

# flyby_release TREE: what was deployed. Heroku's own word first (its build metadata, then its older slug metadata).
flyby_release() {
    local stamped=
    read -r stamped 2>/dev/null <"$1/release" || true
    printf '%s\n' "${FLY_RELEASE_ID:-${HEROKU_BUILD_COMMIT:-${HEROKU_SLUG_COMMIT:-$stamped}}}"
}

# flyby_edge TREE
flyby_edge() {
    local stamped=
    read -r stamped 2>/dev/null <"$1/edge" || true
    printf '%s\n' "${FLY_REMOTE_ENDPOINT:-$stamped}"
}

# flyby_setting NAME VALUE: one line, whatever the value holds; what stood behind a line end would be a variable.
flyby_setting() {
    printf '%s=%s\n' "$1" "${2//[$'\r\n']/ }"
}

# flyby_settings TREE: the environment of the app and of the agent, as NAME=VALUE lines.
flyby_settings() {
    flyby_setting PORT "${PORT:-5000}"
    flyby_setting FLY_PORT "${FLY_PORT:-${PORT:-5000}}"
    flyby_setting FLY_REMOTE_ENDPOINT "$(flyby_edge "$1")"
    flyby_setting FLY_RELEASE_ID "$(flyby_release "$1")"
    flyby_setting FLY_RELEASE_DESC "${FLY_RELEASE_DESC:-${HEROKU_BUILD_DESCRIPTION:-${HEROKU_SLUG_DESCRIPTION:-}}}"
}

# flyby_start TREE: the agent in the background, at most once a dyno, with nothing of this shell held open.
flyby_start() {
    local pid_file=${TMPDIR:-/tmp}/flyby-agent.pid pid=
    read -r pid 2>/dev/null <"$pid_file" || true
    if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
        return 0
    fi
    "$1/bin/flyby-run" </dev/null 3>&- &
    echo "$!" 2>/dev/null >|"$pid_file" || true
    disown 2>/dev/null || true
}
