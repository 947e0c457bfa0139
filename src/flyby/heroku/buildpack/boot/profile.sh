# shellcheck shell=bash
# .profile.d/flyby.sh: sourced by the shell that will become the app, in any order among its kind. It must not end that
# shell, stop it, wait, or leave anything behind but exported variables and the agent, whatever options the shell runs
# under; so all happens in one function whose failure is swallowed.

flyby_profile() {
    local tree=${HOME:-/app}/.flyby line
    [ -f "$tree/lib/dyno.sh" ] || return 0
    # shellcheck source=/dev/null
    . "$tree/lib/dyno.sh"
    flyby_serves_http "$tree" "$(flyby_process_type)" || return 0
    ! flyby_disabled || return 0
    if [ -z "${FLY_TOKEN:-}" ]; then
        echo "fly: FLY_TOKEN is not set, so this dyno is not connected to the edge (heroku config:set FLY_TOKEN=...)" >&2
        return 0
    fi
    while IFS= read -r line; do
        [ -z "$line" ] || export "${line?}"
    done < <(flyby_settings "$tree")
    flyby_start "$tree"
}

flyby_profile || true
unset -f flyby_profile flyby_process_type flyby_lists flyby_serves_http flyby_disabled flyby_release flyby_edge \
    flyby_setting flyby_settings flyby_runs flyby_start
