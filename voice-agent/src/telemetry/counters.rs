//! Counters of bad input and failures, one for each kind, for the whole process. No labels: what is counted by room
//! belongs into the timeline. Add a line to the table to add a counter.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

macro_rules! counters {
    ($($variant:ident, $name:literal, $help:literal;)*) => {
        /// Something worth counting.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter {
            $(#[doc = $help] $variant,)*
        }

        impl Counter {
            /// Every counter, in the order of the table.
            pub const ALL: &[Counter] = &[$(Counter::$variant,)*];

            /// Its name, in snake case.
            pub fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name,)* }
            }

            /// What it counts, for a person.
            pub fn help(self) -> &'static str {
                match self { $(Counter::$variant => $help,)* }
            }

            fn cell(self) -> &'static AtomicU64 {
                match self {
                    $(Counter::$variant => {
                        static CELL: AtomicU64 = AtomicU64::new(0);
                        &CELL
                    })*
                }
            }
        }
    };
}

counters! {
    StoreForeign, "store_foreign", "Stored values that are not ours or are damaged; they were left as they are.";
    StoreFailed, "store_failed", "Requests to the store that failed, timed out or found its queue full.";
    StoreLostRecords, "store_lost_records", "Records of live rooms that the shared store did not hold any more; their owner puts them back.";
    StoreRetried, "store_retried", "Changes sent to Redis again by the same op_id, because no answer came or it was not able to.";
    StoreConnected, "store_connected", "Connections made to Redis, or to a Redis Cluster.";
    EventsCut, "events_cut", "Times a reader of events found that some it had not read were cut off: too old, or too many. It was told so.";
    StoreReopened, "store_reopened", "Times the store was opened anew after its disk had failed.";
    StoreCutShort, "store_cut_short", "Times the store was opened and the end of its journal could not be read back: an interrupted write, or damage.";
    StoreSetAside, "store_set_aside", "Times the store was damaged at a start: it was kept under another name, and a new one begun.";
    JournalForeign, "journal_foreign", "Journalled values that are not ours or are damaged; they were left as they are.";
    JournalFailed, "journal_failed", "Requests to the journal that failed, timed out or found its queue full.";
    JournalReopened, "journal_reopened", "Times the journal was opened anew after its disk had failed.";
    JournalCutShort, "journal_cut_short", "Times the journal was opened and its end could not be read back: an interrupted write, or damage.";
    JournalSetAside, "journal_set_aside", "Times the journal was damaged at a start: it was kept under another name, and a new one begun.";
    LeaseRenewalFailed, "lease_renewal_failed", "Renewals of the lease in etcd that were late, refused, or lost with their stream; each is tried another way.";
    LeaseReplaced, "lease_replaced", "Leases in etcd that were over: gone there, or not renewed in time by our clock. A new one was asked for, and every room claimed anew.";
    RegistryClaimed, "registry_claimed", "Rooms claimed in etcd.";
    RegistryTaken, "registry_taken", "Claims that found the room to be another agent's; it was ceded.";
    RegistryOvertaken, "registry_overtaken", "Held rooms whose key in etcd was taken by another agent or deleted.";
    RegistryConflict, "registry_conflict", "Metadata writes to etcd that found another revision than they knew.";
    RegistryForeign, "registry_foreign", "Values in etcd that are not ours or are damaged; they were left as they are.";
    RegistryFailed, "registry_failed", "Transactions with etcd that failed or were not answered in time; they are tried again.";
    RegistryConnected, "registry_connected", "Connections made to members of etcd, by whom they were logged in to if a user is configured.";
    RegistryDenied, "registry_denied", "Requests that etcd refused because of the user, the password, a right, or a token that ran out; with a new connection comes a new token.";
    RegistryBarred, "registry_barred", "Times no room could be claimed: another agent has this node's name or a higher registry.etcd.era, or etcd's revisions went back.";
    RegistryWatchBroke, "registry_watch_broke", "Times the watch of the registry broke off.";
    RegistryListed, "registry_listed", "Times the whole registry was listed: at start, and when a watch could not go on where it broke off.";
    RegistryWentBack, "registry_went_back", "Times etcd's revision was below one seen before: it was restored from a backup.";
    RegistryCustody, "registry_custody", "Rooms of a lost agent that this one became custodian of.";
    RegistryTooLarge, "registry_too_large", "Times the registry had more keys or lost rooms than are kept.";
    HistoryTicksDropped, "history_ticks_dropped", "Snapshots of all rooms that were not kept: the disk was too slow, short or failing.";
    HistorySetAside, "history_set_aside", "Times the history was damaged at a start: it was kept under another name, and a new one begun.";
    HistoryChangesLost, "history_changes_lost", "Changes of state that the history does not have because too many waited for its disk.";
    SpansSent, "spans_sent", "Spans that the OTLP receiver took.";
    SpansDropped, "spans_dropped", "Spans left out because too many waited, or because the OTLP receiver was away, slow or refused them.";
    ConfigReloaded, "config_reloaded", "Times the configuration was read again and taken.";
    ConfigRefused, "config_refused", "Times the configuration was read again and had a mistake; nothing was changed.";
    AuditFailed, "audit_failed", "Writes to the audit log that failed; they are tried again.";
    AuditDropped, "audit_dropped", "Lines left out of the audit log because too many waited for its disk.";
    SessionMalformed, "session_malformed", "Calls and messages of peers that could not be understood: metadata, ids, ports, lengths, missing parts.";
    SessionNotAllowed, "session_not_allowed", "Messages that the role of their peer does not allow.";
    SessionRefused, "session_refused", "Requests of peers that were refused by the rules of a room or by a limit.";
    SessionTooManyPeers, "session_too_many_peers", "Streams refused because session.max_peers peers were connected.";
    SessionTooManyAtOnce, "session_too_many_at_once", "Streams refused because more began than session.admit_per_second; each was told when to come again.";
    SessionTooManyStreams, "session_too_many_streams", "Streams refused because 16 of their peer id were open.";
    SessionTooFast, "session_too_fast", "Messages refused because their peer sent more than session.events_per_second.";
    SessionTooManyConnections, "session_too_many_connections", "TCP connections to the session service closed because too many were open.";
    SessionTlsRefused, "session_tls_refused", "TLS handshakes of peers that failed: no certificate, one that is foreign or over, no TLS at all, or too slow.";
    SessionIdentity, "session_identity", "Calls refused because the certificate is for another peer or role, or names none.";
    SessionTlsFiles, "session_tls_files", "Looks at the files of session.tls_cert, tls_key and tls_client_ca that found something that cannot be used; those read before stay in force.";
    SessionNotHttp2, "session_not_http2", "TCP connections to the session service closed because they did not begin as HTTP/2 does.";
    SessionSlowReaders, "session_slow_readers", "Streams ended because their peer did not read what was sent.";
    SessionSilentPeers, "session_silent_peers", "Streams ended because two pings in a row were not answered.";
    SessionReplaced, "session_replaced", "Streams replaced by a new one of the same peer id.";
    SessionStrayAcks, "session_stray_acks", "Acknowledgements of a STATE_EXPIRED that is not pending: repeats, or withdrawn meanwhile.";
    SessionStrayVotes, "session_stray_votes", "Answers to PREPARE that no question of this stream waits for: late, repeated or made up.";
    SyncPrepares, "sync_prepares", "Changes that peers were asked to agree to.";
    SyncAgreed, "sync_agreed", "Peers that agreed to a change.";
    SyncRefused, "sync_refused", "Peers that refused a change.";
    SyncSilent, "sync_silent", "Peers that did not answer within rooms.prepare_within.";
    SyncCommitted, "sync_committed", "Changes that all agreed to and the store took.";
    SyncRolledBack, "sync_rolled_back", "Changes that were asked about and not made, or of which that is not known.";
    SyncNoted, "sync_noted", "Peers that took note of a COMMIT in time.";
    SessionNotNow, "session_not_now", "Streams of peers that were not here lately, refused because Redis or etcd was Broken; each was told when to come again.";
    DependencyDegraded, "dependency_degraded", "Times Redis, etcd or the media servers became Degraded; the log says which.";
    DependencyBroken, "dependency_broken", "Times Redis, etcd or the media servers became Broken; the log says which.";
    SessionNotKept, "session_not_kept", "STATE_EXPIRED that could not be kept for reconnects because too many are.";
    TokenNoKeys, "token_no_keys", "Host tokens refused because tokens.keys is empty.";
    TokenNotGiven, "token_not_given", "Starts and returns of hosts refused because no token was given.";
    TokenMalformed, "token_malformed", "Host tokens that are no JWT.";
    TokenAlgorithm, "token_algorithm", "Host tokens whose algorithm is not that of their key, `none` among them.";
    TokenUnknownKey, "token_unknown_key", "Host tokens whose kid is not configured.";
    TokenSignature, "token_signature", "Host tokens with a wrong signature.";
    TokenClaims, "token_claims", "Host tokens with a claim that is missing or of the wrong kind.";
    TokenExpired, "token_expired", "Host tokens that had expired.";
    TokenNotYet, "token_not_yet", "Host tokens whose nbf or iat lies ahead.";
    TokenWrongRoom, "token_wrong_room", "Host tokens for another room than the one asked for.";
    TokenIssuerOrAudience, "token_issuer_or_audience", "Host tokens of another issuer, or for another audience.";
    JanusBadRequests, "janus_bad_requests", "Event requests that were not JSON objects with the fields they need, or too large; answered with an error.";
    JanusEventsDropped, "janus_events_dropped", "Events dropped because the queue was full; a listing repairs what they said.";
    JanusConnectionsFailed, "janus_connections_failed", "Connections to the event listener that ended with an error.";
    JanusInvalidIds, "janus_invalid_ids", "Room or participant ids that are not valid here; the participant is left out.";
    JanusPortsOutside, "janus_ports_outside", "Media ports outside the configured range; not bound.";
    JanusAdminFailed, "janus_admin_failed", "Questions to the admin socket that got no answer or a wrong one.";
    JanusStrayAnswers, "janus_stray_answers", "Answers of another transaction than the one asked for; dropped.";
    JanusListingsFailed, "janus_listings_failed", "Listings that failed: no heartbeat was sent.";
    LivekitBadTokens, "livekit_bad_tokens", "Webhooks without a token that holds: none, a wrong signature or key, expired; answered 401.";
    LivekitBadHashes, "livekit_bad_hashes", "Webhooks whose body is not the one that was signed; answered 401.";
    LivekitBadRequests, "livekit_bad_requests", "Webhooks that were not posted JSON objects with the fields they need, or too large; answered with an error.";
    LivekitEventsDropped, "livekit_events_dropped", "Webhooks dropped because the queue was full; a listing repairs what they said.";
    LivekitConnectionsFailed, "livekit_connections_failed", "Connections to the webhook listener that ended with an error.";
    LivekitInvalidIds, "livekit_invalid_ids", "LiveKit's room names or identities that are not valid here; the room or participant is left out.";
    LivekitApiFailed, "livekit_api_failed", "Questions to LiveKit's server API that got no answer or a wrong one.";
    LivekitListingsFailed, "livekit_listings_failed", "Listings of LiveKit that failed: no heartbeat was sent.";
    JanusRoomListsFailed, "janus_room_lists_failed", "Listings without the plugin's list of rooms; empty rooms are unknown then.";
}

/// One counter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Count {
    /// Its name.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Since the process started.
    pub value: u64,
}

impl Counter {
    /// Counts so many.
    pub fn add(self, n: usize) {
        let n = u64::try_from(n).unwrap_or(u64::MAX);
        self.cell().fetch_add(n, Ordering::Relaxed);
    }

    /// Counts one.
    pub fn count(self) {
        self.cell().fetch_add(1, Ordering::Relaxed);
    }

    /// Its value since the process started.
    pub fn value(self) -> u64 {
        self.cell().load(Ordering::Relaxed)
    }
}

/// What the core left out or refused on purpose, by its code.
static NOTES: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Counts one of `code`, a stable name out of the code itself.
pub fn note(code: &'static str) {
    *NOTES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(code)
        .or_default() += 1;
}

/// Every code noted so far.
pub fn notes() -> Vec<(&'static str, u64)> {
    let notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    notes.iter().map(|(code, n)| (*code, *n)).collect()
}

/// Every counter now.
pub fn snapshot() -> Vec<Count> {
    let count = |counter: &Counter| Count {
        name: counter.name(),
        help: counter.help(),
        value: counter.value(),
    };
    let log = Count {
        name: "log_lines_lost",
        help: "Lines left out of the log because nobody read standard error.",
        value: super::logs::lost_lines(),
    };
    Counter::ALL.iter().map(count).chain([log]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_counter_has_a_name_and_a_value_of_its_own() {
        let names: BTreeSet<&str> = snapshot().iter().map(|c| c.name).collect();
        assert_eq!(names.len(), snapshot().len());
        let before = (Counter::StoreForeign.value(), Counter::JournalReopened.value());
        Counter::JournalReopened.count();
        assert!(Counter::JournalReopened.value() > before.1);
        let shown = snapshot();
        let shown = shown.iter().find(|c| c.name == "journal_reopened").unwrap();
        assert!(shown.value > before.1 && shown.help.ends_with('.'));
    }
}
