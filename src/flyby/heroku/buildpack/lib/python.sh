# shellcheck shell=bash
# The Python that will run the agent. Heroku's run images have had none since heroku-24.
#
# The app's own, 3.9 or newer, when it has one: it lies in BUILD already (an earlier buildpack's), or the app is a Python
# app (it has Python source, and what heroku/python looks for) and nothing else, so that a later buildpack brings it. In
# doubt a pinned CPython is vendored: a build must never be green and its dynos without an agent. FLY_PYTHON=app or
# =vendor (config var) decides by hand.

pack=${pack:?set by the script that reads this}

# What heroku/python takes for a Python app, where its source is, and what other languages' buildpacks look for (a
# requirements.txt is often there for a build script alone). Patterns of file names.
PYTHON_SIGNS="requirements.txt Pipfile poetry.lock uv.lock"
PYTHON_SOURCE="*.py */*.py"
OTHER_SIGNS="package.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb bunfig.toml deno.json deno.jsonc deno.lock
    Gemfile *.gemspec config.ru go.mod Godeps glide.yaml composer.json index.php pom.xml pom.atom pom.clj pom.groovy
    pom.rb pom.scala pom.yaml pom.yml gradlew build.gradle build.gradle.kts settings.gradle settings.gradle.kts build.sbt
    .sbtopts project.clj deps.edn shadow-cljs.edn mix.exs rebar.config gleam.toml Cargo.toml Package.swift
    *.csproj *.fsproj *.vbproj *.sln *.slnx global.json */*.csproj */*.fsproj */*.vbproj *.cabal stack.yaml shard.yml
    dub.json dub.sdl pubspec.yaml build.zig *.nimble *.rockspec static.json"

# setting NAME SETTINGS: a config var, as the platform hands it to a build.
setting() {
    if [ -f "$2/$1" ]; then
        cat "$2/$1"
    fi
}

# recent_python PROGRAM: prints its version when it is 3.9 or newer.
recent_python() {
    [ -x "$1" ] && "$1" -I -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3]); sys.exit(sys.version_info < (3, 9))'
}

# any_of FOLDER PATTERNS: whether a file there has one of these names.
any_of() {
    local folder=$1 pattern found
    local -a patterns
    read -r -d '' -a patterns <<<"$2" || true # not by a bare $2: that would be expanded here, and not in FOLDER
    for pattern in "${patterns[@]}"; do
        # shellcheck disable=SC2231 # expanded in FOLDER
        for found in "$folder"/$pattern; do
            [ ! -e "$found" ] || return 0
        done
    done
    return 1
}

# asks_for_old_python APP: a version below 3.9 is named where heroku/python looks for one.
asks_for_old_python() {
    grep -Eqs '^(python-)?(2|3\.[0-8])(\.|$)' "$1/.python-version" "$1/runtime.txt"
}

# python_is_the_apps APP: whether a later buildpack is sure to bring one.
python_is_the_apps() {
    any_of "$1" "$PYTHON_SIGNS" && any_of "$1" "$PYTHON_SOURCE" && ! any_of "$1" "$OTHER_SIGNS" && ! asks_for_old_python "$1"
}

# provide_python TREE APP CACHE SETTINGS: vendors a Python into TREE if need be. PYTHON_TO_TRY becomes one that can run
# the agent now, empty where only the dyno will have it.
provide_python() {
    local tree=$1 app=$2 cache=$3 settings=$4 wish version
    wish=$(setting FLY_PYTHON "$settings")
    PYTHON_TO_TRY=
    case $wish in
    "" | app | vendor) ;;
    *) refuse "FLY_PYTHON is \"$wish\": it may be app (the app's own) or vendor (ours)" ;;
    esac
    if [ "$wish" != vendor ] && version=$(recent_python "$app/.heroku/python/bin/python3"); then
        PYTHON_TO_TRY=$app/.heroku/python/bin/python3
        detail "Python: the app's own, $version"
    elif [ "$wish" = app ] || { [ "$wish" != vendor ] && python_is_the_apps "$app"; }; then
        detail "Python: the app's own, from its language's buildpack"
        PYTHON_TO_TRY=$(command -v python3 || true)
        recent_python "$PYTHON_TO_TRY" >/dev/null || PYTHON_TO_TRY=
    else
        vendor_python "$tree/python" "$cache" "$settings"
        PYTHON_TO_TRY=$tree/python/bin/python3
    fi
}

# vendor_python FOLDER CACHE SETTINGS
vendor_python() {
    local folder=$1 cache=$2 settings=$3 machine version sum url shown archive tried
    machine=$(uname -m)
    url=$(setting FLY_PYTHON_URL "$settings")
    sum=$(setting FLY_PYTHON_SHA256 "$settings")
    version="of FLY_PYTHON_URL"
    if [ -z "$url" ]; then
        read -r _ version sum url < <(grep "^$machine " "$pack/python.txt") ||
            refuse "no Python is pinned for a $machine: set FLY_PYTHON_URL and FLY_PYTHON_SHA256"
    elif [ -z "$sum" ]; then
        refuse "FLY_PYTHON_URL needs FLY_PYTHON_SHA256 beside it: what is not known is not installed"
    fi
    [[ $sum =~ ^[0-9a-f]{64}$ ]] || refuse "FLY_PYTHON_SHA256 is \"$sum\", which is not 64 hexadecimal digits"
    # A build's log has more readers than its config vars: neither a signature nor a password is shown.
    shown=${url%%\?*}
    [[ $shown != *://*@* ]] || shown=${shown%%://*}://${shown#*@}

    archive=$cache/python-$sum.tar.gz
    if [ -f "$archive" ] && is_sum "$archive" "$sum"; then
        detail "Python: vendored, $version, from the cache"
    else
        detail "Python: vendored, $version, from $shown"
        rm -f "$cache"/python-*.tar.gz
        curl --fail --silent --show-error --location --retry 3 --retry-connrefused --connect-timeout 10 --max-time 300 \
            --output "$archive.part" --url "$url" || refuse "the Python could not be fetched from $shown"
        is_sum "$archive.part" "$sum" || refuse "what $shown sent has not the SHA-256 $sum: nothing was installed"
        mv "$archive.part" "$archive"
    fi

    mkdir -p "$folder"
    tar -xzf "$archive" -C "$folder" --strip-components=1
    # The agent needs neither a compiler's files, nor a package manager, nor windows.
    rm -rf "$folder"/include "$folder"/share "$folder"/lib/pkgconfig "$folder"/lib/tcl* "$folder"/lib/tk* \
        "$folder"/lib/itcl* "$folder"/lib/thread* "$folder"/lib/libtcl* "$folder"/lib/libtk* \
        "$folder"/lib/python3.*/{test,idlelib,tkinter,turtledemo,ensurepip,lib2to3,pydoc_data,site-packages} \
        "$folder"/lib/python3.*/config-*
    tried=$(recent_python "$folder/bin/python3") || refuse "the vendored Python does not run on this $machine, or is too old"
    detail "Python: $tried runs, $(du -sm "$folder" | cut -f1) MiB"
}

# is_sum FILE SHA256
is_sum() {
    echo "$2  $1" | sha256sum --check --status
}
