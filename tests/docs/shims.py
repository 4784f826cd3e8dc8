"""The two programs that the docs use, as they are run here: the same program, with an end."""

from __future__ import annotations

from pathlib import Path

# A status of 400 and more is a failure, which curl by itself would not say.
CURL = """#!/bin/bash
exec /usr/bin/curl --max-time 20 --fail-with-body --silent --show-error "$@"
"""
# `run` is run until it is ready and then drained; what follows a deployment does so for a second (5: not
# ended); `diff` tells by 3 that there are differences.
HOTSWAP = """#!/bin/bash
main() { "$PYTHON" -P -m hotswap_proxy "$@"; }
case "$1" in
run)
    shift
    own=(--proxy 127.0.0.1:0 --admin 127.0.0.1:0 --workers 1 --data-dir "$(mktemp -d)")
    case " $* " in *" --proxy-tls "*) own+=(--proxy-tls 127.0.0.1:0) ;; esac
    exec 3< <(exec "$PYTHON" -P -m hotswap_proxy run "$@" "${own[@]}")
    node=$!
    while read -r line <&3; do
        case "$line" in *" ready: "*) kill -TERM $node; cat <&3 > /dev/null; exit 0 ;; esac
    done
    echo "the node ended before it was ready" >&2
    exit 1 ;;
esac
case " $* " in
*" --watch "* | *" --wait "*) main "$@" --timeout 1; code=$?; [ $code = 5 ] && exit 0; exit $code ;;
" diff "* | " routes diff "*) main "$@"; code=$?; [ $code = 3 ] && exit 0; exit $code ;;
esac
main "$@"
"""
FUNCTIONS = """
api() {
    curl -X "$1" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' --data-binary @- \\
        "$HOTSWAP_ADMIN_URL$2"
}
id_of() { hotswap-proxy routes get "$1" -o json | jq -r .routeId; }
"""


def write(directory: Path) -> Path:
    """A directory for PATH."""
    directory.mkdir()
    for name, text in (("curl", CURL), ("hotswap-proxy", HOTSWAP)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    return directory
