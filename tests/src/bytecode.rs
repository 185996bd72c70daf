//! Programs written as bytecode: those that only tests need, too small for a compiler. Loaded and run by bare system calls.

use anyhow::{Context, bail};
use std::{
    io::Error,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// XDP's answers.
pub const XDP_PASS: i32 = 2;
/// Back out of the interface it came in by.
pub const XDP_TX: i32 = 3;
/// TC's "no verdict of mine".
pub const TC_ACT_UNSPEC: i32 = -1;

/// What a program is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// `BPF_PROG_TYPE_SCHED_CLS`
    Tc = 3,
    /// `BPF_PROG_TYPE_XDP`
    Xdp = 6,
}

/// A loaded program; gone on drop.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// `bpf_attr` of BPF_PROG_LOAD, as far as it is used (linux/bpf.h).
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// `bpf_attr` of BPF_PROG_TEST_RUN (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

/// `xdp_md` (linux/bpf.h).
#[repr(C)]
struct XdpMd {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// One instruction.
pub const fn insn(op: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    op as u64
        | ((dst | (src << 4)) as u64) << 8
        | (off.cast_unsigned() as u64) << 16
        | (imm.cast_unsigned() as u64) << 32
}

/// `r0 = answer; exit`.
pub const fn answer(answer: i32) -> [u64; 2] {
    [insn(0xb7, 0, 0, 0, answer), insn(0x95, 0, 0, 0, 0)]
}

impl Program {
    /// Loads it. `name`: at most 15 characters, as the kernel shows it. Needs root.
    pub fn load(kind: Kind, name: &str, code: &[u64]) -> anyhow::Result<Program> {
        let mut prog_name = [0; 16];
        for (to, from) in prog_name.iter_mut().zip(name.bytes().take(15)) {
            *to = from;
        }
        let mut attr = Load {
            prog_type: kind as u32,
            insn_cnt: u32::try_from(code.len())?,
            insns: code.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
            prog_name,
        };
        let fd =
            bpf(BPF_PROG_LOAD, &mut attr).with_context(|| format!("load the program {name} (needs root)"))?;
        // SAFETY: the kernel made this descriptor for us just now.
        Ok(Program(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs a program `repeat` times over one frame that goes nowhere (BPF_PROG_TEST_RUN). Its last answer.
pub fn run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> anyhow::Result<u32> {
    let mut attr = over(program, frame, repeat)?;
    bpf(BPF_PROG_TEST_RUN, &mut attr).context("run a program over a frame")?;
    Ok(attr.retval)
}

/// Runs an XDP program over `repeat` frames that live on after it, `batch` at a time, as if each had come in by the
/// interface of this index in the caller's namespace: XDP_TX sends them out there.
pub fn send(
    program: BorrowedFd<'_>,
    frame: &[u8],
    ifindex: u32,
    repeat: u32,
    batch: u32,
) -> anyhow::Result<()> {
    let ctx = XdpMd {
        data: 0,
        data_end: u32::try_from(frame.len())?,
        data_meta: 0,
        ingress_ifindex: ifindex,
        rx_queue_index: 0,
        egress_ifindex: 0,
    };
    let mut attr = TestRun {
        ctx_in: std::ptr::from_ref(&ctx) as u64,
        ctx_size_in: u32::try_from(size_of::<XdpMd>())?,
        flags: BPF_F_TEST_XDP_LIVE_FRAMES,
        batch_size: batch,
        ..over(program, frame, repeat)?
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr)
        .map(drop)
        .context("send live frames (needs Linux 5.18)")
}

fn over(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> anyhow::Result<TestRun> {
    Ok(TestRun {
        prog_fd: u32::try_from(program.as_raw_fd())?,
        data_size_in: u32::try_from(frame.len())?,
        data_in: frame.as_ptr() as u64,
        repeat,
        ..TestRun::default()
    })
}

/// The bpf system call. Its answer, which is a descriptor for the commands that make one.
pub(crate) fn bpf<T>(command: libc::c_int, attr: &mut T) -> anyhow::Result<i32> {
    let attr = std::ptr::from_mut(attr);
    // SAFETY: `attr` is a prefix of the command's bpf_attr, passed with its size; what it points to outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    if answer < 0 {
        bail!("bpf({command}): {}", Error::last_os_error());
    }
    Ok(i32::try_from(answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, RTP};

    #[test]
    fn an_instruction_has_its_parts_where_the_kernel_reads_them() {
        assert_eq!(insn(0x61, 7, 1, 4, 0), 0x0004_1761);
        assert_eq!(insn(0xb7, 0, 0, 0, -1), 0xffff_ffff_0000_00b7);
        assert_eq!(insn(0x05, 0, 0, -1, 0), 0xffff_0005);
    }

    #[test]
    fn a_program_of_either_kind_gives_its_answer() {
        let frame = Frame::plain4(1, 2, RTP).padded();
        for (kind, said) in [(Kind::Xdp, XDP_PASS), (Kind::Tc, TC_ACT_UNSPEC)] {
            let program = Program::load(kind, "test", &answer(said)).unwrap();
            assert_eq!(
                run(program.as_fd(), &frame.bytes, 3).unwrap(),
                said.cast_unsigned()
            );
        }
    }
}
