//! Builds Ethernet frames byte by byte, for the packet tables: VLAN tags, IPv4 options, IPv6 extension headers,
//! fragments.

/// A frame in the making, outermost header first.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// The bytes so far.
    pub bytes: Vec<u8>,
}

/// A version 2 RTP header with payload type 111.
pub const RTP: &[u8] = &[0x80, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7];
/// An RTCP sender report's first bytes.
pub const RTCP: &[u8] = &[0x80, 200, 0, 6, 0, 0, 0, 7];
/// A STUN binding request's first bytes.
pub const STUN: &[u8] = &[0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42];

/// Where the ethertype of a frame without tags stands.
const ETHERTYPE_AT: usize = 12;

/// One IPv6 extension header.
#[derive(Debug, Clone, Copy)]
pub struct Extension {
    /// Its own protocol number.
    pub number: u8,
    /// The value of its length byte.
    pub length: u8,
    /// Its fragment offset and flags; only the fragment header has one.
    pub fragment: u16,
}

impl Extension {
    /// One without a fragment field.
    pub fn new(number: u8, length: u8) -> Self {
        Extension {
            number,
            length,
            fragment: 0,
        }
    }

    /// A fragment header.
    pub fn fragment(offset_and_flags: u16) -> Self {
        Extension {
            number: 44,
            length: 0,
            fragment: offset_and_flags,
        }
    }

    fn size(self) -> usize {
        match self.number {
            44 => 8,
            51 => (usize::from(self.length) + 2) * 4,
            _ => (usize::from(self.length) + 1) * 8,
        }
    }
}

impl Frame {
    /// An Ethernet header.
    pub fn ethernet(ethertype: u16) -> Self {
        let mut bytes = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
        bytes.extend(ethertype.to_be_bytes());
        Frame { bytes }
    }

    /// A frame with these VLAN tags (by their ethertypes) in front of `ethertype`.
    pub fn tagged(tags: &[u16], ethertype: u16) -> Self {
        let mut types = tags.to_vec();
        types.push(ethertype);
        let mut frame = Frame::ethernet(types[0]);
        for next in &types[1..] {
            frame.bytes.extend([0, 42]);
            frame.bytes.extend(next.to_be_bytes());
        }
        frame
    }

    /// An IPv4 header with `options` words of options.
    pub fn ipv4(mut self, protocol: u8, options: u8, fragment: u16) -> Self {
        let words = 5 + options;
        self.bytes.extend([0x40 | words, 0, 0, 0, 0, 7]);
        self.bytes.extend(fragment.to_be_bytes());
        self.bytes.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        self.bytes.extend(vec![1; usize::from(options) * 4]);
        self
    }

    /// An IPv6 header and its extension headers, the last one leading to `protocol`.
    pub fn ipv6(mut self, extensions: &[Extension], protocol: u8) -> Self {
        let mut numbers: Vec<u8> = extensions.iter().map(|e| e.number).collect();
        numbers.push(protocol);
        self.bytes.extend([0x60, 0, 0, 0, 0, 0, numbers[0], 64]);
        self.bytes.extend([0xfd; 32]);
        for (extension, next) in extensions.iter().zip(&numbers[1..]) {
            let start = self.bytes.len();
            self.bytes.extend([*next, extension.length]);
            self.bytes.extend(extension.fragment.to_be_bytes());
            self.bytes.resize(start + extension.size(), 0);
        }
        self
    }

    /// A UDP header and its payload.
    pub fn udp(mut self, src: u16, dst: u16, payload: &[u8]) -> Self {
        let len = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
        for word in [src, dst, len, 0] {
            self.bytes.extend(word.to_be_bytes());
        }
        self.bytes.extend(payload);
        self
    }

    /// Plain IPv4 UDP.
    pub fn plain4(src: u16, dst: u16, payload: &[u8]) -> Self {
        Frame::ethernet(0x0800).ipv4(17, 0, 0).udp(src, dst, payload)
    }

    /// Plain IPv6 UDP.
    pub fn plain6(src: u16, dst: u16, payload: &[u8]) -> Self {
        Frame::ethernet(0x86dd).ipv6(&[], 17).udp(src, dst, payload)
    }

    /// Zeros up to the shortest frame that Ethernet carries.
    pub fn padded(mut self) -> Self {
        self.bytes.resize(self.bytes.len().max(60), 0);
        self
    }

    /// The frame with another ethertype.
    pub fn with_ethertype(mut self, ethertype: u16) -> Self {
        self.bytes[ETHERTYPE_AT..ETHERTYPE_AT + 2].copy_from_slice(&ethertype.to_be_bytes());
        self
    }
}
