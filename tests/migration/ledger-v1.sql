-- python -m tests.migration.record
PRAGMA application_id = 1230197589;
PRAGMA user_version = 1;
PRAGMA journal_mode = wal;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'issue-core','v1','2026-11-24 13:59:12.646554+00:00');
CREATE TABLE attempt_counts (
        backend TEXT NOT NULL,
        outcome TEXT NOT NULL,
        n       INTEGER NOT NULL,
        PRIMARY KEY (backend, outcome)
    ) WITHOUT ROWID
    ;
INSERT INTO "attempt_counts" VALUES('work','',3);
INSERT INTO "attempt_counts" VALUES('work','created',1);
INSERT INTO "attempt_counts" VALUES('work','unknown',1);
CREATE TABLE attempts (
        id         INTEGER PRIMARY KEY,
        seq        INTEGER NOT NULL REFERENCES tasks (seq),
        backend    TEXT NOT NULL,
        address    TEXT NOT NULL,
        project    TEXT NOT NULL,
        account    TEXT NOT NULL,
        started_at TEXT NOT NULL,
        boot       TEXT NOT NULL,
        running    REAL NOT NULL,
        look_after REAL NOT NULL,
        looks      INTEGER NOT NULL DEFAULT 0,
        outcome    TEXT,
        ended_at   TEXT,
        error      TEXT,
        run        TEXT NOT NULL
    );
INSERT INTO "attempts" VALUES(1,5,'work','https://git.example.org','acme/web','bot','2026-03-02T10:01:00.000Z','first boot',140060.0,140120.0,0,'created','2026-03-02T10:01:00.000Z',NULL,'recorded');
INSERT INTO "attempts" VALUES(2,6,'work','https://git.example.org','acme/web','bot','2026-03-02T10:01:00.000Z','first boot',140060.0,140120.0,0,'unknown','2026-03-02T10:01:00.000Z','the connection broke','recorded');
INSERT INTO "attempts" VALUES(3,7,'work','https://git.example.org','acme/web','bot','2026-03-02T10:01:00.000Z','first boot',140060.0,140120.0,0,NULL,NULL,NULL,'recorded');
CREATE TABLE blocks (
        block    INTEGER PRIMARY KEY,
        first_at TEXT NOT NULL,
        last_at  TEXT NOT NULL
    );
INSERT INTO "blocks" VALUES(0,'2026-03-01T09:00:00.000Z','2026-03-02T10:59:59.999Z');
CREATE TABLE facets (
        facet TEXT NOT NULL,
        value TEXT NOT NULL,
        block INTEGER NOT NULL,
        PRIMARY KEY (facet, value, block)
    ) WITHOUT ROWID
    ;
INSERT INTO "facets" VALUES('label','ops',0);
INSERT INTO "facets" VALUES('label','strasse',0);
INSERT INTO "facets" VALUES('priority','high',0);
INSERT INTO "facets" VALUES('priority','medium',0);
INSERT INTO "facets" VALUES('repo','acme/web',0);
INSERT INTO "facets" VALUES('repo','notes',0);
INSERT INTO "facets" VALUES('source','disk-watch',0);
INSERT INTO "facets" VALUES('source','rule-0',0);
INSERT INTO "facets" VALUES('source','rule-1',0);
INSERT INTO "facets" VALUES('source','rule-2',0);
INSERT INTO "facets" VALUES('state','failed',0);
INSERT INTO "facets" VALUES('state','pending',0);
INSERT INTO "facets" VALUES('state','synced',0);
CREATE TABLE history (
        seq    INTEGER NOT NULL REFERENCES tasks (seq),
        n      INTEGER NOT NULL,
        at     TEXT NOT NULL,
        kind   TEXT NOT NULL,
        detail TEXT,
        run    TEXT NOT NULL,
        PRIMARY KEY (seq, n)
    ) WITHOUT ROWID
    ;
INSERT INTO "history" VALUES(1,1,'2026-03-02T10:00:00.000Z','conflict','{"reject_id": 5, "fields": ["title", "triggering_event_id"]}','recorded');
INSERT INTO "history" VALUES(1,2,'2026-03-02T10:01:00.000Z','synced','{"backend": "work", "id": "41", "url": "https://git.example.org/acme/web/issues/41", "project": "acme/web", "notes": ["no such label: ops"]}','recorded');
INSERT INTO "history" VALUES(2,1,'2026-03-02T10:01:00.000Z','failed','{"code": "refused", "error": "422: title is too long"}','recorded');
INSERT INTO "history" VALUES(3,1,'2026-03-02T10:00:00.000Z','conflict','{"reject_id": 1, "fields": ["title", "triggering_event_id"]}','recorded');
INSERT INTO "history" VALUES(3,2,'2026-03-02T10:01:00.000Z','failed','{"code": "refused", "error": "422: no"}','recorded');
INSERT INTO "history" VALUES(3,3,'2026-03-02T10:01:00.000Z','retry','{"was": "failed"}','recorded');
INSERT INTO "history" VALUES(5,1,'2026-03-02T10:01:00.000Z','attempt','{"attempt": 1, "backend": "work", "project": "acme/web"}','recorded');
INSERT INTO "history" VALUES(5,2,'2026-03-02T10:01:00.000Z','synced','{"attempt": 1, "backend": "work", "id": "42", "url": "https://git.example.org/acme/web/issues/42", "project": "acme/web"}','recorded');
INSERT INTO "history" VALUES(6,1,'2026-03-02T10:01:00.000Z','attempt','{"attempt": 2, "backend": "work", "project": "acme/web"}','recorded');
INSERT INTO "history" VALUES(6,2,'2026-03-02T10:01:00.000Z','doubt','{"attempt": 2, "error": "the connection broke"}','recorded');
INSERT INTO "history" VALUES(7,1,'2026-03-02T10:01:00.000Z','attempt','{"attempt": 3, "backend": "work", "project": "acme/web"}','recorded');
CREATE TABLE leases (
        seq        INTEGER PRIMARY KEY REFERENCES tasks (seq),
        owner      TEXT NOT NULL,
        attempt_id INTEGER REFERENCES attempts (id),
        until      REAL NOT NULL
    );
INSERT INTO "leases" VALUES(7,'worker',3,140180.0);
CREATE TABLE limits (
        backend        TEXT PRIMARY KEY,
        next_free_at   TEXT,
        limited_until  TEXT,
        limit_reason   TEXT,
        unknown_streak INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID
    ;
CREATE TABLE meta (
        key   TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID
    ;
CREATE TABLE parked (
        backend TEXT NOT NULL,
        project TEXT NOT NULL,
        code    TEXT NOT NULL,
        reason  TEXT NOT NULL,
        since   TEXT NOT NULL,
        until   TEXT NOT NULL,
        probes  INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (backend, project)
    ) WITHOUT ROWID
    ;
CREATE TABLE received (
        transport TEXT NOT NULL,
        outcome   TEXT NOT NULL,
        n         INTEGER NOT NULL,
        PRIMARY KEY (transport, outcome)
    ) WITHOUT ROWID
    ;
INSERT INTO "received" VALUES('cli','conflict',1);
INSERT INTO "received" VALUES('cli','created',9);
INSERT INTO "received" VALUES('cli','invalid',1);
INSERT INTO "received" VALUES('nats','conflict',1);
INSERT INTO "received" VALUES('nats','created',1);
INSERT INTO "received" VALUES('nats','duplicate',1);
INSERT INTO "received" VALUES('rest','invalid',3);
CREATE TABLE rejects (
        id          INTEGER PRIMARY KEY,
        kind        TEXT NOT NULL CHECK (kind IN ('invalid', 'conflict', 'elsewhere')),
        state       TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed', 'dropped')),
        sha256      TEXT NOT NULL UNIQUE,
        length      INTEGER NOT NULL,
        event_id    TEXT,
        errors      TEXT NOT NULL,
        place       TEXT NOT NULL,
        transport   TEXT NOT NULL,
        count       INTEGER NOT NULL DEFAULT 1,
        first_at    TEXT NOT NULL,
        last_at     TEXT NOT NULL,
        closed_at   TEXT,
        replayed_as TEXT,
        raw         BLOB NOT NULL
    );
INSERT INTO "rejects" VALUES(1,'conflict','open','72f2b032aaf14ce577f91a618a88274c18d1fa36f6dbbfcdb01331e835a1c8d2',245,'86bac0c7-49e9-567e-9a64-8da9e82b67a9','[["title", "differs from what this event ID stands for already"], ["triggering_event_id", "looks like a second task of one event: give it an event ID of its own, derived from the event and what asks, such as uuid5(event, source_id); issue rejects replay --as-new does that with this one"]]','{}','nats',1,'2026-03-02T10:00:00.000Z','2026-03-02T10:00:00.000Z',NULL,NULL,X'7B227469746C65223A20226F74686572222C20227461726765745F7265706F223A20226E6F746573222C2022736F757263655F74797065223A202272756C65222C2022736F757263655F6964223A202272756C652D32222C202274726967676572696E675F6576656E745F6964223A202238366261633063372D343965392D353637652D396136342D386461396538326236376139222C20227465616D223A207B226F6E5F63616C6C223A205B312C20322E352C206E756C6C2C20313138303539313632303731373431313330333432345D7D2C202261637469766974795F646566696E6974696F6E5F6964223A2022612D37227D');
INSERT INTO "rejects" VALUES(2,'invalid','dropped','021fb596db81e6d02bf3d2586ee3981fe519f275c0ac9ca76bbcf2ebb4097d96',1,NULL,'[["document", "is not JSON: expecting property name enclosed in double quotes at column 2"]]','{}','rest',2,'2026-03-02T10:00:00.000Z','2026-03-02T10:00:00.000Z','2026-03-02T10:01:00.000Z',NULL,X'7B');
INSERT INTO "rejects" VALUES(3,'invalid','open','3e8f07e87212780430693b50bdeb464a3998ff7235b079030f4e039edc3545e6',14,NULL,'[["document", "is not valid UTF-8: the byte 0xff at byte 12 fits nowhere"]]','{}','rest',1,'2026-03-02T10:00:00.000Z','2026-03-02T10:00:00.000Z',NULL,NULL,X'7B227469746C65223A2022FF227D');
INSERT INTO "rejects" VALUES(4,'invalid','open','abababababababababababababababababababababababababababababababab',2000000,NULL,'[["document", "is 2,000,000 bytes long; 1,048,576 are allowed (max_document in the section [ingest] of the configuration)"]]','{"file": "big", "line": 1}','cli',1,'2026-03-02T10:00:00.000Z','2026-03-02T10:00:00.000Z',NULL,NULL,X'7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B');
INSERT INTO "rejects" VALUES(5,'conflict','replayed','f72de89ba2177d657f7319f671e8d06ccc6f69518525a6cbae0c3a90efabce49',162,'fc280eac-8c81-5da3-8623-8d78ebd3c937','[["title", "differs from what this event ID stands for already"], ["triggering_event_id", "looks like a second task of one event: give it an event ID of its own, derived from the event and what asks, such as uuid5(event, source_id); issue rejects replay --as-new does that with this one"]]','{}','cli',1,'2026-03-02T10:00:00.000Z','2026-03-02T10:00:00.000Z','2026-03-02T10:00:00.000Z','8d26fb6e-2df5-5947-9c19-e3eb1ac05f77',X'7B227469746C65223A202261207365636F6E64207461736B222C20227461726765745F7265706F223A202261636D652F776562222C2022736F757263655F74797065223A202272756C65222C2022736F757263655F6964223A202272756C652D30222C202274726967676572696E675F6576656E745F6964223A202266633238306561632D386338312D356461332D383632332D386437386562643363393337227D');
CREATE TABLE tallies (
        state       TEXT NOT NULL,
        backend     TEXT NOT NULL,
        target_repo TEXT NOT NULL,
        n           INTEGER NOT NULL,
        PRIMARY KEY (state, backend, target_repo)
    ) WITHOUT ROWID
    ;
INSERT INTO "tallies" VALUES('failed','','acme/web',1);
INSERT INTO "tallies" VALUES('failed','','notes',0);
INSERT INTO "tallies" VALUES('pending','','acme/web',4);
INSERT INTO "tallies" VALUES('pending','','notes',1);
INSERT INTO "tallies" VALUES('pending','work','acme/web',2);
INSERT INTO "tallies" VALUES('synced','','acme/web',0);
INSERT INTO "tallies" VALUES('synced','work','acme/web',2);
CREATE TABLE tasks (
        seq                    INTEGER PRIMARY KEY,
        event_id               TEXT NOT NULL UNIQUE,
        state                  TEXT NOT NULL,
        digest                 BLOB NOT NULL,
        title                  TEXT NOT NULL,
        target_repo            TEXT NOT NULL,
        priority               TEXT NOT NULL,
        labels                 TEXT NOT NULL,
        due_in_days            INTEGER,
        due_date               TEXT,
        source_type            TEXT NOT NULL,
        source_id              TEXT NOT NULL,
        activity_definition_id TEXT,
        transport              TEXT NOT NULL,
        transport_detail       TEXT,
        run                    TEXT NOT NULL,
        sightings              TEXT,
        created_at             TEXT NOT NULL,
        updated_at             TEXT,
        backend                TEXT,
        attempts               INTEGER NOT NULL DEFAULT 0,
        next_attempt_at        TEXT,
        in_doubt_since         TEXT,
        last_error             TEXT,
        remote_id              TEXT,
        remote_url             TEXT,
        remote_project         TEXT,
        synced_at              TEXT,
        extra                  TEXT,
        description            TEXT NOT NULL
    );
INSERT INTO "tasks" VALUES(1,'fc280eac-8c81-5da3-8623-8d78ebd3c937','synced',X'8F15858CD8321DBB8BA23D0748857AA2A4F18451057C3099BD0AC284B07C9555','Disk is nearly full','acme/web','medium','[]',NULL,NULL,'rule','rule-0',NULL,'cli',NULL,'recorded',NULL,'2026-03-01T09:00:00.000Z','2026-03-02T10:01:00.000Z','work',1,NULL,NULL,NULL,'41','https://git.example.org/acme/web/issues/41','acme/web','2026-03-02T10:01:00.000Z',NULL,'');
INSERT INTO "tasks" VALUES(2,'bf5dd1e0-2246-59aa-a13f-a7b7748cfdcc','failed',X'446E8892271789FACEB99AF2997BB69BEF37B3D254D109F58131C63A3DB0E058','Disk is nearly full','acme/web','high','["Ops","straße"]',9,'2026-03-10','rule','rule-1',NULL,'cli',NULL,'recorded','{"cli":1,"nats":1}','2026-03-01T09:00:00.000Z','2026-03-02T10:01:00.000Z',NULL,1,NULL,NULL,'422: title is too long',NULL,NULL,NULL,NULL,NULL,'# Why

«é» 😀
');
INSERT INTO "tasks" VALUES(3,'86bac0c7-49e9-567e-9a64-8da9e82b67a9','pending',X'D0841F96A3A5E6FAE36D1AFAF6C640E896BBE6D21045F1CBC785C8721432D831','Disk is nearly full','notes','medium','[]',NULL,NULL,'rule','rule-2','a-7','cli',NULL,'recorded',NULL,'2026-03-01T09:00:00.000Z','2026-03-02T10:01:00.000Z',NULL,0,NULL,NULL,'422: no',NULL,NULL,NULL,NULL,'{"team":{"on_call":[1,2.5,null,1180591620717411303424]}}','');
INSERT INTO "tasks" VALUES(4,'89349519-5bfd-58d9-bde2-d3ffad8e4616','pending',X'BE795DFBC5B44703BB0273EFB1C141906B987822AC164FFF5B511ED1A1C994BC','Disk is nearly full','acme/web','medium','[]',NULL,NULL,'rule','rule-0',NULL,'cli',NULL,'recorded',NULL,'2026-03-01T09:00:00.000Z',NULL,NULL,0,'2026-03-02T10:06:00.000Z',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'');
INSERT INTO "tasks" VALUES(5,'33a9f96f-5aac-5f77-a948-20ac89b6789c','synced',X'3BF8A9BFF01096DE99B770E4A33F71A44B22E672C149AF9CAEE15BB3D0031419','Disk is nearly full','acme/web','medium','[]',NULL,NULL,'rule','rule-1',NULL,'cli',NULL,'recorded',NULL,'2026-03-01T09:00:00.000Z','2026-03-02T10:01:00.000Z','work',1,NULL,NULL,NULL,'42','https://git.example.org/acme/web/issues/42','acme/web','2026-03-02T10:01:00.000Z',NULL,'');
INSERT INTO "tasks" VALUES(6,'a9a9b54e-1abb-52b2-b562-3dbcb3b3e9a8','pending',X'BA841037A4BB7AFC869FBBCFD478CD545E0798D12B3EC9DA9807576E3E07D695','Disk is nearly full','acme/web','medium','[]',NULL,NULL,'rule','rule-2',NULL,'cli',NULL,'recorded',NULL,'2026-03-01T09:00:00.000Z','2026-03-02T10:01:00.000Z','work',0,NULL,'2026-03-02T10:01:00.000Z','the connection broke',NULL,NULL,NULL,NULL,NULL,'');
INSERT INTO "tasks" VALUES(7,'6ee1f2c8-17e8-555e-91b5-34948ef3f69a','pending',X'E411236B26A46E0CC847A1EAD412078E26C78117D53A9411DEC5DE9587CABAB6','Disk is nearly full','acme/web','medium','[]',NULL,NULL,'rule','rule-0',NULL,'cli',NULL,'recorded',NULL,'2026-03-01T09:00:00.000Z','2026-03-02T10:01:00.000Z','work',0,NULL,'2026-03-02T10:01:00.000Z',NULL,NULL,NULL,NULL,NULL,NULL,'');
INSERT INTO "tasks" VALUES(8,'f4dc637a-d978-5f7c-b5d9-ac72b926a4b7','pending',X'7B5F0A83BDBB10FAD86665A286C1E31A0FC1C3796E21AB3AB131261F32F57AC9','Disk is nearly full','acme/web','medium','[]',NULL,NULL,'rule','rule-1',NULL,'cli',NULL,'recorded',NULL,'2026-03-01T09:00:00.000Z',NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'');
INSERT INTO "tasks" VALUES(9,'3cb722c0-81e7-5990-ba88-448f28663c76','pending',X'AF3F5693BC056591D8DB1BBA85624D6FEEDFE8E2A668A04D86BE59F88B1F4FAF','Disk is nearly full','acme/web','medium','[]',NULL,NULL,'rule','disk-watch',NULL,'nats','{"stream":"ACT_TASKS","sequence":7}','recorded',NULL,'2026-03-02T10:00:00.000Z',NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'');
INSERT INTO "tasks" VALUES(10,'8d26fb6e-2df5-5947-9c19-e3eb1ac05f77','pending',X'CF95DD3CA9BED9AC6A66BA37FF0619B003D11E8DFB170565D1FA5211C121022C','a second task','acme/web','medium','[]',NULL,NULL,'rule','rule-0',NULL,'cli',NULL,'recorded',NULL,'2026-03-02T10:00:00.000Z',NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX tasks_in_doubt ON tasks (backend, in_doubt_since) WHERE in_doubt_since IS NOT NULL;
CREATE INDEX rejects_by_state ON rejects (state);
CREATE INDEX attempts_of_task ON attempts (seq);
CREATE INDEX attempts_by_backend ON attempts (backend, started_at);
CREATE TRIGGER tally_moves AFTER UPDATE OF state, backend ON tasks
    WHEN old.state <> new.state OR old.backend IS NOT new.backend
    BEGIN
        UPDATE tallies SET n = n - 1
        WHERE state = old.state AND backend = coalesce(old.backend, '') AND target_repo = old.target_repo;
        INSERT INTO tallies VALUES (new.state, coalesce(new.backend, ''), new.target_repo, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
    END;
CREATE TRIGGER attempt_begun AFTER INSERT ON attempts
    BEGIN
        INSERT INTO attempt_counts VALUES (new.backend, '', 1) ON CONFLICT DO UPDATE SET n = n + 1;
    END;
CREATE TRIGGER attempt_ended AFTER UPDATE OF outcome ON attempts
    WHEN new.outcome IS NOT old.outcome AND new.outcome <> '' AND coalesce(old.outcome, 'unknown') = 'unknown'
    BEGIN
        INSERT INTO attempt_counts VALUES (new.backend, new.outcome, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    END;
CREATE TRIGGER history_is_kept BEFORE DELETE ON history
    BEGIN SELECT raise(ABORT, 'the history is append-only'); END;
CREATE TRIGGER history_is_not_rewritten BEFORE UPDATE ON history
    BEGIN SELECT raise(ABORT, 'the history is append-only'); END;
CREATE TRIGGER history_is_not_replaced BEFORE INSERT ON history
    WHEN EXISTS (SELECT 1 FROM history WHERE seq = new.seq AND n = new.n)
    BEGIN SELECT raise(ABORT, 'the history is append-only'); END;
COMMIT;
