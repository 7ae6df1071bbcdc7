#!/bin/sh
# Starts the server in the same way as the base image, and loads the module.
#
# The arguments after the name of the image are those of the base image: none, options, a
# configuration file and options, or the name or path of the server and these.
set -e

module=/usr/local/lib/libratelimit.so

main() {
    case ${1:--} in
        -* | *.conf) set -- "$(server)" "$@" ;;
    esac
    if ! loads_modules "$@"; then
        exec docker-entrypoint.sh "$@"
    elif files_name_module "$@"; then
        load_by_file "$@"
    elif command_names_module "$@"; then
        exec docker-entrypoint.sh "$@"
    else
        preload "$@"
    fi
}

server() { if command -v valkey-server >/dev/null; then echo valkey-server; else echo redis-server; fi; }

# Not everything that can be run is a server, and not every server keeps data.
loads_modules() {
    case ${1##*/} in
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

# CONFIG REWRITE writes the module with its arguments into the file. A module that is loaded twice
# stops the start. Sets file to the configuration that names the module.
files_name_module() {
    case ${2--} in
        -*) ;;
        *) file=$2 && names_module "$file" 0 && return ;;
    esac
    option=
    for word; do
        [ "$option" != --include ] || { file=$word && names_module "$file" 0 && return; }
        option=$word
    done
    return 1
}

# Looks into the files that a file includes as well; the server expands patterns in their names. It
# refuses files that include each other without end.
names_module() (
    if ! [ -r "$1" ] || [ "$2" -ge 16 ]; then exit 1; fi
    if grep -Eiq '^[[:space:]]*loadmodule[[:space:]].*libratelimit\.so' "$1"; then exit 0; fi
    blanks=' 	' IFS=
    while IFS=$blanks read -r word path || [ "$word" ]; do
        case $word in
            [Ii][Nn][Cc][Ll][Uu][Dd][Ee]) ;;
            *) continue ;;
        esac
        path=${path#[\"\']} path=${path%[\"\']}
        for included in $path; do
            if names_module "$included" $(($2 + 1)); then exit 0; fi
        done
    done <"$1"
    exit 1
)

# It is named there to give it arguments.
command_names_module() {
    case "$*" in
        *libratelimit.so*) return 0 ;;
        *) return 1 ;;
    esac
}

# Leaves the module and its arguments out of the options. They end where the next option begins, or
# at a lone dash, for which the server reads its standard input.
load_by_file() {
    left=$# dropping=
    while [ "$left" -gt 0 ]; do
        word=$1 left=$((left - 1))
        shift
        case $word in
            --loadmodule)
                case ${1-} in
                    *libratelimit.so)
                        dropping=yes
                        echo "ratelimit: loaded as $file says, not as --loadmodule says" >&2
                        ;;
                    *) dropping= ;;
                esac
                ;;
            --* | -) dropping= ;;
        esac
        [ "$dropping" ] || set -- "$@" "$word"
    done
    exec docker-entrypoint.sh "$@"
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
