# shellcheck shell=bash
# What this dyno is, and whether the agent belongs in it. Read by a sourced script: nothing here exits, prints or waits,
# and every variable may be unset.

# flyby_process_type [PARENT]: from DYNO, `web.1` on Cedar and `web-12a34b56d-e78f9` on Fir; outside a dyno from the program
# of the process PARENT, which is /cnb/process/TYPE when a Cloud Native image starts a process type. Else empty.
flyby_process_type() {
    local dyno=${DYNO:-} program=
    case $dyno in
    "") ;;
    *.*) echo "${dyno%%.*}" && return ;;
    *-*-*) dyno=${dyno%-*} && echo "${dyno%-*}" && return ;;
    *) echo "$dyno" && return ;;
    esac
    [ -z "${1:-}" ] || IFS= read -r -d '' program 2>/dev/null <"/proc/$1/cmdline" || true
    case $program in */cnb/process/*) echo "${program##*/}" ;; esac
}

# flyby_lists LIST TYPE: whether a list separated by commas or space names the type.
flyby_lists() {
    case " ${1//[$',\t\r\n']/ } " in *" $2 "*) return 0 ;; esac
    return 1
}

# flyby_serves_http TREE TYPE: whether the agent starts beside a process of this type. One whose command in the Procfile
# starts the agent itself gets no second one.
flyby_serves_http() {
    case $2 in "" | run | release | scheduler) return 1 ;; esac
    ! flyby_lists "$(cat "$1/supervised-types" 2>/dev/null)" "$2" || return 1
    flyby_lists "${FLY_PROCESS_TYPES:-$(cat "$1/process-types" 2>/dev/null)}" "$2"
}

# flyby_disabled: FLY_DISABLED is set, and is none of the words that the agent takes for no.
flyby_disabled() {
    case ${FLY_DISABLED:-} in "" | 0 | [Ff]alse | FALSE | [Nn]o | NO | [Oo]ff | OFF) return 1 ;; esac
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

# flyby_setting NAME VALUE: one line, whatever the value holds; what stood behind a line end would be a variable. No line
# for an empty value, so that no variable is set to nothing.
flyby_setting() {
    [ -z "$2" ] || printf '%s=%s\n' "$1" "${2//[$'\r\n']/ }"
}

# flyby_settings TREE: the environment of the app and of the agent, as NAME=VALUE lines. Where the platform gives no port the
# app gets the one that the agent dials.
flyby_settings() {
    flyby_setting PORT "${PORT:-${FLY_PORT:-5000}}"
    flyby_setting FLY_PORT "${FLY_PORT:-${PORT:-5000}}"
    flyby_setting FLY_REMOTE_ENDPOINT "$(flyby_edge "$1")"
    flyby_setting FLY_RELEASE_ID "$(flyby_release "$1")"
    flyby_setting FLY_RELEASE_DESC "${FLY_RELEASE_DESC:-${HEROKU_BUILD_DESCRIPTION:-${HEROKU_SLUG_DESCRIPTION:-}}}"
}

# flyby_runs PID: whether that process is a flyby-run. The file may be older than the process, whose number was used
# by another program before.
flyby_runs() {
    local word
    case $1 in "" | *[!0-9]*) return 1 ;; esac
    while IFS= read -r -d '' word; do
        case $word in flyby-run | */flyby-run) return 0 ;; esac
    done 2>/dev/null <"/proc/$1/cmdline"
    return 1
}

# flyby_start TREE: the agent in the background, at most once a dyno, with nothing of this shell held open.
flyby_start() {
    local pid_file=${TMPDIR:-/tmp}/flyby-agent.pid pid=
    read -r pid 2>/dev/null <"$pid_file" || true
    if flyby_runs "$pid"; then
        return 0
    fi
    "$1/bin/flyby-run" </dev/null 3>&- &
    echo "$!" 2>/dev/null >|"$pid_file" || true
    disown 2>/dev/null || true
}
