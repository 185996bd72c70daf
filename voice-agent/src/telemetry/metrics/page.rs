//! The figures as Prometheus reads them: names, units, labels, help. No label ever names a room, a peer or a client: how
//! many there are of those is not bounded.

use super::Source;
use crate::{
    driver::Figures,
    kernel::{InterfaceStatus, KernelStatus, Totals},
    patrol::PatrolFigures,
    registry::{Registry, etcd},
    telemetry::counters,
};
use prometheus::{GaugeVec, IntCounterVec, Opts, TextEncoder, core::AtomicU64};
use serde::Serialize;
use std::{collections::BTreeMap, time::UNIX_EPOCH};
use voice_common::{
    Class, Direction, Verdict,
    abi::{MAX_FLOWS, MAX_SSRCS},
};
use voice_room::{
    config::Mode,
    patrol::{self, Place},
    timeline::{Hold, Rule},
};

pub(super) type Result<T> = std::result::Result<T, prometheus::Error>;

/// Label values and the value.
pub(super) type Sample<V> = (Vec<String>, V);

/// The page. Without `figures` (the driver did not answer) it has what needs no driver.
pub(super) fn page(figures: Option<&Figures>, source: &Source) -> Result<String> {
    let page = Page(prometheus::Registry::new_custom(
        Some("voice_agent".into()),
        None,
    )?);
    page.agent(source, figures.is_some())?;
    page.counters()?;
    if let Registry::Etcd(etcd) = &source.registry {
        page.registry(etcd)?;
    }
    if let Some(history) = &source.history {
        page.history(history.vitals())?;
    }
    if let Some(figures) = figures {
        page.rooms(figures)?;
        page.kernel(&figures.kernel)?;
        page.traffic(&figures.totals)?;
        page.patrol(&figures.patrol)?;
    }
    TextEncoder::new().encode_to_string(&page.0.gather())
}

pub(super) struct Page(pub(super) prometheus::Registry);

impl Page {
    fn agent(&self, source: &Source, answered: bool) -> Result<()> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let about = "Always 1; the label says which version runs.";
        self.gauge("build_info", about, &["version"], [(vec![version], 1)])?;
        let modes = [Mode::Enforce, Mode::Shadow, Mode::Off];
        let modes = modes.map(|mode| (vec![wire(&mode)], u64::from(mode == source.mode.get())));
        self.gauge("trip_mode", "1 for the trip.mode in force.", &["mode"], modes)?;
        let age = source.vitals.tick_age().as_secs_f64();
        self.seconds(
            "last_tick_age_seconds",
            "Since the driver's last tick; /livez fails above 5 s.",
            age,
        )?;
        let turn = source.vitals.longest_turn().as_secs_f64();
        let help = "The longest that the driver was busy at one go, in the last one to two minutes.";
        self.seconds("driver_longest_turn_seconds", help, turn)?;
        let up = "Whether the driver answered this scrape; without it, all that it knows is missing here.";
        self.gauge("driver_answered", up, &[], one(u64::from(answered)))?;
        let (queued, bound) = source.handle.queued();
        self.gauge(
            "driver_queue_messages",
            "Messages that wait for the driver.",
            &[],
            one(queued),
        )?;
        let max = "Messages that may wait for the driver; who sends more waits.";
        self.gauge("driver_queue_max_messages", max, &[], one(bound))?;
        if let Some(ends) = source.sessions.certificate_ends() {
            let ends = ends.duration_since(UNIX_EPOCH).unwrap_or_default();
            let help = "When the session listener's certificate ends, in seconds since 1970.";
            self.seconds("session_certificate_not_after_seconds", help, ends.as_secs_f64())?;
        }
        let roles = source
            .sessions
            .by_role()
            .map(|(role, n)| (vec![role.name().into()], n));
        self.gauge("sessions", "Connected peers.", &["role"], roles)?;
        self.0.register(Box::new(source.vitals.commits.clone()))?;
        self.0.register(Box::new(source.vitals.syncs.clone()))
    }

    /// Counters of failures and bad input, each by its own name, and what the core left out, by its code.
    fn counters(&self) -> Result<()> {
        for count in counters::snapshot() {
            let name = format!("{}_total", count.name);
            self.counter(&name, count.help, &[], one(count.value))?;
        }
        let notes = counters::notes();
        let notes = notes.into_iter().map(|(code, n)| (vec![code.to_owned()], n));
        let help = "What was left out or ignored on purpose; the log has the detail.";
        self.counter("notes_total", help, &["code"], notes)
    }

    /// Ownership by etcd. How often connections, leases and the watch were lost is among the counters.
    fn registry(&self, etcd: &etcd::Handle) -> Result<()> {
        let standing = etcd.standing();
        let held = "Rooms that this agent owns in etcd.";
        self.gauge("registry_rooms_held", held, &[], one(standing.held))?;
        let waiting = "Rooms asked for in etcd that are not owned yet; nothing of them is stored.";
        self.gauge("registry_claims_waiting", waiting, &[], one(standing.waiting))?;
        let follows = "1 while the watch of etcd is up to date.";
        self.gauge("registry_follows", follows, &[], one(u64::from(standing.follows)))?;
        let lease = etcd.authority().age_and_left();
        let holds = "1 while the lease gives authority, by this agent's own clock.";
        self.gauge("lease_held", holds, &[], one(u64::from(lease.is_some())))?;
        let (age, left) = lease.unwrap_or_default();
        let help = "Since the lease was granted; 0 without one.";
        self.seconds("lease_age_seconds", help, age.as_secs_f64())?;
        let help = "Until the lease gives no authority any more if it is not renewed; 0 without one.";
        self.seconds("lease_remaining_seconds", help, left.as_secs_f64())
    }

    fn rooms(&self, figures: &Figures) -> Result<()> {
        let states = figures
            .rooms
            .iter()
            .map(|(state, n)| (vec![state.name().into()], *n));
        self.gauge("rooms", "Rooms of this node.", &["state"], states)?;
        let isolations = "Rooms whose rejoins are refused.";
        self.gauge("isolations", isolations, &[], one(figures.isolations))?;
        let tally = &figures.tally;
        let trips = "Rooms cut, by the rule; `operator` is the command `block`.";
        self.counter("trips_total", trips, &["rule"], by_name(&Rule::ALL, &tally.trips))?;
        let would = "Rooms that shadow mode would have cut, by the rule.";
        self.counter(
            "would_trips_total",
            would,
            &["rule"],
            by_name(&Rule::ALL, &tally.would_trips),
        )?;
        let holds =
            "Times a stuck room was not cut. `contradiction` is the kernel's veto, `blast_cap` the cap.";
        self.counter("holds_total", holds, &["hold"], by_name(&Hold::ALL, &tally.holds))?;
        let answers = "1 when the store answered when last asked.";
        self.gauge(
            "store_answers",
            answers,
            &[],
            one(u64::from(figures.store_answers)),
        )?;
        let tiers = figures
            .tiers
            .iter()
            .map(|view| (vec![view.dependency.to_string()], view.tier as u64));
        let help = "How well what is depended on does: 0 Healthy, 1 Degraded, 2 Broken.";
        self.gauge("dependency_tier", help, &["dependency"], tiers)?;
        let blocks = "Verdicts in force in the kernel; `shadow` ones only count.";
        let armings = [
            ("enforced", figures.armings.enforced),
            ("shadow", figures.armings.shadow),
        ];
        let armings = armings.map(|(mode, n)| (vec![mode.to_owned()], n));
        self.gauge("blocks_in_force", blocks, &["mode"], armings)
    }

    /// What compares rooms with store, registry and kernel.
    fn patrol(&self, figures: &PatrolFigures) -> Result<()> {
        let of = |place: Place, other: &str| vec![place.name().to_owned(), other.to_owned()];
        let places = Place::ALL.iter();
        let differences = places.clone().flat_map(|place| {
            let count = |class: &patrol::Class| figures.differences.get(&(*place, *class)).copied();
            patrol::Class::ALL.map(|class| (of(*place, class.name()), count(&class).unwrap_or(0)))
        });
        let help =
            "Fields that differed in the last two rounds of patrol; `transient` ones end by themselves.";
        self.gauge("patrol_differences", help, &["place", "class"], differences)?;
        let repairs = places.clone().flat_map(|place| {
            let count = |done| figures.repairs.get(&(*place, done)).copied().unwrap_or(0);
            [(true, "done"), (false, "failed")].map(|(done, name)| (of(*place, name), count(done)))
        });
        let help = "Repairs of a room in a place, by rounds, heartbeats and commands.";
        self.counter("patrol_repairs_total", help, &["place", "result"], repairs)?;
        let last = figures.last.as_ref();
        let unknown = places.map(|place| {
            let unknown = last.is_some_and(|last| last.unknown.contains_key(place));
            (vec![place.name().to_owned()], u64::from(unknown))
        });
        let help = "1: the last round of patrol could not look there.";
        self.gauge("patrol_unknown", help, &["place"], unknown)?;
        let Some(last) = last else { return Ok(()) };
        let rooms = "Rooms that the last round of patrol compared.";
        self.gauge("patrol_rooms", rooms, &[], one(last.rooms))?;
        let age = figures.age.unwrap_or_default().as_secs_f64();
        self.seconds(
            "patrol_last_round_age_seconds",
            "Since the last round of patrol ended.",
            age,
        )?;
        let help = "How long the last round of patrol took.";
        self.seconds("patrol_last_round_seconds", help, last.took.as_secs_f64())?;
        let help = "The longest that the driver was busy with a slice of it.";
        self.seconds(
            "patrol_longest_slice_seconds",
            help,
            last.longest_slice.as_secs_f64(),
        )
    }

    /// How full the maps of shared ports are.
    fn shared(&self, kernel: &KernelStatus) -> Result<()> {
        let flows = "Flows bound to a room, on ports that rooms share.";
        self.gauge("kernel_flows_bound", flows, &[], one(kernel.flows_bound))?;
        self.gauge(
            "kernel_flows_max",
            "Flows that can be bound.",
            &[],
            one(MAX_FLOWS),
        )?;
        let ssrcs = "SSRCs bound to a room, on ports that rooms share.";
        self.gauge("kernel_ssrcs_bound", ssrcs, &[], one(kernel.ssrcs_bound))?;
        self.gauge(
            "kernel_ssrcs_max",
            "SSRCs that can be bound.",
            &[],
            one(MAX_SSRCS),
        )
    }

    fn kernel(&self, kernel: &KernelStatus) -> Result<()> {
        let passed = kernel.passed_by_reason.iter();
        let passed = passed.map(|(hook, reason, n)| (vec![hook.clone(), reason.clone()], *n));
        let help =
            "Packets that passed unjudged, as they are of no bound room. Counted since the agent started.";
        self.counter("passed_unjudged_packets_total", help, &["hook", "reason"], passed)?;
        self.gauge(
            "kernel_slots_used",
            "Rooms with a slot in the maps.",
            &[],
            one(kernel.slots_used),
        )?;
        let max = "Rooms that can have a slot: kernel.max_slots.";
        self.gauge("kernel_slots_max", max, &[], one(kernel.slots_max))?;
        self.gauge(
            "kernel_ports_bound",
            "Media ports bound to one room.",
            &[],
            one(kernel.ports_bound),
        )?;
        self.shared(kernel)?;
        let lost = "First-drop events the ring buffer had no room for. Counted since the agent started.";
        self.counter("kernel_lost_events_total", lost, &[], one(kernel.lost_events))?;
        let repairs = "Times the kernel side was not as it should be and was set right.";
        self.counter("kernel_repairs_total", repairs, &[], one(kernel.repairs))?;
        let switch = "1 while the kill switch is on: nothing is dropped, no room trips.";
        self.gauge("kill_switch", switch, &[], one(u64::from(kernel.kill_switch)))?;
        let attached = kernel.interfaces.iter().flat_map(attachments);
        let help =
            "Always 1; how each hook of each interface is attached. `failed` and `occupied`: not at all.";
        self.gauge(
            "interface_attach_info",
            help,
            &["interface", "hook", "mode"],
            attached,
        )
    }

    fn traffic(&self, totals: &Totals) -> Result<()> {
        let (mut packets, mut bytes) = (Vec::new(), Vec::new());
        for (direction, way) in [(Direction::Ingress, "in"), (Direction::Egress, "out")] {
            for class in Class::ALL {
                for verdict in Verdict::ALL {
                    let labels = vec![
                        way.to_owned(),
                        class_name(class).into(),
                        verdict_name(verdict).into(),
                    ];
                    let count = totals.0.get(direction, class, verdict);
                    packets.push((labels.clone(), count.packets));
                    bytes.push((labels, count.bytes));
                }
            }
        }
        let labels = ["direction", "class", "verdict"];
        let help = "Packets of bound rooms as of the last heartbeat; `would_drop` (shadow mode) passed.";
        self.counter("room_packets_total", help, &labels, packets)?;
        let help =
            "Bytes of the frames of bound rooms as of the last heartbeat; `would_drop` (shadow mode) passed.";
        self.counter("room_bytes_total", help, &labels, bytes)
    }

    pub(super) fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        samples: impl IntoIterator<Item = Sample<u64>>,
    ) -> Result<()> {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
        for (labels, value) in samples {
            counter.get_metric_with_label_values(&labels)?.inc_by(value);
        }
        self.0.register(Box::new(counter))
    }

    pub(super) fn gauge<V: TryInto<u64>>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        samples: impl IntoIterator<Item = Sample<V>>,
    ) -> Result<()> {
        let gauge = prometheus::core::GenericGaugeVec::<AtomicU64>::new(Opts::new(name, help), labels)?;
        for (labels, value) in samples {
            let value = value.try_into().unwrap_or(u64::MAX);
            gauge.get_metric_with_label_values(&labels)?.set(value);
        }
        self.0.register(Box::new(gauge))
    }

    fn seconds(&self, name: &str, help: &str, value: f64) -> Result<()> {
        let gauge = GaugeVec::new(Opts::new(name, help), &[])?;
        gauge.get_metric_with_label_values::<&str>(&[])?.set(value);
        self.0.register(Box::new(gauge))
    }
}

pub(super) fn one<V>(value: V) -> [Sample<V>; 1] {
    [(Vec::new(), value)]
}

/// Every kind, also those that did not happen yet: a first one could not be told from a new series.
fn by_name<K: Serialize + Ord>(kinds: &[K], counts: &BTreeMap<K, u64>) -> Vec<Sample<u64>> {
    let count = |kind| counts.get(kind).copied().unwrap_or_default();
    kinds.iter().map(|kind| (vec![wire(kind)], count(kind))).collect()
}

/// The wire name of a unit variant.
fn wire<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "unknown".into(),
    }
}

fn attachments(interface: &InterfaceStatus) -> [Sample<u64>; 3] {
    let hooks = [
        ("xdp", &interface.xdp),
        ("tc-ingress", &interface.tc_ingress),
        ("tc-egress", &interface.tc_egress),
    ];
    hooks.map(|(hook, how)| {
        (
            vec![interface.name.clone(), hook.into(), attach_mode(how).into()],
            1,
        )
    })
}

/// One of few words for what [`InterfaceStatus`] says at length.
fn attach_mode(how: &str) -> &'static str {
    match how {
        "native" => "native",
        "off" => "off",
        "tcx" => "tcx",
        "clsact" => "clsact",
        how if how.starts_with("on-trip") => "on_trip",
        how if how.starts_with("occupied") => "occupied",
        _ => "failed",
    }
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Rtp => "rtp",
        Class::Rtcp => "rtcp",
        Class::Other => "other",
    }
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Drop => "drop",
        Verdict::WouldDrop => "would_drop",
    }
}
