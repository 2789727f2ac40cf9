"""The file that ``issue config init`` writes: every common key, each behind a ``#``, with what it means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from issue_core.errors import IssueCoreError

if TYPE_CHECKING:
    from pathlib import Path

STARTER = """\
# The configuration of issue-core. What stands behind a # is not in force: take the # away to set it.
# Flags win over the environment (ISSUE_CORE_LEDGER, ISSUE_CORE_CONFIG), and that over this file.
# `issue config show` says what is in force and where it comes from; `issue config check` tries it out.

# Where the ledger is: one SQLite file. Relative paths start from this file's folder.
#ledger = "~/work/ledger.db"

# The backend of tasks that no route matches.
#default_backend = "local"

# A pattern on target_repo, and the backend that its tasks go to. The first that matches, from the top.
#[routes]
#"acme/*" = "local"

[sync]
# Seconds that one request may take, from first byte to last.
#request_timeout = 30
# Seconds that a task is one worker's; must be more than request_timeout.
#lease = 120
# First and longest wait, in seconds, between tries of one task. It doubles in between.
#backoff = [5, 3600]
# Tries that failed or proved absent before a task needs a person.
#max_attempts = 12

[ingest]
# The largest TaskSpec that is taken, in bytes.
#max_document = 1048576

# The server, `issue serve`: where it listens (port 0: any that is free), and with a certificate, TLS.
[serve]
#host = "127.0.0.1"
#port = 8765
#tls_cert = "~/tls/chain.pem"
#tls_key = "~/tls/key.pem"
# Names that it is reached under, by people or through a reverse proxy, beside the loopback names.
#hosts = ["tasks.example.org"]
# Connections at the same time, and the largest body that is taken, in bytes.
#max_connections = 256
#max_body = 268435456
# Seconds until a request's head must be there, for its body, and that a connection is kept with no request on it.
#head_timeout = 10
#body_timeout = 30
#idle_timeout = 60
# Seconds that a request waits for a ledger that is busy.
#busy_timeout = 5

# Who may ask the server: a name of your choice, and where that one's key is (see the end of this file).
#[serve.keys]
#activity-core = { env = "ACTIVITY_CORE_KEY" }

# The NATS server, for `issue subscribe` and `issue publish`; NATS_URL and the like win over this table.
[nats]
#url = "nats://nats.example.org"
# One of these ways to log in: a credentials file, the seed of an NKey, a user and password, or a token.
#creds = "~/issue-core.creds"
#nkey = "~/issue-core.nk"
#user = "issue-core"
#password = { env = "NATS_PASSWORD" }
#token = { env = "NATS_TOKEN" }
# Certificates to trust, and the certificate to show with its key.
#ca = "~/tls/ca.pem"
#cert = "~/tls/client.pem"
#key = "~/tls/client-key.pem"
# A context of the nats CLI, by name.
#context = "work"
# The stream with the tasks, the consumer that reads it, and the subjects that this one gets.
#stream = "ACT_TASKS"
#durable = "issue-core-ingest"
#filter = "act.tasks.create.>"
# Several hosts share the consumer: each claims a task in this bucket before it is synced.
#claims = false
#bucket = "ACT_TASKS_CLAIMS"

# One table for each place that issues go to; its name is yours to choose. `local` is always there and
# writes one Markdown file an issue: by default in the folder `issues` beside the ledger, else at `path`.
#[backends.notes]
#type = "local"
#path = "~/notes/issues"

# A tracker on a network: gitea (Forgejo too), github, gitlab, jira or redmine. All of it goes to one project, or
# target_repo names the project.
#[backends.work]
#type = "gitea"
#url = "https://git.example.org"
#token = { env = "GITEA_TOKEN" }
#project = "acme/inbox"

# Every backend takes these as well. Without one, the tracker's own default holds.
# Requests at the same time, and seconds between two creates.
#max_in_flight = 4
#min_interval = 0
# Creates in any minute and in any hour, at most; 0: no limit.
#per_minute = 0
#per_hour = 0
# Seconds after request_timeout in which a request that was cut off may still take effect.
#settle = 30
# How often an absence is asked for, and how many seconds apart.
#looks = 1
#look_interval = 60
# Look for an issue before each create ("always") where several ledgers feed one tracker, and how far back.
#lookup = "in-doubt"
#lookup_back = "7d"
# Accounts whose marked issues may be adopted, beside our own.
#accounts = ["other-bot"]

# target_repo, and the tracker's project for it.
#[backends.work.projects]
#web = "acme/web"

# The tracker's own names for the priorities.
#[backends.work.priorities]
#high = "prio/high"
#medium = "prio/normal"
#low = "prio/low"

# A key that is a secret (a tracker's token, a key of the server) is never written here. Name the place where it is:
#   token = { env = "TRACKER_TOKEN" }
#   token = { file = "~/tracker.token" }
#   token = { command = ["pass", "show", "tracker"] }
"""


def write_starter(path: Path) -> None:
    """Write the starter file to ``path``: 0600, in a folder that is made with 0700 if it is not there.

    Raises:
        IssueCoreError: something is there already (and stays as it is), or it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(STARTER)
    except FileExistsError as error:
        raise IssueCoreError(
            f"{error.filename}: there is something at this place already; nothing was changed.",
            hint="edit it, or move it away and run this again",
        ) from None
    except OSError as error:
        raise IssueCoreError(
            f"{path}: cannot be written: {error.strerror}.", hint="name another place with --config"
        ) from None
