//! The allocator of the whole program. With 10,000 rooms a start or a storm needs tens of MiB for a second; glibc's would keep
//! much of them for ever, in pages that are half empty.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Read by jemalloc as it starts, under this name. One arena, since few threads allocate at a time; what was freed goes back to the
/// system after half a second. By threads that allocate anyway: one of its own would begin before privileges are given up.
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static OPTIONS: &[u8; 46] = b"narenas:1,dirty_decay_ms:500,muzzy_decay_ms:0\0";
