#!/usr/bin/env bash
# A restore drill for a cron job: copies a backup back into a scratch database, compares, reports, and removes all of it.
#
#   restore-drill.sh --work-dir /var/lib/copier-drill --report /var/lib/copier-drill/report.txt -- --task-file backup.xml
#
# What stands after -- says which task made the backup, as every verb of clickhouse-copier takes it: --task-file, or --config and
# --task-path. The task is not changed.
#
# What it proves:
#   1. the backup still is what the task copied (verify of the backup's task, against its source; left out with --no-source);
#   2. it can be read and written back, with the accounts, servers and keys that a real restore would use (reverse, check, run);
#   3. what came back is the backup, by checksum of every partition (verify of the drill's task).
# With --no-source, partitions or rows that the backup has lost are not noticed.
#
# Options:
#   --work-dir DIR        where the drill keeps its files and its lock; made if it is missing (required)
#   --report FILE         what was done and said, written at the end, whatever the end is
#   --to HOST             restore to this server's cluster instead of where the task copied from
#   --sharding-key EXPR   by which key rows are placed, where no Distributed table tells
#   --no-source           do not compare the backup with its source: it is lost, or old partitions change there
#   --url URL             how the scratch database is made and dropped on a host [http://HOST:8123/]
#   --prefix NAME         the scratch database is called NAME_<date>_<time>_<process> [copier_drill]
#   --keep                when the drill fails, leave the scratch database and the files, to look at
#   --copier PROGRAM      the program [clickhouse-copier]
#
# DRILL_USER and DRILL_PASSWORD are the account that may make and drop the scratch database [default, without a password]. What the
# task's file takes from the environment (from_env) must be there too; with --config and without --task-file, name those variables by
# --allow-env after the --. Needed are bash, curl (7.76 on), flock and jq.
#
# Exit codes: 0 all of it holds; 1 a step could not be done; 2 the command line or the task is wrong; 3 some partitions could not be
# restored; 4 rows differ; 5 another drill is at work in this folder; 6 all holds, but something could not be removed; 130 interrupted.
#
# Nothing is dropped but the database that this very drill has made: its CREATE DATABASE has no IF NOT EXISTS, and only where it
# succeeded is there a DROP.
set -euo pipefail

usage() {
    echo "restore-drill: $1 (see the head of $0)" >&2
    exit 2
}

work_dir='' report='' url='http://HOST:8123/' prefix=copier_drill copier=clickhouse-copier keep='' with_source=yes
reverse_options=() address=()
while (($# > 0)); do
    case $1 in
        --work-dir | --report | --to | --sharding-key | --url | --prefix | --copier)
            (($# > 1)) || usage "$1 needs a value"
            case $1 in
                --work-dir) work_dir=$2 ;;
                --report) report=$2 ;;
                --to | --sharding-key) reverse_options+=("$1" "$2") ;;
                --url) url=$2 ;;
                --prefix) prefix=$2 ;;
                --copier) copier=$2 ;;
            esac
            shift 2
            ;;
        --no-source) with_source='' && shift ;;
        --keep) keep=yes && shift ;;
        --) shift && address=("$@") && break ;;
        *) usage "unknown option $1" ;;
    esac
done
[[ -n $work_dir ]] || usage '--work-dir is missing'
((${#address[@]} > 0)) || usage 'which task? Say it after --, as in: -- --task-file backup.xml'
[[ $prefix =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || usage "--prefix is letters, digits and _, but is $prefix"
[[ $url == *HOST* ]] || usage "--url has no HOST in it: $url"
for tool in curl flock jq "$copier"; do
    command -v "$tool" >/dev/null || usage "$tool is not there"
done

mkdir -p "$work_dir"
exec {lock}>"$work_dir/lock"
if ! flock -n "$lock"; then
    echo "restore-drill: another drill is at work in $work_dir" >&2
    exit 5
fi

scratch="${prefix}_$(date -u +%Y%m%d_%H%M%S)_$$"
drill="$work_dir/$scratch"
mkdir "$drill"
log="$drill/report.txt"
: >"$log"
own=(--task-file "$drill/drill.xml" --state-dir "$drill/state")

say() {
    printf '%s\n' "$*" | tee -a "$log" >&2
}

# A statement on one host. The account travels in a file descriptor, not in the list of processes.
ask() {
    local host=$1 statement=$2 quoted
    quoted=${DRILL_PASSWORD-}
    quoted=${quoted//\\/\\\\}
    quoted=${quoted//\"/\\\"}
    curl --silent --show-error --fail-with-body --max-time 600 --data-binary "$statement" \
        --config <(printf 'header = "X-ClickHouse-User: %s"\nheader = "X-ClickHouse-Key: %s"\n' "${DRILL_USER-default}" "$quoted") \
        "${url//HOST/$host}"
}

# A step in the background, so that a signal reaches it at once and not when it has ended.
child=''
step() {
    local code=0
    say "\$ $*"
    "$@" >"$drill/said" 2>&1 {lock}>&- &
    child=$!
    wait "$child" || code=$?
    # A signal ends wait before the child ends.
    while kill -0 "$child" 2>/dev/null; do
        code=0
        wait "$child" || code=$?
    done
    child=''
    tee -a "$log" <"$drill/said" >&2
    return "$code"
}

interrupted=''
# shellcheck disable=SC2329 # by the traps
on_signal() {
    interrupted=yes
    [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true
}
trap on_signal INT TERM HUP

result=0
# The first thing that is wrong decides the exit code.
wrong() {
    local code=$1
    [[ $code =~ ^[1234]$ ]] || code=1
    ((result != 0)) || result=$code
    say "FAILED: $2"
}

made=() begun=''
# shellcheck disable=SC2329
remove() {
    local code=0 host
    # A run that was ended before it had a task has no state.
    if [[ -n $begun && -e $drill/state ]]; then
        # Staging tables, those on the backup's servers too, and statements that a dead worker left.
        step "$copier" cleanup "${own[@]}" --remove || code=6
    fi
    for host in "${made[@]}"; do
        if ask "$host" "DROP DATABASE $scratch" >>"$log" 2>&1; then
            say "dropped the database $scratch on $host"
        else
            say "LEFT BEHIND: the database $scratch on $host: $(tail -n 1 "$log")"
            code=6
        fi
    done
    return "$code"
}

# shellcheck disable=SC2329
finish() {
    local code=$?
    trap '' INT TERM HUP
    ((code == 0)) || result=$code
    [[ -z $interrupted ]] || result=130
    if [[ -n $keep ]] && ((result != 0)); then
        say "kept: the database $scratch on ${made[*]:-no host}, and the folder $drill"
    elif ! remove; then
        ((result != 0)) || result=6
        say "kept, since something is left behind: the folder $drill"
        keep=yes
    fi
    case $result in
        0) say 'The drill holds: the backup can be restored, and what comes back is what was saved.' ;;
        *) say "The drill has FAILED (exit code $result)." ;;
    esac
    if [[ -n $report ]] && ! { cp "$log" "$report.new" && mv "$report.new" "$report"; }; then
        echo "restore-drill: the report cannot be written to $report" >&2
        ((result != 0)) || result=1
    fi
    if [[ -z $keep ]] || ((result == 0)); then
        rm -rf "$drill"
    fi
    exit "$result"
}
trap finish EXIT

# What a step's exit code means for the drill.
or_end() {
    [[ -z $interrupted ]] || exit 130
    wrong "$1" "$2"
    exit "$result"
}

say "Restore drill of the task ${address[*]}, $(date -u +%Y-%m-%dT%H:%M:%SZ)"
for other in "$work_dir/${prefix}"_*/; do
    [[ $other -ef $drill || ! -d $other ]] || say "note: $other is left of an earlier drill, and maybe a database of that name"
done

if [[ -n $with_source ]]; then
    code=0
    step "$copier" verify "${address[@]}" || code=$?
    [[ -z $interrupted ]] || exit 130
    case $code in
        0) ;;
        4) wrong 4 'the backup is not what its source holds now' ;;
        *) wrong "$code" 'the backup could not be compared with its source' ;;
    esac
fi

code=0
step "$copier" reverse "${address[@]}" --database "$scratch" "${reverse_options[@]}" --output "$drill/drill.xml" || code=$?
((code == 0)) || or_end "$code" 'no task for the way back could be made'

code=0
"$copier" plan "${own[@]}" --format json >"$drill/plan.json" 2>"$drill/said" || code=$?
tee -a "$log" <"$drill/said" >&2
((code == 0)) || or_end "$code" 'the way back could not be planned'
# All servers that it writes to; on each of them the database must be one that is made for it.
jq -r '.inputs as $in | [$in | to_entries[] | select(.key | endswith("/cluster_push")) | .value] | unique[] as $cluster
    | $in | to_entries[] | select(.key | startswith("remote_servers/\($cluster)/") and endswith("/host")) | .value' \
    "$drill/plan.json" | sort -u >"$drill/hosts"
[[ -s $drill/hosts ]] || or_end 1 'the plan names no server to restore to'
while IFS= read -r host; do
    error=$(ask "$host" "CREATE DATABASE $scratch" 2>&1) || or_end 1 "the database $scratch cannot be made on $host: $error"
    made+=("$host")
    say "made the database $scratch on $host"
done <"$drill/hosts"

code=0
step "$copier" check "${own[@]}" || code=$?
((code == 0)) || or_end "$code" 'the restore would fail'

begun=yes
code=0
step "$copier" run "${own[@]}" --base-dir "$drill" --progress none --log-level information || code=$?
((code == 0)) || or_end "$code" 'not everything could be restored'

code=0
step "$copier" verify "${own[@]}" || code=$?
[[ -z $interrupted ]] || exit 130
((code == 0)) || wrong "$code" 'what was restored is not what the backup holds'
exit "$result"
