#!/bin/sh
# Starts the server as the base image does, with the module loaded as well.
#
# What is given after the image's name works as with the base image: nothing, options, a
# configuration file and options, or the server's name and these.
set -e

module=/usr/local/lib/libratelimit.so

main() {
    case ${1:--} in
        -* | *.conf) set -- "$(server)" "$@" ;;
    esac
    if loads_modules "$@" && ! names_module "$@"; then
        preload "$@"
    else
        exec docker-entrypoint.sh "$@"
    fi
}

server() { if command -v valkey-server >/dev/null; then echo valkey-server; else echo redis-server; fi; }

# Not everything that can be run is a server, and not every server keeps data.
loads_modules() {
    case $1 in
        redis-server | valkey-server) ;;
        *) return 1 ;;
    esac
    case ${2-} in
        -h | --help | -v | --version | --test-memory | --check-system) return 1 ;;
    esac
    case " $* " in
        *' --sentinel '*) return 1 ;;
    esac
}

# With arguments for the module, or in a file that the server has rewritten, it is named already. A
# module that is loaded twice stops the start.
names_module() {
    case "$*" in
        *libratelimit.so*) return 0 ;;
    esac
    case ${2--} in
        -*) return 1 ;;
        *) grep -Eqs '^[[:space:]]*loadmodule[[:space:]].*libratelimit\.so' "$2" ;;
    esac
}

# Before the options, since the last one may be a lone dash.
preload() {
    command=$1
    shift
    case ${1--} in
        -*) exec docker-entrypoint.sh "$command" --loadmodule "$module" "$@" ;;
    esac
    file=$1
    shift
    exec docker-entrypoint.sh "$command" "$file" --loadmodule "$module" "$@"
}

main "$@"
