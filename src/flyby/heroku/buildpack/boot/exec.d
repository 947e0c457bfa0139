#!/usr/bin/env bash
# exec.d/flyby of the launch layer: run by the launcher before the process, whose environment it adds to by writing TOML
# to file descriptor 3. The agent goes to the background, without that descriptor, and outlives this program.
set -u

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=/dev/null
. "$tree/lib/dyno.sh"

type=$(flyby_process_type "$PPID")
! flyby_disabled || exit 0
if [ -z "$type" ]; then
    # A command that somebody gave by hand, or a launcher that does not say what it starts.
    [ -z "${FLY_TOKEN:-}" ] ||
        echo "fly: no agent is started, because the process type is not known: set DYNO=web.1, or run flyby-agent -- COMMAND" >&2
    exit 0
fi
flyby_serves_http "$tree" "$type" || exit 0
if [ -z "${FLY_TOKEN:-}" ]; then
    echo "fly: FLY_TOKEN is not set, so this dyno is not connected to the edge (heroku config:set FLY_TOKEN=...)" >&2
    exit 0
fi
while IFS= read -r line; do
    if [ -n "$line" ]; then
        export "${line?}"
        value=${line#*=}
        value=${value//\\/\\\\}
        value=${value//\"/\\\"}
        # TOML's basic strings hold no control characters but the tab.
        printf '%s = "%s"\n' "${line%%=*}" "$(tr -d '\000-\010\013-\037\177' <<<"$value")" >&3
    fi
done < <(flyby_settings "$tree")
flyby_start "$tree"
