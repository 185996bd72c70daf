//! Numbers of one to ten bytes (LEB128), small ones short; signed ones zigzag.

use super::Malformed;

/// Appends a number.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// How many bytes [`put`] takes.
pub(crate) fn len(value: u64) -> u32 {
    (64 - (value | 1).leading_zeros()).div_ceil(7)
}

/// Takes a number from the front.
pub(crate) fn take(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Malformed("a number is cut short"))?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            break;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed("a number has more than 64 bits"))
}

/// Takes a signed number from the front.
pub(crate) fn take_signed(bytes: &mut &[u8]) -> Result<i64, Malformed> {
    let zigzag = take(bytes)?;
    Ok((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()))
}

/// Appends bytes with their length before them.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes bytes with their length before them.
pub(crate) fn take_bytes<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], Malformed> {
    let len =
        usize::try_from(take(bytes)?).map_err(|_| Malformed("a length has more than the system's bits"))?;
    let (taken, rest) = bytes
        .split_at_checked(len)
        .ok_or(Malformed("a text is cut short"))?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_comes_back_and_takes_the_bytes_it_was_said_to(value: u64, signed: i64, text: Vec<u8>) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value) as usize);
            put_signed(&mut out, signed);
            put_bytes(&mut out, &text);
            let mut rest = out.as_slice();
            prop_assert_eq!(take(&mut rest), Ok(value));
            prop_assert_eq!(take_signed(&mut rest), Ok(signed));
            prop_assert_eq!(take_bytes(&mut rest), Ok(text.as_slice()));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_a_number_or_an_error(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            while take(&mut rest).is_ok() {}
            prop_assert!(take_bytes(&mut bytes.as_slice()).map_or(true, |t| t.len() < bytes.len()));
        }
    }
}
