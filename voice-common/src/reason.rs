//! Why a packet passed without being looked up to its end. Each has a counter per hook.

/// Why a packet is no packet of a bound room. It passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// It would have been dropped (or counted as such), but the kill switch is on.
    KillSwitch = 0,
    /// The frame ends inside a header.
    Truncated = 1,
    /// Neither IPv4 nor IPv6, also after two VLAN tags.
    NotIp = 2,
    /// An IP header that contradicts itself: wrong version, or an IPv4 header length below 20.
    BadIp = 3,
    /// A fragment that is not the first: it carries no ports, and is useless without the first.
    LaterFragment = 4,
    /// More than six IPv6 extension headers.
    TooManyExtensions = 5,
    /// Another protocol than UDP.
    NotUdp = 6,
    /// The local port is outside the media range.
    OutOfRange = 7,
    /// No room has this port.
    Unbound = 8,
    /// The port names a slot that does not exist. Userspace never writes one; a repair is due.
    NoSlot = 9,
    /// The port is shared, and neither the flow nor the SSRC is known to be of one room.
    MuxUnknown = 10,
    /// The port is shared, and the flow or SSRC is that of an earlier use of its slot. A repair is due.
    MuxStale = 11,
}

impl Reason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Reason; 12] = [
        Reason::KillSwitch,
        Reason::Truncated,
        Reason::NotIp,
        Reason::BadIp,
        Reason::LaterFragment,
        Reason::TooManyExtensions,
        Reason::NotUdp,
        Reason::OutOfRange,
        Reason::Unbound,
        Reason::NoSlot,
        Reason::MuxUnknown,
        Reason::MuxStale,
    ];

    /// A stable name for metrics and programs.
    pub fn name(self) -> &'static str {
        match self {
            Reason::KillSwitch => "kill_switch",
            Reason::Truncated => "truncated",
            Reason::NotIp => "not_ip",
            Reason::BadIp => "bad_ip",
            Reason::LaterFragment => "later_fragment",
            Reason::TooManyExtensions => "too_many_extensions",
            Reason::NotUdp => "not_udp",
            Reason::OutOfRange => "out_of_range",
            Reason::Unbound => "unbound",
            Reason::NoSlot => "no_slot",
            Reason::MuxUnknown => "mux_unknown",
            Reason::MuxStale => "mux_stale",
        }
    }
}
