//! The texts that `--help` shows after the flags of a verb: explanations, examples, exit codes.

pub(super) const ALL: &str = "\
A first copy:
  clickhouse-copier init --from old-1 --to new-1 --table web.hits --output task.xml
  clickhouse-copier check --task-file task.xml
  clickhouse-copier run --task-file task.xml
  clickhouse-copier verify --task-file task.xml
  clickhouse-copier reverse --task-file task.xml --output restore.xml

Exit codes: 0 done, 1 failed, 2 the command line or the task is wrong, 3 finished with partitions that failed, 4 data differs, \
130 interrupted.";

pub(super) const RUN: &str = "\
The same command goes on where the task stands; more of them, at the same time, share the work. A finished task is not copied again.

Examples:
  On one machine; what is done is kept in clickhouse-copier-state beside the file:
    clickhouse-copier run --task-file task.xml
  On several machines, the same line on each:
    clickhouse-copier run --config keeper.xml --task-path /copy/hits --task-file task.xml --base-dir /var/log/copier
  Every night, only what has changed since it was copied:
    clickhouse-copier run --task-file task.xml --incremental
  Other limits or settings for a task that runs:
    clickhouse-copier run --config keeper.xml --task-path /copy/hits --task-file task.xml --task-upload-force

Exit codes: 0 done; 1 failed: servers or the coordinator; 2 the command line or the task is wrong, nothing was created; 3 finished \
with partitions that failed: the same command tries them again; 130 interrupted.";

pub(super) const STATUS: &str = "\
Copied is what lies counted in staging tables; published is what was counted in the target table. The statements are those that \
the servers' own process lists show.

Examples:
  clickhouse-copier status --config keeper.xml --task-path /copy/hits
  clickhouse-copier status --task-file task.xml --watch
  clickhouse-copier status --config keeper.xml --task-path /copy/hits --format json

Exit codes: 0 shown; 1 the coordinator could not be asked; 2 the command line is wrong, or there is no such task; 3 partitions \
have failed and nobody works on the task; 130 interrupted.";

pub(super) const DASHBOARD: &str = "\
The page is live while it is open; nobody is asked anything while no page is open and nothing is scraped. It changes nothing. \
Nothing comes from other places: it works without the internet.

/api/status has what status --format json prints, with seen_at and stale; /metrics is for Prometheus; /healthz says that the \
dashboard itself is alive. An address that other machines can reach needs a token of 16 characters or more: browsers are \
asked for it, programs send the header 'Authorization: Bearer TOKEN'. It travels in clear: put a proxy with TLS in front, or \
tunnel (ssh -L 8080:127.0.0.1:8080) to a loopback address instead.

Examples:
  clickhouse-copier dashboard --config keeper.xml --task-path /copy/hits
  clickhouse-copier dashboard --task-file task.xml --listen 127.0.0.1:9090
  clickhouse-copier dashboard --config keeper.xml --task-path /copy/hits --listen 0.0.0.0:8080 --token-file token.txt

Exit codes: 0 ended by a signal; 1 the address cannot be listened on; 2 the command line is wrong.";

pub(super) const PAUSE: &str = "\
Returns when nothing of the task runs on any server. Ended by a signal before that, the order stays. The workers wait; they \
may be ended, and new ones may be started, which wait too. Staging tables keep what is copied.

Examples:
  clickhouse-copier pause --config keeper.xml --task-path /copy/hits
  clickhouse-copier pause --config keeper.xml --task-path /copy/hits --now
  clickhouse-copier resume --config keeper.xml --task-path /copy/hits

Exit codes: 0 paused; 1 failed, finished or cancelled already; 2 the command line is wrong, or there is no such task; \
3 paused, but not all servers answered; \
130 interrupted while waiting.";

pub(super) const RESUME: &str = "\
Example:
  clickhouse-copier resume --config keeper.xml --task-path /copy/hits

Exit codes: 0 resumed; 1 failed, finished or cancelled already; 2 the command line is wrong, or there is no such task.";

pub(super) const CANCEL: &str = "\
All workers give up what they have in hand and end with 1. Then staging tables and statements are removed. A worker that was \
killed counts as alive until its session ends (session_timeout_ms); until then this waits.

Example:
  clickhouse-copier cancel --config keeper.xml --task-path /copy/hits

Exit codes: 0 cancelled, everything removed; 1 failed or finished already; 2 the command line is wrong, or there is no such \
task; 3 cancelled, but for servers that did not answer or things that could not be removed; 130 interrupted while waiting.";

pub(super) const INIT: &str = "\
Clusters come from system.clusters of the two servers, the engine and the keys from the source's table; the comments in the \
file say why. Nothing is created on any server. HOST is a name or an address, with the HTTP port where it is not 8123 \
(host:8124), and as https://host where the servers speak TLS.

Examples:
  One table, from one cluster to another:
    clickhouse-copier init --from old-1 --to new-1 --table web.hits --output task.xml
  With accounts; a password comes from an environment variable, and the file names only that variable:
    clickhouse-copier init --from old-1 --from-user copier --from-password-env OLD_PASSWORD --to new-1 --table web.hits
  Then:
    clickhouse-copier check --task-file task.xml

Exit codes: 0 written, 1 a server does not answer or a table is not there, 2 the command line is wrong, 130 interrupted.";

pub(super) const REVERSE: &str = "\
What was the target is copied from, what was the source is copied to. Accounts, settings and where_condition stay as the task \
has them; partitions that hold rows are not touched unless the file is changed to say so. Nothing is created on any server.

Examples:
  Back to where it came from:
    clickhouse-copier reverse --task-file task.xml --output restore.xml
  The task that is in ZooKeeper, into a scratch database beside the original, for a drill:
    clickhouse-copier reverse --config keeper.xml --task-path /copy/hits --database scratch --output drill.xml
  To other servers:
    clickhouse-copier reverse --task-file task.xml --to spare-1 --sharding-key 'intHash64(UserID)' --output spare.xml

Exit codes: 0 written, 1 a server does not answer, 2 the command line or the task is wrong, or a sharding key is needed, \
130 interrupted.";

pub(super) const CHECK: &str = "\
Each finding is a line: how bad it is (FAULT: a run would fail; warning; remark), the node, what is so, and what to do. With \
--format json all of them are one object. Sources are read as a run reads them when it plans, nothing is written anywhere.

Examples:
  Would this task run? No ZooKeeper is needed to ask:
    clickhouse-copier check --task-file task.xml
  And with ZooKeeper, where the task may be known already:
    clickhouse-copier check --config keeper.xml --task-path /copy/hits --task-file task.xml
  The task that is there:
    clickhouse-copier check --config keeper.xml --task-path /copy/hits --format json

Exit codes: 0 nothing is in the way, 1 something would make the run fail, 2 the command line or the task is wrong, \
130 interrupted.";

pub(super) const VERIFY: &str = "\
Partition by partition of the target, over all shards of both sides, as the task copied them: its columns, its \
where_condition, its partitions. Rows of other partitions are not looked at. Where a partition differs, the sorting keys that do \
are printed. A row on a shard that is not its own is a difference. Nothing is changed on any server, but by --repair. \
--by checksum reads all columns, one batch of partitions at a time.

--repair prints what differs, and then has a task of its own (<task-path>-repair-<id>) copy the differing partitions \
again, in the place of what the target holds there. Refused where the task has if_target_not_empty append or skip.

--sample 1/7 takes the partitions whose turn it is today, by the order of their names, so that a job that runs every day has \
compared all of them after seven days; --date takes another day's.

Examples:
  Is what was copied still the same?
    clickhouse-copier verify --config keeper.xml --task-path /copy/hits
  Of a task that was never run here:
    clickhouse-copier verify --task-file task.xml --by count
  Every night a thirtieth, for a program to read:
    clickhouse-copier verify --config keeper.xml --task-path /copy/hits --sample 1/30 --format json

Exit codes: 0 equal, or repaired; 1 something could not be compared, and the rest is equal; 2 the command line or the task is \
wrong; 3 some partitions could not be repaired; 4 something differs; 130 interrupted.";

pub(super) const CLEANUP: &str = "\
Without --remove nothing is changed. While a worker is alive in the task nothing is removed. What is removed is copied \
again when the task is run again; what is published stays.

Examples:
  What did the task leave?
    clickhouse-copier cleanup --config keeper.xml --task-path /copy/hits
  Remove it; the task can be run again:
    clickhouse-copier cleanup --config keeper.xml --task-path /copy/hits --remove
  The same for a task without ZooKeeper:
    clickhouse-copier cleanup --task-file task.xml --remove
  Remove the task from ZooKeeper too:
    clickhouse-copier cleanup --config keeper.xml --task-path /copy/hits --remove --forget
  The task is gone from ZooKeeper already; its tables are named copier_<ID>_…:
    clickhouse-copier cleanup --config keeper.xml --task-path /copy/hits --task-file task.xml --task-id 0123456789ab \
--remove

Exit codes: 0 listed, or everything removed; 1 refused or failed, nothing or only some of it is removed; \
2 the command line or the task is wrong; 3 done but for servers that did not answer or things that could not be removed, \
all named; 130 interrupted.";

pub(super) const PLAN: &str = "\
Creates nothing. The servers are asked what a run asks them. With --output the plan is kept, and a first run with --plan does exactly \
that, or refuses and says what has changed: columns, partitions, shards, tables to be made. How many rows there are may change.

Examples:
  clickhouse-copier plan --task-file task.xml
  clickhouse-copier plan --task-file task.xml --output plan.json
  clickhouse-copier run --task-file task.xml --plan plan.json

Exit codes: 0 planned; 1 a run would fail: servers; 2 the command line or the task is wrong; 130 interrupted.";

pub(super) const COMPLETIONS: &str = "\
Example:
  clickhouse-copier completions bash > /etc/bash_completion.d/clickhouse-copier";

pub(super) const MAN: &str = "\
Example:
  clickhouse-copier man | man -l -";
