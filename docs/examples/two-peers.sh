#!/bin/sh
# Two peers on one machine: each has a key of its own and knows the other's, and nothing else is set up. What is said on
# one is heard on the other; a third, whose key nobody knows, is refused; one that is killed comes back.
#
# Usage: docs/examples/two-peers.sh [folder with midged and midge]
# LINKS_A and LINKS_B choose other ports for links; clients get any that are free.
set -eu
bin=${1:-target/debug}
links_a=${LINKS_A:-14223} links_b=${LINKS_B:-14233}

folder=$(mktemp -d)
cd_back=$PWD
case $bin in /*) ;; *) bin=$cd_back/$bin ;; esac
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

# Where the clients of a server connect, by its log.
clients_of() {
    until_said "$1" "Server is ready"
    echo "nats://$(sed -n 's/.*Listening for client connections on //p' "$1")"
}

# A key is all that a peer needs to be known by.
id_a=$("$bin/midge" key new a.key)
id_b=$("$bin/midge" key new b.key)

start_a() {
    "$bin/midged" -a 127.0.0.1 -p -1 --key a.key --link-listen "udp://127.0.0.1:$links_a" \
        --peer "$id_b@udp://127.0.0.1:$links_b" 2>a.log &
    pid_a=$! pids="$pids $!"
}
start_b() {
    "$bin/midged" -a 127.0.0.1 -p -1 --key b.key --link-listen "udp://127.0.0.1:$links_b" \
        --peer "$id_a@udp://127.0.0.1:$links_a" 2>b.log &
    pid_b=$! pids="$pids $!"
}
start_a
start_b
a=$(clients_of a.log) b=$(clients_of b.log)
until_said a.log "Peer id is $id_a"
until_said a.log "Listening for links on udp://127.0.0.1:$links_a"
until_said a.log "Link up: peer $id_b"
until_said b.log "Link up: peer $id_a"
until_said a.log "Route connection"
echo "linked: $id_a and $id_b"

# A message from a client of one to a client of the other. Asking is how one knows that it is known who listens.
"$bin/midge" reply -s "$a" ready yes 2>/dev/null & pids="$pids $!"
"$bin/midge" sub -s "$a" --count 1 --raw greetings >heard 2>sub.log & sub=$!
until_said sub.log "Listening"
until "$bin/midge" request -s "$b" ready 2>/dev/null | grep -q yes; do sleep 0.02; done
"$bin/midge" pub -s "$b" greetings "hello from b"
wait $sub
[ "$(cat heard)" = "hello from b" ] || fail "heard: $(cat heard)"
echo "heard: $(cat heard)"

# A question, and two who share the answering: each question is answered once.
"$bin/midge" reply -s "$a" --queue workers sum 5 2>r1.log & pids="$pids $!"
"$bin/midge" reply -s "$b" --queue workers sum 5 2>r2.log & pids="$pids $!"
until_said r1.log "Listening"
until_said r2.log "Listening"
for server in "$a" "$b"; do
    answer=$("$bin/midge" request -s "$server" sum "2+3")
    [ "$answer" = 5 ] || fail "the answer is '$answer'"
done
echo "answered: 5"

# Straight over a link: a key that nobody named is refused.
"$bin/midge" key new c.key >id_c
if "$bin/midge" request --key c.key --peer "$id_a@udp://127.0.0.1:$links_a" --timeout 2 sum "2+3" 2>refused; then
    fail "a key that nobody knows got in"
fi
until_said a.log "Link refused: peer $(cat id_c)"
echo "refused: $(cat id_c)"

# One that is named gets in, and is a client of the peer, without a server in between.
answer=$("$bin/midge" request --key b.key --peer "$id_a@udp://127.0.0.1:$links_a" sum "2+3")
[ "$answer" = 5 ] || fail "over a link, the answer is '$answer'"
echo "over a link: 5"

# One is killed, and comes back.
kill -9 "$pid_b"
wait "$pid_b" 2>/dev/null || true
back=$(date +%s%N)
start_b
b=$(clients_of b.log)
until "$bin/midge" request -s "$b" --timeout 0.2 ready 2>/dev/null | grep -q yes; do
    [ $(($(date +%s%N) - back)) -lt 3000000000 ] || fail "not there again after three seconds"
done
echo "back: after $((($(date +%s%N) - back) / 1000000)) ms"

# And a message of which it is known who said it.
"$bin/midge" channel sub -s "$a" --count 1 news >news 2>news.log & sub=$!
until_said news.log "Listening"
"$bin/midge" pub -s "$a" news "nobody said this"
"$bin/midge" channel pub -s "$a" --key c.key news "all is well"
wait $sub
[ "$(cat news)" = "$(cat id_c) all is well" ] || fail "news: $(cat news)"
echo "verified: $(cat news)"
