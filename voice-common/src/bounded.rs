//! A number that has to be small, made so where the verifier sees it.

/// The bits of `value` that `MASK` has. The compiler often knows that they are all there, and would leave a plain `&` out or do it
/// before the last step. The verifier knows less: to Linux 6.12 and before a number whose bytes were swapped may be any, to 6.1 and
/// before the `|` of two numbers too. So this is an instruction that the compiler does not look into.
#[inline(always)]
pub fn bounded<const MASK: i32>(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value as u64;
        // SAFETY: changes its register, and nothing else.
        unsafe {
            core::arch::asm!("{0} &= {1}", inout(reg) value, const MASK, options(pure, nomem, nostack));
        }
        value as usize
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value & MASK as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bits_of_the_mask_are_left() {
        assert_eq!(bounded::<0x3fff>(0xffff_ffff), 0x3fff);
        assert_eq!(bounded::<0xffff>(50_000), 50_000);
    }
}
