#!/bin/sh
# TaskSpecs in, Markdown issues out: each step is shown, run and checked. `make demo` starts it.
#
# Usage: sh docs/demo/demo.sh [FOLDER]
#
# Everything happens in FOLDER (demo-data), which is made anew; your own ledger and configuration are not touched.
# Ends with 0 only if everything went as it says here.
set -eu

specs=$(dirname -- "$0")
data=${1:-demo-data}
mark=.issue-core-demo

fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

say() {
    printf '\n# %s\n' "$*"
}

# expect CODE COMMAND...: show the command and run it; its exit code must be CODE.
expect() {
    wanted=$1
    shift
    printf '$ %s\n' "$*"
    code=0
    "$@" || code=$?
    [ "$code" -eq "$wanted" ] || fail "this should have ended with $wanted, not with $code: $*"
}

# pipe_in CODE FILE: the same for a pipe into issue ingest.
pipe_in() {
    printf '$ issue ingest < %s\n' "$2"
    code=0
    issue ingest <"$2" || code=$?
    [ "$code" -eq "$1" ] || fail "this should have ended with $1, not with $code: issue ingest < $2"
}

# counted WHAT NAME NUMBER: what issue status must say.
counted() {
    issue status | grep -qx "$(printf '%s\t\t%s\t%s' "$1" "$2" "$3")" ||
        fail "issue status should have counted $3 as $1 $2; it says:
$(issue status)"
}

issues_there() {
    echo $(($(find "$data/issues" -name '*.md' | wc -l)))
}

command -v issue >/dev/null || fail 'there is no command issue; run this as: make demo'

if [ -e "$data" ] || [ -L "$data" ]; then
    [ -f "$data/$mark" ] || fail "$data is there already and no demo made it: move it away, or name another folder"
    rm -rf -- "$data/issues" "$data/ledger.db" "$data/ledger.db-wal" "$data/ledger.db-shm" "$data/ledger.db.lock" \
        "$data/ledger.db.workers" "$data/config.toml"
else
    mkdir -- "$data"
fi
: >"$data/$mark"
printf '# No setting is needed: the ledger is ledger.db here, the issues are in issues/ beside it.\n' >"$data/config.toml"

folder=$(cd -- "$data" && pwd)
ISSUE_CORE_LEDGER=$folder/ledger.db
ISSUE_CORE_CONFIG=$folder/config.toml
export ISSUE_CORE_LEDGER ISSUE_CORE_CONFIG

say 'A rule engine, an alert pipeline and an agent hand over ten TaskSpecs. What an alert says beside is kept, too.'
pipe_in 0 "$specs/rule-engine.ndjson"
pipe_in 0 "$specs/alerts.ndjson"
pipe_in 0 "$specs/agent.ndjson"
counted tasks pending 10

say 'Each becomes one issue: a Markdown file.'
expect 0 issue sync
expect 0 issue list
counted tasks synced 10
[ "$(issues_there)" -eq 10 ] || fail "there should be ten issues in $data/issues, not $(issues_there)"

say 'Then comes one event again, another event ID with other content, and something that is no TaskSpec.'
pipe_in 3 "$specs/again.ndjson"
counted received duplicate 1
counted received conflict 1
counted received invalid 1

say 'Both that were refused are kept until somebody deals with them. The conflict is a second task: it gets its own ID.'
expect 0 issue rejects list
expect 0 issue rejects replay 1 --as-new

say 'Whatever is sent and synced again, no issue is doubled.'
expect 0 issue ingest "$specs/rule-engine.ndjson" "$specs/alerts.ndjson" "$specs/agent.ndjson"
expect 0 issue sync
expect 0 issue sync
counted tasks total 11
counted tasks synced 11
counted rejects open 1
[ "$(issues_there)" -eq 11 ] || fail "there should be eleven issues in $data/issues, not $(issues_there)"

shown=$(find "$data/issues/acme/web" -name '*-f3c95789.md')
[ -f "$shown" ] || fail "there should be an issue whose name ends in -f3c95789.md in $data/issues/acme/web"

say 'What happened: of 24 TaskSpecs received, 11 became tasks with one issue each, 11 were duplicates,'
echo '# 1 conflict was replayed as a task of its own, 1 invalid one waits for a person.'
cat <<END

Where to look:
  $shown
      one of the issues: read it, edit it, move it
  $data/ledger.db
      the ledger: every task, every attempt, every refused input
Go on by hand:
  export ISSUE_CORE_LEDGER='$ISSUE_CORE_LEDGER'
  $(command -v issue) show 1
  $(command -v issue) rejects show 2
END
