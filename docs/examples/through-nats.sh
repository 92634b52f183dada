#!/bin/sh
# Two peers that reach nothing of each other but one NATS server, which is somebody else's: they have a link through it, messages go
# between their clients, and a web page of one is a page on the other's machine.
#
# Usage: docs/examples/through-nats.sh NATS_SERVER [folder with midged and midge]
# NATS_SERVER is the program of a stock nats-server, or midged itself. BROKER_PORT chooses another port for it.
set -eu
server=$1 bin=${2:-target/debug}
port=${BROKER_PORT:-14222}

folder=$(mktemp -d)
cd_back=$PWD
case $bin in /*) ;; *) bin=$cd_back/$bin ;; esac
case $server in */*) case $server in /*) ;; *) server=$cd_back/$server ;; esac ;; esac
cd "$folder"
pids=""
finish() {
    # shellcheck disable=SC2086 # several numbers
    [ -z "$pids" ] || kill $pids 2>/dev/null || true
    cd "$cd_back" && rm -rf "$folder"
}
trap finish EXIT

fail() {
    echo "FAILED: $*" >&2
    cat ./*.log >&2
    exit 1
}

# Waits until a file says something.
until_said() {
    tries=0
    until grep -q "$2" "$1" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 500 ] || fail "$1 never says '$2'"
        sleep 0.02
    done
}

clients_of() {
    until_said "$1" "Server is ready"
    echo "nats://$(sed -n 's/.*Listening for client connections on //p' "$1")"
}

id_a=$("$bin/midge" key new a.key)
id_b=$("$bin/midge" key new b.key)
id_c=$("$bin/midge" key new c.key)

# What whoever runs the NATS server has to let each peer do, and nothing more.
{
    echo "authorization { users: ["
    for key in a b c; do "$bin/midge" backend permissions --key $key.key; done
    echo "] }"
} >broker.conf
"$server" -a 127.0.0.1 -p "$port" -c broker.conf 2>broker.log & pids="$pids $!"
until_said broker.log "Server is ready"
via="nats://127.0.0.1:$port"

# Neither listens anywhere that the other could reach.
"$bin/midged" -a 127.0.0.1 -p -1 --key a.key --via "$via" --peer "$id_b@nats:" 2>a.log & pids="$pids $!"
"$bin/midged" -a 127.0.0.1 -p -1 --key b.key --via "$via" --peer "$id_a@nats:" 2>b.log & pids="$pids $!"
a=$(clients_of a.log) b=$(clients_of b.log)
until_said a.log "Link up: peer $id_b at nats:"
until_said b.log "Link up: peer $id_a at nats:"
echo "linked: $id_a and $id_b"

# A question of a client of one to a client of the other.
"$bin/midge" reply -s "$a" sum 5 2>reply.log & pids="$pids $!"
until_said reply.log "Listening"
tries=0
until answer=$("$bin/midge" request -s "$b" sum "2+3" 2>/dev/null) && [ "$answer" = 5 ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail "no answer"
    sleep 0.02
done
echo "answered: $answer"

# A web page that only the third machine reaches.
echo "<h1>over there</h1>" >index.html
python3 -u -m http.server --bind 127.0.0.1 0 >web.log 2>&1 & pids="$pids $!"
until_said web.log "Serving HTTP on"
web=127.0.0.1:$(sed -n 's/.* port \([0-9]*\) .*/\1/p' web.log)
"$bin/midge" expose --via "$via" --key c.key --allow-peer "$id_a" "$web" >expose.log 2>&1 & pids="$pids $!"
until_said expose.log "Exposing $web"
# A key that nobody named gets in nowhere, as the NATS server knows no such user.
"$bin/midge" key new d.key >id_d
if "$bin/midge" forward --via "$via" --key d.key --timeout 2 0 "$id_c:$web" >refused.log 2>&1; then
    fail "a key that nobody knows got in"
fi
grep -q "authorization violation" refused.log || fail "it does not say why"
echo "refused: $(cat id_d)"
"$bin/midge" forward --via "$via" --key a.key 0 "$id_c:$web" >forward.log 2>&1 & pids="$pids $!"
until_said forward.log "Forwarding"
here=$(sed -n 's/^Forwarding \([^ ]*\) .*/\1/p' forward.log)
page=$(python3 -c "import urllib.request; print(urllib.request.urlopen('http://$here/index.html').read().decode().strip())")
[ "$page" = "<h1>over there</h1>" ] || fail "the page is '$page'"
echo "forwarded: $page"
echo "all is well"
