//! One RTP packet as our senders make it: a real header (RFC 3550), then a mark and the time it was sent.

use voice_room::Mono;

/// The shortest packet: header, mark, time stamp.
pub const MIN_LEN: usize = 12 + 8 + 8;
const MARK: &[u8; 8] = b"vlab-rtp";
/// Version 2, no padding, no extension, no contributing sources.
const VERSION: u8 = 0x80;
/// Dynamic; what Janus gives Opus.
const PAYLOAD_TYPE: u8 = 111;
/// 20 ms of Opus at 48 kHz.
const TICKS: u32 = 960;

/// What identifies a packet in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Its stream.
    pub ssrc: u32,
    /// Its place in the stream; wraps.
    pub sequence: u16,
    /// Media time; wraps.
    pub timestamp: u32,
}

impl Packet {
    /// The first of a stream.
    pub fn first(ssrc: u32) -> Packet {
        Packet {
            ssrc,
            sequence: 0,
            timestamp: 0,
        }
    }

    /// The one after this.
    #[must_use]
    pub fn next(self) -> Packet {
        Packet {
            ssrc: self.ssrc,
            sequence: self.sequence.wrapping_add(1),
            timestamp: self.timestamp.wrapping_add(TICKS),
        }
    }

    /// As bytes, stamped with the time it is sent, padded with zeros to `len`.
    pub fn encode(&self, sent: Mono, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len.max(MIN_LEN));
        bytes.extend([VERSION, PAYLOAD_TYPE]);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(MARK);
        bytes.extend(sent.0.to_be_bytes());
        bytes.resize(len.max(MIN_LEN), 0);
        bytes
    }

    /// The packet and when it was sent; `None` when it is not one of ours.
    pub fn decode(bytes: &[u8]) -> Option<(Packet, Mono)> {
        let (header, rest) = bytes.split_first_chunk::<12>()?;
        let (mark, rest) = rest.split_first_chunk::<8>()?;
        let (sent, _) = rest.split_first_chunk::<8>()?;
        let [v, pt, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *header;
        if v != VERSION || pt != PAYLOAD_TYPE || mark != MARK {
            return None;
        }
        let packet = Packet {
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        };
        Some((packet, Mono(u64::from_be_bytes(*sent))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_survives_encoding_and_wraps_at_the_end_of_its_numbers() {
        let last = Packet {
            ssrc: 0xdead_beef,
            sequence: u16::MAX,
            timestamp: u32::MAX,
        };
        assert_eq!(
            Packet::decode(&last.encode(Mono(77), 160)),
            Some((last, Mono(77)))
        );
        assert_eq!(last.next().sequence, 0);
    }

    #[test]
    fn what_is_not_ours_is_not_decoded() {
        let bytes = Packet::first(1).encode(Mono(1), MIN_LEN);
        assert_eq!(Packet::decode(&bytes[..MIN_LEN - 1]), None);
        let mut rtcp = bytes.clone();
        rtcp[1] = 200;
        assert_eq!(Packet::decode(&rtcp), None);
    }
}
