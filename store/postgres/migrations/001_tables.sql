-- The tables of a store. Names have no schema: the search_path says which one is meant.
--
-- Ids, endpoint names and keys compare by bytes (COLLATE "C"). A record column has, in the form
-- that all stores of this module share, what no other column has; the other columns are for people
-- and for indexes. Each table has the records of all namespaces.

CREATE TABLE migrations (
    version integer PRIMARY KEY,
    applied timestamptz NOT NULL DEFAULT now()
);

-- A namespace numbers its journal: a commit that appends lines takes their numbers last, and holds
-- the row until it is durable, so that lines become visible in the order of their numbers.
CREATE TABLE namespaces (
    name    text COLLATE "C" PRIMARY KEY,
    seq     bigint NOT NULL DEFAULT 0, -- number of the newest line that there ever was
    deleted bigint NOT NULL DEFAULT 0  -- highest number of a line that was deleted
) WITH (fillfactor = 20);

-- The server that may write a namespace. Each commit raises commits by one, if the epoch is still
-- that of its server.
CREATE TABLE leases (
    namespace text COLLATE "C" PRIMARY KEY,
    epoch     bigint NOT NULL,
    node      text NOT NULL,
    expires   timestamptz NOT NULL,
    commits   bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20);

CREATE TABLE firmware_images (
    namespace text COLLATE "C" NOT NULL,
    id        text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    version   text COLLATE "C" NOT NULL,
    size      bigint NOT NULL, -- bytes
    sha256    text COLLATE "C" NOT NULL,
    created   timestamptz,
    manufacturer text NOT NULL, -- of the devices that it is made for, as the next two; '' means any
    model     text NOT NULL,
    hardware  text NOT NULL,
    record    bytea NOT NULL,
    PRIMARY KEY (namespace, id)
);
CREATE UNIQUE INDEX firmware_images_version ON firmware_images (namespace, name, version);
CREATE INDEX firmware_images_sha256 ON firmware_images (namespace, sha256, id);

-- The bytes of images, in pieces.
CREATE TABLE firmware_blobs (
    namespace text COLLATE "C" NOT NULL,
    digest    text COLLATE "C" NOT NULL, -- SHA-256 in hex
    piece     integer NOT NULL,          -- from 0
    size      bigint NOT NULL,           -- of all pieces
    data      bytea NOT NULL,
    PRIMARY KEY (namespace, digest, piece)
);
ALTER TABLE firmware_blobs ALTER COLUMN data SET STORAGE EXTERNAL; -- packages do not compress

CREATE TABLE firmware_updates (
    namespace     text COLLATE "C" NOT NULL,
    id            text COLLATE "C" NOT NULL, -- sorts by time of creation
    endpoint      text COLLATE "C" NOT NULL,
    image         text COLLATE "C" NOT NULL, -- id of the image, which may have been deleted since
    version       text NOT NULL,             -- that the device is to run
    key           text COLLATE "C" NOT NULL, -- idempotency key of the request; '' if it had none
    labels        jsonb NOT NULL,
    state         text NOT NULL,             -- idle, downloading, downloaded, updating
    result        text NOT NULL,             -- default while the update is active
    outcome       text COLLATE "C",          -- succeeded, failed, rolled_back, cancelled, timed_out; null while active
    reason        text NOT NULL,             -- of the outcome
    phase         text NOT NULL,
    waiting_for   text NOT NULL,             -- '' if it has ended
    waiting_whose text NOT NULL,             -- whose time that is: device, operator, server
    waiting_until timestamptz,
    bytes         bigint NOT NULL,           -- that the device has received in this attempt
    size          bigint NOT NULL,           -- of the package
    attempt       integer NOT NULL,
    old_version   text NOT NULL,             -- that the device ran before
    later         text NOT NULL,             -- another version that the device showed after the end; '' if none
    created       timestamptz,
    changed       timestamptz,
    ended         timestamptz,               -- null while active
    since         bigint NOT NULL,           -- number of the journal's last line when it was created
    revision      bigint NOT NULL,           -- how often it was written
    lines         integer NOT NULL,          -- of its journal
    record        bytea NOT NULL,
    PRIMARY KEY (namespace, id),
    CHECK ((outcome IS NULL) = (ended IS NULL))
) WITH (fillfactor = 75);
-- An endpoint has at most one active update.
CREATE UNIQUE INDEX firmware_updates_one_active ON firmware_updates (namespace, endpoint) WHERE outcome IS NULL;
CREATE UNIQUE INDEX firmware_updates_key ON firmware_updates (namespace, key) WHERE key <> '';
CREATE INDEX firmware_updates_active ON firmware_updates (namespace, id) WHERE outcome IS NULL;
CREATE INDEX firmware_updates_active_image ON firmware_updates (namespace, image, id) WHERE outcome IS NULL;
CREATE INDEX firmware_updates_endpoint ON firmware_updates (namespace, endpoint, id);
CREATE INDEX firmware_updates_image ON firmware_updates (namespace, image, id);
CREATE INDEX firmware_updates_outcome ON firmware_updates (namespace, outcome, id) WHERE outcome IS NOT NULL;
CREATE INDEX firmware_updates_ended ON firmware_updates (namespace, outcome, ended, id) WHERE outcome IS NOT NULL;

-- The labels of updates, once more, for lists by label.
CREATE TABLE firmware_update_labels (
    namespace text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    value     text COLLATE "C" NOT NULL,
    update_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (namespace, name, value, update_id)
);

-- How many updates to an image have an outcome; '' stands for active ones.
CREATE TABLE firmware_update_counts (
    namespace text COLLATE "C" NOT NULL,
    image     text COLLATE "C" NOT NULL,
    outcome   text COLLATE "C" NOT NULL,
    updates   bigint NOT NULL,
    PRIMARY KEY (namespace, image, outcome)
) WITH (fillfactor = 20);

-- Idempotency keys of updates that were deleted, which stay taken for a while.
CREATE TABLE firmware_old_keys (
    namespace text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    update_id text COLLATE "C" NOT NULL,
    until     timestamptz NOT NULL,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX firmware_old_keys_until ON firmware_old_keys (namespace, until);

CREATE TABLE firmware_journal (
    namespace text COLLATE "C" NOT NULL,
    seq       bigint NOT NULL,
    update_id text COLLATE "C" NOT NULL,
    endpoint  text COLLATE "C" NOT NULL,
    time      timestamptz,
    event     text NOT NULL,
    detail    text NOT NULL,
    phase     text NOT NULL, -- of the update after the event, as the next three
    state     text NOT NULL,
    result    text NOT NULL,
    outcome   text NOT NULL,
    PRIMARY KEY (namespace, seq)
);
CREATE INDEX firmware_journal_update ON firmware_journal (namespace, update_id, seq);

CREATE TABLE devices (
    namespace    text COLLATE "C" NOT NULL,
    endpoint     text COLLATE "C" NOT NULL,
    labels       jsonb NOT NULL,
    address      text NOT NULL,    -- host:port
    transport    text NOT NULL,    -- coap, coaps, coap+tcp, coaps+tcp
    lwm2m        text NOT NULL,    -- version of LwM2M
    lifetime     interval NOT NULL,
    binding      text NOT NULL,
    queue        boolean NOT NULL, -- Queue Mode
    identity     text NOT NULL,    -- '' without security
    secured      boolean NOT NULL, -- has ever registered with credentials
    registered   timestamptz,      -- null if it never did
    updated      timestamptz,      -- of the last Register or Update
    last_seen    timestamptz,
    ended        timestamptz,      -- null while the registration is valid, and if there never was one
    manufacturer text COLLATE "C" NOT NULL, -- resource 3/0/0
    model        text COLLATE "C" NOT NULL, -- resource 3/0/1
    hardware     text COLLATE "C" NOT NULL, -- resource 3/0/18
    zone         text NOT NULL,             -- resource 3/0/15
    utc_offset   text NOT NULL,             -- resource 3/0/14
    version      text COLLATE "C" NOT NULL, -- of its firmware, resource 3/0/3
    state        text,                      -- resource 5/0/3; null if not known
    result       text,                      -- resource 5/0/5; null if not known
    read         timestamptz,               -- when the last three were read
    record       bytea NOT NULL,
    PRIMARY KEY (namespace, endpoint)
) WITH (fillfactor = 75);
CREATE INDEX devices_registered ON devices (namespace, endpoint) WHERE ended IS NULL;
CREATE INDEX devices_manufacturer ON devices (namespace, manufacturer, endpoint) WHERE manufacturer <> '';
CREATE INDEX devices_model ON devices (namespace, model, endpoint) WHERE model <> '';
CREATE INDEX devices_hardware ON devices (namespace, hardware, endpoint) WHERE hardware <> '';
CREATE INDEX devices_version ON devices (namespace, version, endpoint) WHERE version <> '';

-- The labels of devices, once more, for lists by label.
CREATE TABLE device_labels (
    namespace text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    value     text COLLATE "C" NOT NULL,
    endpoint  text COLLATE "C" NOT NULL,
    PRIMARY KEY (namespace, name, value, endpoint)
);

-- How many devices have a value of a fact: version, manufacturer, model, hardware, or the word
-- label with a space and the name of a label. The fact '' counts all devices, and, by the name of a
-- fact as its value, those that have any value of it.
CREATE TABLE device_counts (
    namespace text COLLATE "C" NOT NULL,
    fact      text COLLATE "C" NOT NULL,
    value     text COLLATE "C" NOT NULL,
    devices   bigint NOT NULL,
    PRIMARY KEY (namespace, fact, value)
) WITH (fillfactor = 50);

CREATE TABLE rollouts (
    namespace   text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL, -- sorts by time of creation
    name        text NOT NULL,
    image       text COLLATE "C" NOT NULL,
    state       text NOT NULL, -- draft, running, paused, stopping, ended
    reason      text NOT NULL, -- of the state
    stage       integer NOT NULL, -- the open one, from 1
    waiting     integer NOT NULL, -- members by state, as the next five
    active      integer NOT NULL,
    succeeded   integer NOT NULL,
    failed      integer NOT NULL,
    rolled_back integer NOT NULL,
    skipped     integer NOT NULL,
    created     timestamptz,
    changed     timestamptz,
    started     timestamptz,
    ended       timestamptz,
    revision    bigint NOT NULL,
    lines       bigint NOT NULL, -- number of its journal's last line
    record      bytea NOT NULL,
    PRIMARY KEY (namespace, id)
) WITH (fillfactor = 50);
CREATE INDEX rollouts_active ON rollouts (namespace, id) WHERE state <> 'ended';

CREATE TABLE rollout_members (
    namespace text COLLATE "C" NOT NULL,
    rollout   text COLLATE "C" NOT NULL,
    endpoint  text COLLATE "C" NOT NULL,
    state     text NOT NULL, -- waiting, active, succeeded, failed, rolled_back, skipped
    place     text NOT NULL, -- of an active one: starting, transferring, ready, installing
    skipped   text NOT NULL, -- why it was skipped
    stage     integer NOT NULL, -- that admitted or skipped it, from 1; 0 for none
    attempt   integer NOT NULL,
    update_id text COLLATE "C" NOT NULL, -- of the last update
    zone      text NOT NULL, -- of the device's clock
    cursor    text COLLATE "C" NOT NULL, -- state, place, stage, and an order that looks random
    record    bytea NOT NULL,
    PRIMARY KEY (namespace, rollout, endpoint)
) WITH (fillfactor = 75);
CREATE UNIQUE INDEX rollout_members_cursor ON rollout_members (namespace, rollout, cursor);
CREATE INDEX rollout_members_endpoint ON rollout_members (namespace, endpoint);

-- The waiting members that a stage names, in the order of their cursors.
CREATE TABLE rollout_named (
    namespace text COLLATE "C" NOT NULL,
    rollout   text COLLATE "C" NOT NULL,
    cursor    text COLLATE "C" NOT NULL, -- stage, and the order of the member's own cursor
    endpoint  text COLLATE "C" NOT NULL,
    PRIMARY KEY (namespace, rollout, cursor)
);
CREATE INDEX rollout_named_endpoint ON rollout_named (namespace, rollout, endpoint);

CREATE TABLE rollout_journal (
    namespace text COLLATE "C" NOT NULL,
    rollout   text COLLATE "C" NOT NULL,
    seq       bigint NOT NULL, -- from 1
    time      timestamptz,
    event     text NOT NULL,
    detail    text NOT NULL,
    actor     text NOT NULL, -- who ordered it; '' for the server
    endpoint  text COLLATE "C" NOT NULL, -- the member that the line is about; '' for the whole rollout
    PRIMARY KEY (namespace, rollout, seq)
);

INSERT INTO migrations (version) VALUES (1);
