# shellcheck shell=bash
# Which process types serve HTTP. `web` does. In a Procfile without it (it was renamed, so that nobody reaches the dyno but
# through the edge) it is the type whose command names $PORT, or else the only one that is not known to be something else.

NOT_HTTP="release worker workers clock scheduler cron beat sidekiq resque jobs queue console run postdeploy"

# http_process_types APP: one line, `web` first.
http_process_types() {
    local app=$1 name command names="" with_port="" line
    if [ -f "$app/Procfile" ]; then
        while IFS= read -r line || [ -n "$line" ]; do
            line=${line%$'\r'}
            [[ $line =~ ^([A-Za-z0-9_-]+):[[:space:]]*(.+)$ ]] || continue
            name=${BASH_REMATCH[1]}
            command=${BASH_REMATCH[2]}
            if [ "$name" = web ]; then
                echo web
                return
            fi
            case " $NOT_HTTP " in *" $name "*) continue ;; esac
            names="$names $name"
            case $command in *PORT*) with_port="$with_port $name" ;; esac
        done <"$app/Procfile"
    fi
    if [ -n "$with_port" ]; then
        echo "web$with_port"
    elif [ "$(wc -w <<<"$names")" -eq 1 ]; then
        echo "web$names"
    else
        echo web
    fi
}
