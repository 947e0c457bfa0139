# shellcheck shell=bash
# Which process types serve HTTP. `web` does. In a Procfile without it (it was renamed, so that nobody reaches the dyno but
# through the edge) it is the type whose command names $PORT, or else the only one that is not known to be something else.

NOT_HTTP="release worker workers clock scheduler cron beat sidekiq resque jobs queue console run postdeploy"

# As a shell reads it: $PORT or ${PORT...}, not the letters of another variable's name.
# shellcheck disable=SC2016 # a regular expression
NAMES_PORT='\$(PORT([^A-Za-z0-9_]|$)|\{PORT[^A-Za-z0-9_])'
STARTS_AGENT='(^|[[:space:]/"'\''])flyby-agent([[:space:]"'\'';&]|$)'

# read_procfile APP: sets HTTP_TYPES (`web` first), SUPERVISED_TYPES (those whose command starts the agent itself) and
# UNKNOWN_TYPES: not empty when a Procfile is there and none of its types is known to serve HTTP; then the types that might.
read_procfile() {
    local app=$1 name command names="" with_port="" line has_web="" seen=""
    HTTP_TYPES=web SUPERVISED_TYPES="" UNKNOWN_TYPES=""
    [ -f "$app/Procfile" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'}
        [[ $line =~ ^([A-Za-z0-9_-]+):[[:space:]]*(.+)$ ]] || continue
        name=${BASH_REMATCH[1]}
        command=${BASH_REMATCH[2]}
        seen="$seen $name"
        if [[ $command =~ $STARTS_AGENT ]]; then
            SUPERVISED_TYPES="$SUPERVISED_TYPES $name"
            continue
        fi
        [ "$name" != web ] || has_web=1
        case " $NOT_HTTP web " in *" $name "*) continue ;; esac
        names="$names $name"
        if [[ $command =~ $NAMES_PORT ]]; then
            with_port="$with_port $name"
        fi
    done <"$app/Procfile"
    SUPERVISED_TYPES=${SUPERVISED_TYPES# }
    if [ -n "$has_web" ] || [ -n "$SUPERVISED_TYPES" ]; then
        return 0
    elif [ -n "$with_port" ]; then
        HTTP_TYPES="web$with_port"
    elif [ "$(wc -w <<<"$names")" -eq 1 ]; then
        HTTP_TYPES="web$names"
    else
        UNKNOWN_TYPES=${seen# }
    fi
}

# report_types SCRIPT SETTINGS: says where SCRIPT will start the agent, after `read_procfile`.
report_types() {
    local chosen type beside=""
    for type in $HTTP_TYPES; do
        case " $SUPERVISED_TYPES " in *" $type "*) ;; *) beside="$beside $type" ;; esac
    done
    chosen=$(setting FLY_PROCESS_TYPES "$2")
    if [ -n "$chosen" ]; then
        detail "$1 starts the agent in: ${chosen//[$'\r\n']/ } (FLY_PROCESS_TYPES)"
    elif [ -n "$UNKNOWN_TYPES" ]; then
        warn "The Procfile has no web process, and none of its types ($UNKNOWN_TYPES)"
        warn "is known to serve HTTP: NO DYNO of this app WILL BE CONNECTED to the edge."
        warn "Say which type does: heroku config:set FLY_PROCESS_TYPES=TYPE"
    elif [ -n "$beside" ]; then
        detail "$1 starts the agent in:$beside"
    fi
    if [ -n "$SUPERVISED_TYPES" ]; then
        detail "The Procfile starts it itself in: $SUPERVISED_TYPES"
    fi
}
